package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// help writes about a topic, or, without one, about all there is.
func help(args []string, w io.Writer) error {
	topic := strings.Join(args, " ")
	switch topic {
	case "":
		helpAll(w)
		return nil
	case "all":
		for i, c := range commands {
			if c.flags != nil {
				if i > 0 {
					fmt.Fprintln(w)
				}
				helpCommand(w, c, c.flagSet(), true)
			}
		}
		return nil
	case "config":
		fmt.Fprint(w, "The properties of ", cluster.DefaultPath, ": default, allowed values, meaning. A property\n",
			"that the file leaves out keeps its default. The flag for a property of the server\n",
			"or the workload is named as the last part of its path, and overrides the file.\n\n")
		cluster.WriteHelp(w, workload.Rules())
		return nil
	case "statistics":
		io.WriteString(w, statistics)
		return nil
	}
	for _, c := range commands {
		if c.name == topic && c.flags != nil {
			helpCommand(w, c, c.flagSet(), false)
			return nil
		}
	}
	return usageErrorf("there is no help on %q: help, help all, config or statistics, or help and a command", topic)
}

func helpAll(w io.Writer) {
	fmt.Fprint(w, "bench measures the servers of Lockstep.\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-25s %s\n", strings.Join(strings.Fields("bench "+c.name+" "+c.args), " "), c.does)
	}
	fmt.Fprint(w, "\nEach takes -h for its flags.\n\n",
		"Exit codes (of the built program; go run turns each but 0 into 1): 0 ok,\n",
		"1 failure, 2 usage, 3 wrong data, 5 invalid measurement, 130 interrupted.\n")
}

// flagSet is the flags of a command, with their defaults.
func (c command) flagSet() *flag.FlagSet {
	o := &options{cfg: cluster.Default()}
	return o.flagSet(c)
}

// usual are the flags that a first evening needs.
var usual = []string{"config", "stages", "nodes", "c", "duration", "ops", "rounds", "quick", "rate",
	"mix", "workload", "batch", "work", "sweep", "against", "o", "html"}

// helpCommand writes how a command is used, and its flags: the usual ones, or all.
func helpCommand(w io.Writer, c command, fs *flag.FlagSet, all bool) {
	name := strings.TrimSpace("bench " + c.name)
	does := c.does
	if !strings.HasSuffix(does, "?") {
		does += "."
	}
	fmt.Fprintf(w, "%s: %s\n\n", strings.TrimSpace(name+" [flags] "+c.args), does)
	left := 0
	fs.VisitAll(func(f *flag.Flag) {
		if !all && !slices.Contains(usual, f.Name) {
			left++
			return
		}
		arg, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  -%s\n", strings.TrimSpace(f.Name+" "+arg))
		if f.DefValue != "" && f.DefValue != "false" {
			usage += " (default " + f.DefValue + ")"
		}
		const indent = "        "
		text := strings.TrimSuffix(text.Wrap(usage, text.Columns-len(indent)), "\n")
		fmt.Fprintf(w, "%s%s\n", indent, strings.ReplaceAll(text, "\n", "\n"+indent))
	})
	if left > 0 {
		fmt.Fprintf(w, "\n%d more flags: bench help all. What they mean: bench help config, and\nbench help statistics.\n", left)
	}
}

const statistics = `How to read the figures.

A round is one sample. The operations of a round are not independent of each
other, so that a million of them tell no more about the next round than its
throughput does. Stages are compared in interleaved rounds, in random order, so
that a machine that gets slower is slower for all.

  8 040  [8 010..8 060]   the median of the rounds, and an interval. With six
                          rounds it is their range, and holds the true median in
                          96.9 % of all cases. With three rounds it is 75 %, and
                          is called a range.
  0.750 times [..]        the ratio to the first stage, round by round: rounds
                          of one number stood next to each other in time.
  no difference shown     the interval of the ratio holds 1, or lies within the
                          noise floor that -aa measured. It does not say that
                          there is none.
  no verdict              fewer than six rounds: nothing is claimed.

How often is the rule wrong? In 10 000 synthetic comparisons of a stage with
itself, six rounds claim a difference in 3.1 %, and three would in 25 %; with
three stages compared with the first, one of the three is wrong in 8 %. If each
process is faster or slower than its like by 1 %, because of where its memory
happens to lie, 29 % of the comparisons of a stage with itself claim a
difference: rounds cannot show what stays the same in all of them. Do not
believe small differences without -aa. (go test ./bench -run TestErrorRate -v)

Percentiles come from a histogram whose cells are at most 0.8 % wide. In a
report over several rounds each percentile is the median of the rounds', and max
is the greatest of all. What is below the step of the clock is not shown.

  response time    answered, counted from when the request was due. In a closed
                   loop (no -rate) it is due when the connection is free: a
                   server that stalls is asked less, and the stall counts once
                   for each connection (coordinated omission). To see what users
                   of a stalling server see, use -rate.
  >5.74s           so many requests were never answered that this percentile may
                   lie among them, above what it is of the others.
  service time     with -rate: counted from when the request was sent.
  client late by   with -rate: from due, or a connection free, to sent: the
                   client's own fault. Where it is a quarter of the response
                   and more than 1 ms, the measurement is INVALID.
  a request's time the mean, split by what the servers say: waiting for a
                   worker, for locks; in the table; codec (decode, check,
                   encode); and the rest: network, kernel, scheduling, client.
  lock held        the share of the time that a lock was held, in the mean over
                   all locks. Near 0 no lock can matter, near 1 nothing else
                   does.

A round lies far from the others when its throughput is more than 5 standard
deviations (from the median deviation: Hampel's identifier) and 5 % off the
median. It is told of, and never dropped.

Two laws check every round. Little's: in a closed loop, throughput × mean
response = requests in flight. Utilization: throughput × CPU a request is at
most the number of cores. INVALID is also a round whose client used up its own
cores while the servers idled.
`
