package main

import (
	"cmp"
	"context"
	"errors"
	"flag"

	"lockstep/bench/course"
)

// exercise lists the exercises, or writes one.
func exercise(ctx context.Context, o *options) error {
	said, err := course.Exercise(ctx, o.args)
	return cmp.Or(err, o.line.Print(o.stdout, said))
}

func gradeFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.out, "o", "", "write the grades to this `file`, too, as JSON")
	o.quietFlag(fs)
}

// grade says whether what was made of an exercise passes.
func grade(ctx context.Context, o *options) error {
	o.line.Print(o.stderr, "This runs the code in "+o.args[0]+", with your rights on this machine.\n")
	grades, err := course.Grade(ctx, o.args[0], o.line.Say, o.dispatch)
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
