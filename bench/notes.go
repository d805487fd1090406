package main

import (
	"cmp"
	"context"
	"errors"
	"flag"

	"lockstep/bench/notes"
	"lockstep/bench/testbed"
)

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
