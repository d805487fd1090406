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
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
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
	{"", "", "the tour: what breaks each stage, and what cures it", tour, tourFlags},
	{"put", "KEY VALUE", "store a value", hand, handFlags},
	{"get", "KEY", "print a value", hand, handFlags},
	{"delete", "KEY", "remove a value", hand, handFlags},
	{"run", "", "put load on the servers that properties.json names", runWorkload, runFlags},
	{"compare", "", "build stages, start them, and compare them fairly", compare, compareFlags},
	{"report", "FILE.json...", "show what -o saved, or compare several", reread, rereadFlags},
	{"check", "", "is every answer that the servers gave linearizable?", check, checkFlags},
	{"help", "[config]", "this text, or every property of properties.json", nil, nil},
}

// run is main with its surroundings as arguments; args does not hold the program's
// name.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return complain(ctx, dispatch(ctx, args, stdout, stderr), stderr)
}

// complain says what went wrong, if anything did, and returns the exit code.
func complain(ctx context.Context, err error, stderr io.Writer) int {
	code := codeError{code: exitFailure}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &code):
	case ctx.Err() != nil && errors.Is(err, errNotSaved):
		fmt.Fprintln(stderr, "bench: interrupted:", err)
		return exitInterrupted
	case ctx.Err() != nil: // whatever else went wrong came of it
		fmt.Fprintln(stderr, "bench: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(stderr, "bench:", err)
	return code.code
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
