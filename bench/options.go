package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/cluster"
)

// options are what the command line and the configuration come to.
type options struct {
	command string
	args    []string // those that are no flags
	stdout  io.Writer
	stderr  io.Writer
	given   map[string]bool // flags that were given

	cfg      cluster.Config
	config   string
	stages   string
	against  string // compare
	nodes    int
	rounds   int
	sweep    string // "": none
	letter   string // of a YCSB workload; "": the mix and the distribution of cfg
	client   int
	insecure bool
	out      string
	html     string
	gobench  string
	quiet    bool
	once     bool          // compare, run: Busy is not retried
	quick    bool          // compare
	aa       bool          // compare
	running  bool          // check
	faults   bool          // check
	length   time.Duration // check
}

// parse reads the flags of a command, its arguments and the configuration.
func (o *options) parse(c command, args []string) error {
	o.cfg = cluster.Default()
	fs := o.flagSet(c)
	err := o.cfg.ParseFlags(fs, args, &o.config, c.args, workload.Rules())
	var usage cluster.UsageError
	switch {
	case errors.Is(err, flag.ErrHelp):
		if c.name == "" {
			help(nil, o.stdout)
			fmt.Fprintln(o.stdout)
		}
		helpCommand(o.stdout, c, fs, false)
		return err
	case errors.As(err, &usage):
		return usageErrorf("%w", err)
	case err != nil:
		return err
	}
	o.args = fs.Args()
	o.given = make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	if err := o.useYCSB(); err != nil {
		return usageErrorf("%w", err)
	}
	return nil
}

// flagSet defines the flags of a command, which set o.
func (o *options) flagSet(c command) *flag.FlagSet {
	fs := flag.NewFlagSet(strings.TrimSpace("bench "+c.name), flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.config, "config", cluster.DefaultPath, "the configuration `file`")
	c.flags(o, fs)
	return fs
}

// outFlags are the flags of every command that makes a report.
func (o *options) outFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.out, "o", "", "write what was measured to this `file`, as JSON")
	o.renderFlags(fs)
	fs.BoolVar(&o.quiet, "quiet", false, "no progress line")
}

// renderFlags are the flags that show a report in another form.
func (o *options) renderFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.html, "html", "", "write a page with figures to this `file`, for a browser")
	fs.StringVar(&o.gobench, "gobench", "", "write a line for each round to this `file`, for benchstat")
}
