package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

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

// parse reads the flags of a command, and the configuration below them. A flag
// overrides the property that it is named after, so the flags are read twice: for
// the file's name, and over the file.
func (o *options) parse(c command, args []string) error {
	name := strings.TrimSpace("bench " + c.name)
	o.cfg = cluster.Default()
	fs := o.flagSet(c)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		if c.name == "" {
			help(nil, o.stdout)
			fmt.Fprintln(o.stdout)
		}
		helpCommand(o.stdout, c, fs, false)
		return err
	}
	if err != nil {
		return usageErrorf("%w (%s -h lists the flags)", err, name)
	}
	o.args = fs.Args()
	want := len(strings.Fields(c.args))
	more := strings.HasSuffix(c.args, "...") && len(o.args) > want
	if more && slices.ContainsFunc(o.args, func(arg string) bool { return strings.HasPrefix(arg, "-") }) {
		want = -1 // a flag that is taken for a file
	}
	if len(o.args) != want && (!more || want < 0) {
		return usageErrorf("usage: %s (behind the flags there are %d arguments; flags go before them)",
			strings.TrimSpace(name+" [flags] "+c.args), len(o.args))
	}
	if o.cfg, err = cluster.Load(o.config); err != nil && !(errors.Is(err, os.ErrNotExist) && o.config == cluster.DefaultPath) {
		return err
	}
	fs = o.flagSet(c)
	fs.Parse(args) // the same flags as above, and so no error
	o.given = make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	if err := o.useYCSB(); err != nil {
		return usageErrorf("%w", err)
	}
	if err := o.cfg.Validate(); err != nil {
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
