package main

import (
	"context"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// A target is what a load is put on: servers of Lockstep, or a yardstick.
type target struct {
	cfg  cluster.Config // with their addresses
	yard *yardstick     // nil: servers of Lockstep
	pid  int            // of the yardstick; 0: it is not this program's
}

// dial returns a client that is connected to all nodes.
func (t target) dial(ctx context.Context) (asker, error) {
	if t.yard != nil {
		return t.yard.dial(ctx, t.cfg.Nodes[0].Addr)
	}
	if t.cfg.Workload.Depth > 1 {
		return dialPipeline(ctx, t.cfg)
	}
	return client.Dial(ctx, t.cfg)
}

// open returns a client that may not be connected yet, for one request. One that goes
// to several nodes gets a connection to each before it is sent to any: with servers
// that take one client at a time, two requests that each held one of them, and waited
// for the other, would wait for ever.
func (t target) open(ctx context.Context) (asker, error) {
	if t.yard != nil || len(t.cfg.Nodes) > 1 && t.cfg.Workload.Batch > 1 {
		return t.dial(ctx)
	}
	return client.New(t.cfg), nil
}

// stats is what each server has counted so far; of a yardstick, what it has used. None
// where that is not known.
func (t target) stats(ctx context.Context) ([]metrics.Snapshot, error) {
	switch {
	case t.yard == nil:
		return statsOf(ctx, t.cfg)
	case t.pid == 0:
		return nil, nil
	}
	cpu, peak := usageOf(t.pid)
	return []metrics.Snapshot{{Stage: t.yard.name, Serving: true, CPU: cpu, PeakMemory: peak}}, nil
}
