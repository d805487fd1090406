package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/tour"
)

func tourFlags(o *options, fs *flag.FlagSet) {
	fs.BoolVar(&o.quiet, "quiet", false, "no progress line")
}

// showTour shows what breaks each stage, and what the next one cures.
func showTour(ctx context.Context, o *options) (err error) {
	dirs, err := testbed.StageDirs(ctx, []string{"1", "2", "3", "4"})
	if err != nil {
		return err
	}
	line := newProgress(o.stderr, o.quiet)
	defer line.stop()
	h, err := testbed.New(ctx, dirs, func(what string) { line.Say(what + " (the first time takes longer)") })
	if err != nil {
		return err
	}
	defer func() {
		if e := h.Close(); err == nil {
			err = e
		}
	}()
	if err := tour.Run(ctx, h, o.cfg.Secret, line, o.stdout); err != nil { // the servers read LOCKSTEP_SECRET, too
		return err
	}
	line.stop()
	next := "\nNext: read the four stages in order (NOTES.md is the guide), or\n" +
		"go run ./bench compare -stages 3,4 -work 1ms\n"
	asking, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := load.StatsOf(asking, o.cfg); err == nil {
		next += "Your servers are up: go run ./bench run\n"
	}
	_, err = fmt.Fprint(o.stdout, next)
	return err
}
