package main

import (
	_ "embed"
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
			fmt.Fprintf(&b, "  %-27s %s\n", strings.Join(strings.Fields("bench "+c.name+" "+c.args), " "), c.does)
		}
		b.WriteString("\nEach command takes -h for its flags; bench -version says what this is.\n\n" +
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
var usual = []cluster.FlagGroup{
	{Title: "Which servers", Names: "stages against nodes work running config client"},
	{Title: "Which load", Names: "c duration ops rate mix workload batch sweep faults"},
	{Title: "How often", Names: "rounds quick"},
	{Title: "Where the result goes", Names: "o html"},
}

// helpCommand writes how a command is used, and its flags: the usual ones, or all.
func helpCommand(w io.Writer, c command, fs *flag.FlagSet, all bool) {
	fmt.Fprintf(w, "%s: %s\n\n", strings.TrimSpace(fs.Name()+" [flags] "+c.args), c.does)
	fmt.Fprintf(w, "    go run ./%s\n", strings.TrimSpace(fs.Name()+" "+c.example))
	groups := usual
	if all {
		groups = append(slices.Clone(usual), cluster.FlagGroup{Title: "More", Names: "*"})
	}
	if left := cluster.WriteFlags(w, fs, groups); left > 0 {
		fmt.Fprintf(w, "\n%s: bench help all. What they mean: bench help config, and\nbench help statistics.\n", text.Plural(left, "more flag"))
	}
	if all {
		fmt.Fprintln(w)
	}
}

// statistics says how to read the figures.
//
//go:embed statistics.txt
var statistics string
