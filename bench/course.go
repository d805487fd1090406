package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"strings"

	"lockstep/bench/course"
)

// exercise lists the exercises, or writes one.
func exercise(ctx context.Context, o *options) error {
	said, err := course.Exercise(ctx, o.args)
	if err == nil {
		err = o.line.Print(o.stdout, said)
	}
	return err
}

func gradeFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.out, "o", "", "write the grades to this `file`, too, as JSON")
	o.quietFlag(fs)
}

// grade says whether what was made of an exercise passes.
func grade(ctx context.Context, o *options) error {
	o.line.Print(o.stderr, "This runs the code in "+o.args[0]+", with your rights on this machine.\n")
	grades, err := course.Grade(ctx, o.args[0], o.line.Say, func(ctx context.Context, args ...string) (string, error) {
		var out strings.Builder
		failed := o.dispatch(ctx, args, &out, io.Discard)
		return out.String(), failed
	})
	if err == nil {
		err = o.line.Print(o.stdout, grades.String())
	}
	if err == nil && o.out != "" {
		err = output{path: o.out}.replace(grades.JSON())
	}
	if err == nil && !grades.Passed {
		err = errors.New("not passed")
	}
	return err
}
