package main

import (
	"context"

	"lockstep/bench/testbed"
	"lockstep/bench/tour"
)

// showTour shows what breaks each stage, and what the next one cures.
func showTour(ctx context.Context, o *options) error {
	dirs, err := testbed.StageDirs(ctx, []string{"1", "2", "3", "4"})
	if err != nil {
		return err
	}
	return o.withStages(ctx, dirs, func(ctx context.Context, bed *testbed.Bed) error {
		return tour.Run(ctx, bed, o.cfg.Secret, &o.line, o.stdout) // the servers read LOCKSTEP_SECRET, too
	})
}
