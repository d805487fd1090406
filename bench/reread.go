package main

import (
	"context"

	"lockstep/bench/report"
)

// reread shows a report that -o saved.
func reread(ctx context.Context, o *options) error {
	return interruptible(ctx, func() error {
		rep, err := report.Read(o.args[0])
		if err == nil {
			err = o.show(ctx, rep)
		}
		return err
	})
}
