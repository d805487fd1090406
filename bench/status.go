package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lockstep/common/client"
	"lockstep/common/control"
	"lockstep/common/text"
)

// status prints a line for each node: what it is, since when, and what it has and does. A node
// that does not answer has its line too, and the error says why.
func status(ctx context.Context, o *options) error {
	rows, errs := make([][]string, len(o.cfg.Nodes)), make([]error, len(o.cfg.Nodes))
	var asking sync.WaitGroup
	for i := range rows {
		asking.Go(func() { rows[i], errs[i] = o.nodeStatus(ctx, i) }) // 7 s at most
	}
	asking.Wait()
	rows = slices.Insert(rows, 0, []string{"node", "stage", "up", "keys", "clients", "requests/s", "refused"})
	_, err := fmt.Fprint(o.stdout, text.Table(rows), "Requests/s are those of the last second.\n")
	return o.advise(errors.Join(append(errs, err)...))
}

// nodeStatus asks a node for its statistics twice, a second apart, and returns its row.
func (o *options) nodeStatus(ctx context.Context, i int) (row []string, err error) {
	row = []string{fmt.Sprintf("%d %s", i, o.cfg.Nodes[i].Addr)}
	before, _ := client.Stats(ctx, o.cfg, i)
	control.Pause(ctx, time.Second)
	s, err := client.Stats(ctx, o.cfg, i)
	if err != nil {
		return append(row, "does not answer"), err
	}
	last := s.Sub(before)
	rate := text.ShortCount(int64(float64(last.Requests) / max(last.Uptime.Seconds(), 1e-9)))
	switch {
	case !s.Serving:
		rate = "not serving" // it waits for other nodes, or stops
	case s.Incarnation != before.Incarnation:
		rate += " since its start"
	}
	return append(row, text.Quote(s.Stage, 30), text.Duration(s.Uptime), text.ShortCount(s.Keys), text.ShortCount(s.Open), rate, text.ShortCount(s.Refusals)), nil
}
