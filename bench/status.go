package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"lockstep/common/client"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

func statusFlags(*options, *flag.FlagSet) {}

// status prints a line for each node: what it is, since when, and what it has and does. A node
// that does not answer has its line too, and the error says why.
func status(ctx context.Context, o *options) error {
	before, _ := o.askNodes(ctx)
	control.Pause(ctx, time.Second)
	now, errs := o.askNodes(ctx)
	rows := [][]string{{"node", "stage", "up", "keys", "clients", "requests/s", "refused"}}
	for i, s := range now {
		name := fmt.Sprintf("%d %s", i, o.cfg.Nodes[i].Addr)
		if errs[i] != nil {
			rows = append(rows, []string{name, "does not answer"})
			continue
		}
		last := s.Sub(before[i])
		rate := text.ShortCount(int64(float64(last.Requests) / max(last.Uptime.Seconds(), 1e-9)))
		switch {
		case !s.Serving:
			rate = "not serving" // it waits for other nodes, or stops
		case s.Incarnation != before[i].Incarnation:
			rate += " since its start"
		}
		rows = append(rows, []string{name, text.Quote(s.Stage, 30), text.Duration(s.Uptime), text.ShortCount(s.Keys),
			text.ShortCount(s.Open), rate, text.ShortCount(s.Refusals)})
	}
	_, err := fmt.Fprint(o.stdout, text.Table(rows)+"Requests/s are those of the last second.\n")
	return o.advise(errors.Join(append(errs, err)...))
}

// askNodes asks all nodes for their statistics at the same time.
func (o *options) askNodes(ctx context.Context) ([]metrics.Snapshot, []error) {
	found, errs := make([]metrics.Snapshot, len(o.cfg.Nodes)), make([]error, len(o.cfg.Nodes))
	var asking sync.WaitGroup
	for i := range o.cfg.Nodes {
		asking.Go(func() { found[i], errs[i] = client.Stats(ctx, o.cfg, i) }) // 3 s at most
	}
	asking.Wait()
	return found, errs
}
