package main

import (
	"context"
	"fmt"

	"lockstep/bench/report"
	"lockstep/common/text"
)

// reread shows a report that -o saved.
func reread(ctx context.Context, o *options) error {
	return interruptible(ctx, func() error {
		rep, err := report.Read(o.args[0])
		if err == nil {
			err = o.writeAll(ctx, rep, true)
		}
		if err == nil {
			_, err = fmt.Fprint(o.stdout, text.Printable(rep.String()))
		}
		return err
	})
}
