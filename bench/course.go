package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"

	"lockstep/bench/course"
	"lockstep/bench/notes"
	"lockstep/bench/testbed"
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
