package main

import (
	"context"
	"errors"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/wire"
)

const (
	ceilingTime = 100 * time.Millisecond
	ceilingKeys = 1000 // at most: they are all kept in this process
)

// ceiling measures how many operations a second the client can do by itself, on one
// connection, and so on one core: it draws requests, checks their answers, reads the
// clock and counts the times, as in a round of the workload's closed loop, with answers
// that come at once, without a network. Where servers seem to do nearly as many, it was
// the client that was measured.
func ceiling(ctx context.Context, w cluster.Workload) (opsPerSecond float64, err error) {
	w.Connections, w.Depth, w.Rate, w.Conn = 1, 1, 0, "persistent"
	w.Keys = min(w.Keys, ceilingKeys)
	work, err := newWorkload(w)
	if err != nil {
		return 0, err
	}
	c := &connection{sources: []*source{work.source(0)}, greeted: make(chan struct{}), client: newInstant(work)}
	close(c.greeted)
	l := &load{target: target{cfg: cluster.Config{Workload: w}}, clock: realClock(), conns: []*connection{c}}
	c.load = l
	r := l.run(ctx, ceilingTime, 0)
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case r.wrong > 0:
		return 0, r.firstWrong
	case r.ok == 0:
		return 0, errors.New("the client did nothing in " + ceilingTime.String())
	}
	return float64(r.ok) / r.dur.Seconds(), nil
}

// An instant is an asker that answers at once, as a server might that stores nothing:
// each key has the value that it was given before the load.
type instant struct {
	values  map[string][]byte
	answers []wire.Result
}

func newInstant(work *workload) *instant {
	in := &instant{values: make(map[string][]byte)}
	for ops := range work.preload {
		for _, op := range ops {
			in.values[op.Key] = op.Value
		}
	}
	return in
}

func (in *instant) Do(_ context.Context, ops ...wire.Op) ([]wire.Result, error) {
	in.answers = in.answers[:0]
	for _, op := range ops {
		var r wire.Result
		switch op.Kind {
		case wire.Get:
			r = wire.Result{Status: wire.Found, Value: in.values[op.Key]}
		case wire.Put:
			r.Status = wire.Replaced
		case wire.Delete:
			r.Status = wire.Deleted
		case wire.CompareAndSwap:
			r.Status = wire.Swapped
		}
		in.answers = append(in.answers, r)
	}
	return in.answers, nil
}

func (in *instant) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return in.Do(ctx, ops...)
}

func (in *instant) Counts() (none client.Counts) { return none }

func (in *instant) Close() error { return nil }
