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

// help writes about a topic, or, without one, about everything.
func help(args []string, w io.Writer) error {
	var b strings.Builder
	switch topic := strings.Join(args, " "); topic {
	case "":
		b.WriteString("bench measures the servers of Lockstep.\n\n")
		for _, c := range commands {
			fmt.Fprintf(&b, "  %-25s %s\n", strings.Join(strings.Fields("bench "+c.name+" "+c.args), " "), c.does)
		}
		b.WriteString("\nEach command takes -h for its flags.\n\n" +
			"Exit codes (of the built program; go run turns each of them but 0 into 1): 0 ok,\n" +
			"1 failure, 2 usage, 3 wrong data, 5 invalid measurement, 130 interrupted.\n")
	case "config":
		b.WriteString("The properties of " + cluster.DefaultPath + ": default, allowed values, meaning. A property\n" +
			"that the file leaves out keeps its default. The flag for a property of the server\n" +
			"or the workload is named as the last part of its path, and overrides the file.\n\n")
		cluster.WriteHelp(&b, workload.Rules())
	case "statistics":
		b.WriteString(statistics)
	default:
		for _, c := range commands {
			if c.flags != nil && (topic == "all" || topic == c.name) {
				o := &options{cfg: cluster.Default()}
				helpCommand(&b, c, o.flagSet(c), topic == "all")
			}
		}
		if b.Len() == 0 {
			return usageErrorf("no help on %q: the topics are all, config, statistics and the commands", topic)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// usual are the flags that a first evening needs.
var usual = []string{"config", "stages", "nodes", "c", "duration", "ops", "rounds", "quick", "rate",
	"mix", "workload", "batch", "work", "sweep", "against", "o", "html"}

// helpCommand writes how a command is used, and its flags: the usual ones, or all.
func helpCommand(w io.Writer, c command, fs *flag.FlagSet, all bool) {
	does := c.does
	if !strings.HasSuffix(does, "?") {
		does += "."
	}
	fmt.Fprintf(w, "%s: %s\n\n", strings.TrimSpace(fs.Name()+" [flags] "+c.args), does)
	left := int64(0)
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
		lines := strings.TrimSuffix(text.Wrap(usage, text.Columns-len(indent)), "\n")
		fmt.Fprintf(w, "%s%s\n", indent, strings.ReplaceAll(lines, "\n", "\n"+indent))
	})
	if left > 0 {
		fmt.Fprintf(w, "\n%s: bench help all. What they mean: bench help config, and\nbench help statistics.\n", text.Plural(left, "more flag"))
	}
	if all {
		fmt.Fprintln(w)
	}
}

const statistics = `How to read the figures.

8 040 [8 010..8 060]  the median of the rounds and an interval: with six rounds
                      their range, which holds the true median in 97 % of all
                      cases; with three rounds in 75 %, so there is no verdict
0.750 times [..]      the ratio to the first stage, round by round
no difference shown   the interval of the ratio holds 1 or lies within the noise
                      that -aa measured; there may be a difference all the same
response time         counted from when the request was due: without -rate, when
                      its connection was free, so that a stall counts only once
                      for each connection (coordinated omission)
>5.74s                so many requests had no answer that this percentile may
                      lie among them
service time          with -rate: counted from when the request was sent
client late by        with -rate: how late the client sent; more than 1 ms and a
                      quarter of the response time make a round INVALID
a request's time      on average: waiting for a worker, for locks; in the table;
                      codec (decode, check, encode); and the rest: network,
                      kernel, scheduling, client
lock held             the share of the time that a lock was held, averaged over
                      all locks: near 0 no lock can matter, near 1 all waits are
                      for it

Each percentile is the median of the rounds, and max the greatest of all. Two
laws check each round: requests in flight = throughput × mean response (Little),
and throughput × CPU a request <= cores. NOTES.md explains the rest.
`
