// Bench is the client program of the project: it puts load on the servers of any
// stage, compares stages, and speaks to a server by hand. See bench help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"lockstep/common/cluster"
)

func main() {
	// A second signal changes nothing: what the first one ends takes seconds at most,
	// and then neither a process nor a file is left.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes of bench. go run turns each but 0 into 1.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitWrongData   = 3 // an answer that no correct server gives
	exitInvalid     = 5 // the client was measured, not the servers
	exitInterrupted = 130
)

// A codeError is an error that has an exit code of its own.
type codeError struct {
	code int
	error
}

func (e codeError) Unwrap() error { return e.error }

func usageErrorf(format string, args ...any) error {
	return codeError{exitUsage, fmt.Errorf(format, args...)}
}

// A command is a word after bench.
type command struct {
	name, args, does string
	run              func(ctx context.Context, o *options) error
	flags            func(o *options, fs *flag.FlagSet)
}

var commands = []command{
	{"", "", "the tour: what breaks each stage, and what the next one cures; about a minute", tour, tourFlags},
	{"put", "KEY VALUE", "store a value", hand, handFlags},
	{"get", "KEY", "print a value", hand, handFlags},
	{"delete", "KEY", "remove a value", hand, handFlags},
	{"run", "", "put load on the servers that properties.json names", runWorkload, runFlags},
	{"compare", "", "build stages, start them, and compare them fairly", compare, compareFlags},
	{"help", "[config]", "this text, or every property of properties.json", nil, nil},
}

// options are what the command line and the configuration come to.
type options struct {
	command string
	args    []string // those that are no flags
	stdout  io.Writer
	stderr  io.Writer
	given   map[string]bool // flags that were given

	cfg    cluster.Config
	config string
	stages string
	nodes  int
	rounds int
	client int
	out    string
	quiet  bool
}

// run is main with its surroundings as arguments; args does not hold the program's
// name.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdout, stderr)
	var code codeError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "bench: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(stderr, "bench:", err)
	if errors.As(err, &code) {
		return code.code
	}
	return exitFailure
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	name := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	if name == "help" {
		return help(args, stdout)
	}
	for _, c := range commands {
		if c.name == name {
			o := &options{command: name, stdout: stdout, stderr: stderr}
			if err := o.parse(c, args); err != nil {
				return err
			}
			return c.run(ctx, o)
		}
	}
	return usageErrorf("there is no command %q (bench help lists them)", name)
}

func help(args []string, w io.Writer) error {
	switch {
	case len(args) == 0:
	case args[0] == "config":
		cluster.WriteHelp(w)
		return nil
	default:
		return usageErrorf("there is no help on %q: help, help config, or a command with -h", args[0])
	}
	fmt.Fprint(w, "bench measures the servers of Lockstep.\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-24s %s\n", strings.Join(strings.Fields("bench "+c.name+" "+c.args), " "), c.does)
	}
	fmt.Fprint(w, "\nEach takes -h for its flags.\n\n",
		"Exit codes (of the built program; go run turns each but 0 into 1): 0 ok, 1 failure,\n",
		"2 usage, 3 wrong data, 5 invalid measurement, 130 interrupted.\n")
	return nil
}

// parse reads the flags of a command, and the configuration below them. A flag
// overrides the property that it is named after, so the flags are read twice: for
// the file's name, and over the file.
func (o *options) parse(c command, args []string) error {
	name := strings.TrimSpace("bench " + c.name)
	flags := func() *flag.FlagSet {
		fs := flag.NewFlagSet(name, flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		fs.StringVar(&o.config, "config", cluster.DefaultPath, "the configuration `file`")
		c.flags(o, fs)
		return fs
	}
	o.cfg = cluster.Default()
	fs := flags()
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(o.stdout, "%s: %s.\n\nFlags:\n", strings.TrimSpace(name+" "+c.args), c.does)
		fs.SetOutput(o.stdout)
		fs.PrintDefaults()
		return err
	}
	if err != nil {
		return usageErrorf("%w (%s -h lists the flags)", err, name)
	}
	o.args = fs.Args()
	if want := len(strings.Fields(c.args)); len(o.args) != want {
		return usageErrorf("%s takes %d arguments, not %d: %s", name, want, len(o.args), strings.TrimSpace(name+" "+c.args))
	}
	if o.cfg, err = cluster.Load(o.config); err != nil && !(errors.Is(err, os.ErrNotExist) && o.config == cluster.DefaultPath) {
		return err
	}
	fs = flags()
	fs.Parse(args) // the same flags as above, and so no error
	o.given = make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	if err := o.cfg.Validate(); err != nil {
		return usageErrorf("%w", err)
	}
	return nil
}

// outFlags are the flags of every command that measures.
func (o *options) outFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.out, "o", "", "write what was measured to this `file`, as JSON")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress line")
}
