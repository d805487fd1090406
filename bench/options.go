package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/progress"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// options are the values of the flags, arguments and configuration.
type options struct {
	command        string
	args           []string // what follows the flags
	stdout, stderr io.Writer
	dispatch       func(ctx context.Context, args []string, stdout, stderr io.Writer) error // runs another command
	given          map[string]bool                                                          // the flags on the command line

	cfg      cluster.Config
	config   string             // the file of cfg
	work     *workload.Workload // of cfg, if the command puts a load on servers
	nextSave time.Time
	line     progress.Line

	stages, against, sweep       string // what is measured,
	letter                       string // with which of YCSB's workloads,
	nodes, rounds, client        int    // by how many and how often,
	out, html, gobench, svg, dir string // and where the results go

	quick, aa, running, faults, quiet  bool
	remeasure, once, samples, insecure bool // -measure, -noretry, -samples, -insecure
}

// parse reads the flags of a command, its arguments and the configuration.
func (o *options) parse(c command, args []string) error {
	o.cfg = cluster.Default()
	fs := o.flagSet(c)
	err := o.cfg.ParseFlags(fs, args, &o.config, c.args, workload.Rules())
	if errors.Is(err, flag.ErrHelp) {
		if c.name == "" {
			help(nil, o.stdout)
			fmt.Fprintln(o.stdout)
		}
		helpCommand(o.stdout, c, fs, false)
	}
	if err != nil {
		return err
	}
	o.args = fs.Args()
	o.given = make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	if fs.Lookup("ops") == nil { // not a command that measures
		return nil
	}
	err = cmp.Or(o.useYCSB(), o.endLoad())
	if err == nil {
		if o.work, err = workload.New(o.cfg.Workload); err != nil {
			return usageErrorf("%w", err)
		}
		o.work.Once, o.work.Sampled = o.once, o.samples
	}
	return err
}

// flagSet defines the flags of a command, which set o.
func (o *options) flagSet(c command) *flag.FlagSet {
	fs := flag.NewFlagSet(strings.TrimSpace("bench "+c.name), flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	if !slices.Contains([]string{"report", "exercise", "grade", "notes"}, c.name) { // which are about what they are given
		fs.StringVar(&o.config, "config", cluster.DefaultPath, "the configuration `file`")
	}
	c.flags(o, fs)
	return fs
}

// measureFlags defines the flags of the commands that measure.
func (o *options) measureFlags(fs *flag.FlagSet) {
	fs.BoolVar(&o.once, "noretry", false, "count a request that is answered Busy as failed, and do not send it again")
	fs.BoolVar(&o.samples, "samples", false, fmt.Sprintf("keep what came of up to %d requests of a round, drawn by lot, for -o", load.MaxSamples))
	fs.StringVar(&o.out, "o", "", "write what was measured to this `file`, as JSON; - is standard output, and the text goes to standard error")
	o.renderFlags(fs)
	o.quietFlag(fs)
	fs.StringVar(&o.letter, "workload", "", "the mix of YCSB's workload of this `letter`: a (get=50,put=50), b (get=95,put=5), c (get=100)\n"+
		"or f (get=50,cas=50), with keys as in zipf:0.99 unless -dist is given; excludes -mix")
	workload.Flags(&o.cfg, fs)
}

// renderFlags defines the flags that show a report in another form.
func (o *options) renderFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.html, "html", "", "write a page with figures to this `file`, for a browser")
	fs.StringVar(&o.gobench, "gobench", "", "write a line for each round to this `file`, for benchstat")
}

func (o *options) quietFlag(fs *flag.FlagSet) {
	fs.BoolVar(&o.quiet, "quiet", false, "do not say what is being done")
}

// intFlag defines a flag for a number from lo to hi.
func intFlag(fs *flag.FlagSet, p *int, name string, value, lo, hi int, doc string) {
	*p = value
	cluster.Flag(fs, name, p, cluster.In(lo, hi, doc))
}

// useYCSB replaces the mix and the distribution by those of -workload, if it is given.
func (o *options) useYCSB() error {
	mix, ok := workload.YCSB[o.letter]
	switch {
	case o.letter == "":
		return nil
	case !ok:
		return usageErrorf("-workload: %q is not a, b, c or f", o.letter)
	case o.given["mix"]:
		return usageErrorf("-workload %s is a mix, %v: give it or -mix, but not both", o.letter, mix)
	}
	o.cfg.Workload.Mix = mix
	if !o.given["dist"] {
		o.cfg.Workload.Dist = "zipf:0.99" // as in YCSB
	}
	return nil
}

// endLoad decides whether operations or a duration end the load: a flag beats the file.
func (o *options) endLoad() error {
	w, unset := &o.cfg.Workload, cluster.Default().Workload.Ops
	switch timed := w.Duration > 0; {
	case o.given["ops"] && o.given["duration"] && timed:
		return usageErrorf("-ops %d ends the load, and so does -duration %v: give one of the two", w.Ops, w.Duration)
	case o.given["ops"]:
		w.Duration = 0
	case o.given["duration"] && timed:
		w.Ops = unset
	case timed && w.Ops != unset && o.command == "run": // compare ignores both
		return usageErrorf("%s: workload.ops %d ends the load, and so does workload.duration %v: give one of the two", o.config, w.Ops, w.Duration)
	}
	if w.Arrival == "poisson" && w.Rate == 0 && !strings.HasPrefix(o.sweep, "rate=") {
		return usageErrorf("-arrival poisson needs a -rate: without one, requests are sent as fast as answers come")
	}
	return nil
}

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
				helpCommand(&b, c, (&options{cfg: cluster.Default()}).flagSet(c), topic == "all")
			}
		}
		if b.Len() == 0 {
			return usageErrorf("no help on %q: the topics are all, config, statistics and the commands", topic)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// usual are the flags that a beginner needs.
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
		defer fmt.Fprintln(w) // between two commands
	}
	if left := cluster.WriteFlags(w, fs, groups); left > 0 {
		fmt.Fprintf(w, "\n%s: bench help all. What they mean: bench help config, and\nbench help statistics.\n", text.Plural(left, "more flag"))
	}
}

// statistics says how to read the figures.
//
//go:embed statistics.txt
var statistics string
