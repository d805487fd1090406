// Bench is the command line of Lockstep's benchmark client: it compares stages, puts
// load on running servers, checks their answers, and sends single requests by hand. This
// package holds the commands, their flags and the exit codes; what they do is in the
// packages below:
//
//	tour        five scenarios that show what breaks each stage, in one table
//	workload    what is asked for: keys, values, the mix; is an answer right?
//	load        who asks, and when: connections, the request loop, the Result
//	testbed     builds, starts, watches and stops the processes of stages
//	yardstick   echo, net/rpc, Redis and memcached, to compare stages with
//	experiment  interleaved rounds and sweeps; what requests are doing, moment by moment
//	report      rounds become summaries, ratios and a verdict; text, JSON, benchstat
//	page        a report as an HTML page
//	figure      the charts on it, and in NOTES.md
//	notes       the figures in NOTES.md, filled in from its experiments
//	check       histories of running servers, judged by lincheck
//	course      exercises, and their grading
//	clients     several client processes: they meet, and share one result
//	machine     which machine and which program were measured
//	progress    the line that says what is being done
//	stats       medians and their intervals
//	benchtest   what the tests of several of these packages share
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"lockstep/bench/course"
	"lockstep/bench/load"
	"lockstep/bench/machine"
	"lockstep/bench/notes"
	"lockstep/bench/testbed"
	"lockstep/bench/yardstick"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

func main() {
	// A second signal changes nothing: after the first one, cleaning up takes seconds at
	// most, and leaves neither a process nor a file behind.
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	// With SIGPIPE caught, writing to a closed pipe fails, and the servers are stopped.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes of bench. go run turns each of them but 0 into 1.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitWrongData   = 3 // an answer that no correct server gives
	exitInvalid     = 5 // the client was measured instead of the servers
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
	example          string // what follows the name
	run              func(ctx context.Context, o *options) error
	flags            func(o *options, fs *flag.FlagSet)
}

var commands = []command{
	{"", "", "the tour: what breaks each stage and what cures it", "", showTour, (*options).quietFlag},
	{"put", "KEY [VALUE]", "store a value, or what comes through a pipe", "color blue", hand, handFlags},
	{"get", "KEY", "print a value", "color", hand, handFlags},
	{"delete", "KEY", "remove a value", "color", hand, handFlags},
	{"run", "", "put load on the servers of properties.json", "-c 16 -duration 10s", runWorkload, runFlags},
	{"compare", "", "build stages, start them, and compare them fairly", "-stages 2,4 -work 1ms", compare, compareFlags},
	{"status", "", "how are the servers of properties.json?", "", status, handFlags},
	{"report", "FILE.json", "show again what -o saved", "-html page.html saved.json", reread, (*options).renderFlags},
	{"check", "", "is every answer of the servers linearizable?", "-stages 4 -faults", runCheck, checkFlags},
	{"lanes", "", "draw what each request is doing, 16 ms of a run", "-stages 2,3,4 -work 1ms", drawLanes, lanesFlags},
	{"exercise", "[NAME] [DIR]", "list the exercises, or write one", "build-2", exercise, func(*options, *flag.FlagSet) {}},
	{"grade", "DIR", "grade an exercise: this runs the code in DIR", "./build-2", grade, gradeFlags},
	{"notes", "[NAME...]", "fill in the figures of NOTES.md, or measure them", "-measure", renderNotes, notesFlags},
	{"help", "[TOPIC]", "this text; or a command, all, config, statistics", "", nil, nil},
}

// run is main with its surroundings as arguments; args does not include the program's
// name.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return conclude(ctx, dispatch(ctx, args, stdout, stderr), stderr)
}

// conclude prints err, if there is one, and returns the exit code.
func conclude(ctx context.Context, err error, stderr io.Writer) int {
	result := exitFailure
	var code codeError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &code):
		result = code.code
	case errors.As(err, new(cluster.UsageError)):
		result = exitUsage
	case errors.Is(err, load.ErrWrong):
		result = exitWrongData
	case ctx.Err() != nil && errors.Is(err, errNotSaved):
		result, err = exitInterrupted, fmt.Errorf("interrupted: %w", err)
	case ctx.Err() != nil: // the interruption caused whatever else went wrong
		result, err = exitInterrupted, errors.New("interrupted")
	}
	fmt.Fprintln(stderr, "bench:", text.Printable(err.Error()))
	return result
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 1 && strings.TrimLeft(args[0], "-") == "version" {
		_, err := fmt.Fprintln(stdout, machine.Version())
		return err
	}
	name := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	switch name {
	case "help":
		return help(args, stdout)
	case yardstick.Command: // with which bench starts itself
		return yardstick.Serve(ctx, args, os.Stdin)
	}
	for _, c := range commands {
		if c.name == name {
			o := &options{command: name, stdout: stdout, stderr: stderr, dispatch: dispatch}
			if err := o.parse(c, args); err != nil {
				return err
			}
			if err := o.checkOutputs(o.args...); err != nil { // now, rather than after all the rounds
				return err
			}
			o.line.Open(stderr, o.quiet)
			defer o.line.Stop()
			return c.run(ctx, o)
		}
	}
	return usageErrorf("unknown command %q (bench help lists the commands)", name)
}

// exercise lists the exercises, or writes one.
func exercise(ctx context.Context, o *options) error {
	said, err := course.Exercise(ctx, o.args)
	return cmp.Or(err, o.line.Print(o.stdout, said))
}

func gradeFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.out, "o", "", "write the grades to this `file`, too, as JSON")
	o.quietFlag(fs)
}

// grade says whether a solution of an exercise passes.
func grade(ctx context.Context, o *options) error {
	o.line.Print(o.stderr, "This runs the code in "+o.args[0]+", with your rights on this machine.\n")
	grades, err := course.Grade(ctx, o.args[0], o.line.Say, o.dispatch)
	if err == nil {
		err = o.line.Print(o.stdout, grades.String())
	}
	if err == nil && o.out != "" {
		data, _ := json.MarshalIndent(grades, "", "  ") // plain values
		err = output{path: o.out}.replace(append(data, '\n'))
	}
	if err == nil && !grades.Passed {
		err = errors.New("not passed")
	}
	return err
}

func notesFlags(o *options, fs *flag.FlagSet) {
	fs.BoolVar(&o.remeasure, "measure", false, "run all experiments first, or those of these names, for 20 minutes at most")
	fs.BoolVar(&o.quick, "quick", false, "measure in about five minutes, and write the notes with these figures to the directory of -o")
	fs.StringVar(&o.dir, "o", "", "with -quick: the `directory`")
	o.quietFlag(fs)
}

// renderNotes fills in the figures of NOTES.md and README.md.
func renderNotes(ctx context.Context, o *options) error {
	root, err := testbed.Root(ctx)
	if err != nil {
		return err
	}
	if o.quick != (o.dir != "") || o.quick && (o.remeasure || sameFile(o.dir, root)) || len(o.args) > 0 && !o.remeasure {
		return usageErrorf("want nothing, -measure [NAME...], or -quick -o DIR with a directory of its own")
	}
	book, err := notes.Open(root, cmp.Or(o.dir, root))
	if err != nil {
		return err
	}
	if o.remeasure || o.quick {
		err = book.Measure(ctx, o.quick, o.args, &o.line, o.stdout)
	}
	return errors.Join(err, book.Write(o.stdout))
}
