// Bench is the client program of the project: it puts load on the servers of any
// stage, compares stages, and speaks to a server by hand. See bench help.
//
// Where is what?
//
//	the command line   main.go options.go help.go hand.go progress.go
//	the tour           tour.go scenarios.go cells.go stall.go conclude.go
//	a comparison       compare.go sweep.go round.go; of servers that run: run.go meeting.go
//	the request loop   loop.go load.go target.go pipeline.go ceiling.go result.go
//	the schedule       schedule.go
//	what is asked for  workload.go ycsb.go distribution.go value.go; is the answer right? check.go
//	the statistics     stats.go summary.go laws.go where.go goals.go
//	the report         report.go environment.go save.go; as text: table.go sweeptext.go format.go;
//	                   as a page: html.go html_sweep.go figure.go; for benchstat: gobench.go;
//	                   of files: reread.go sidebyside.go
//	linearizable?      linear.go history.go
//	servers            house.go build.go servers.go proc.go ports.go apart_unix.go apart_windows.go
//	yardsticks         against.go yardstick.go yardprocess.go usage_linux.go usage_other.go;
//	                   line.go pipelined.go redis.go memcached.go netrpc.go echo.go
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

	"lockstep/bench/load"
	"lockstep/bench/yardstick"
)

func main() {
	// A second signal changes nothing: what the first one ends takes seconds at most,
	// and then neither a process nor a file is left.
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	// A closed pipe is an error of the write, after which the servers are stopped.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
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
	{"", "", "the tour: what breaks each stage, and what cures it", showTour, tourFlags},
	{"put", "KEY VALUE", "store a value", hand, handFlags},
	{"get", "KEY", "print a value", hand, handFlags},
	{"delete", "KEY", "remove a value", hand, handFlags},
	{"run", "", "put load on the servers that properties.json names", runWorkload, runFlags},
	{"compare", "", "build stages, start them, and compare them fairly", compare, compareFlags},
	{"report", "FILE.json", "show again what -o saved", reread, rereadFlags},
	{"check", "", "is every answer that the servers gave linearizable?", runCheck, checkFlags},
	{"help", "[TOPIC]", "this text; or a command, all, config, or statistics", nil, nil},
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
	case errors.Is(err, load.ErrWrong):
		code.code = exitWrongData
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
	switch name {
	case "help":
		text := new(strings.Builder)
		if err := help(args, text); err != nil {
			return err
		}
		_, err := io.WriteString(stdout, text.String())
		return err
	case yardstick.Command: // which nobody types
		return yardstick.Serve(ctx, args, os.Stdin)
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
