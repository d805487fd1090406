package main

import (
	"context"
	"fmt"

	"lockstep/bench/report"
	"lockstep/common/text"
)

// reread shows a report that -o saved.
func reread(_ context.Context, o *options) error {
	if err := o.distinct(o.args); err != nil {
		return err
	}
	rep, err := report.Read(o.args[0])
	if err != nil {
		return err
	}
	if err := o.writeAll(rep, true); err != nil {
		return err
	}
	_, err = fmt.Fprint(o.stdout, text.Printable(rep.String()))
	return err
}
