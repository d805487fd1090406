package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A load is a round in the making: the connections of a workload, and what they
// do with them. Each connection is a client of its own, and one goroutine's.
type load struct {
	cfg   cluster.Config
	once  bool          // a request that is answered Busy is not tried again
	grace time.Duration // how long the requests under way at the end may still take

	work  *workload
	first uint64 // the number of the first connection
	conns []*connection
	quit  context.CancelFunc // ends connections that nobody ever greeted
	dials sync.WaitGroup     // their goroutines
}

// A connection is one client of the servers. With a connection for each request
// it has none of its own.
type connection struct {
	load    *load
	source  *source
	greeted chan struct{} // closed when client is set
	client  *client.Client
}

const (
	defaultGrace = 5 * time.Second
	// Connections that are not greeted while no other is for this long, are waited
	// for no longer.
	nobodyElse = 250 * time.Millisecond
)

// newLoad connects, with connections that are numbered from first. It returns when all connections are greeted, or when for a
// while none has been: on a server that takes one client at a time the others
// wait, and may starve.
func newLoad(ctx context.Context, cfg cluster.Config, work *workload, first int) *load {
	l := &load{cfg: cfg, work: work, first: uint64(first), grace: defaultGrace}
	ctx, l.quit = context.WithCancel(ctx)
	greeted := make(chan struct{}, cfg.Workload.Connections)
	for i := range cfg.Workload.Connections {
		c := &connection{load: l, source: work.source(first + i), greeted: make(chan struct{})}
		l.conns = append(l.conns, c)
		if cfg.Workload.Conn == "per-request" {
			close(c.greeted)
			greeted <- struct{}{}
			continue
		}
		l.dials.Go(func() { // ends when greeted, or at close
			if cl, err := client.Dial(ctx, cfg); err == nil {
				c.client = cl
				close(c.greeted)
				greeted <- struct{}{}
			}
		})
	}
	for range l.conns {
		select {
		case <-greeted:
		case <-time.After(nobodyElse):
			return l
		case <-ctx.Done():
			return l
		}
	}
	return l
}

// close ends all connections, and waits for their goroutines.
func (l *load) close() {
	l.quit()
	l.dials.Wait()
	for _, c := range l.conns {
		if c.client != nil {
			c.client.Close()
		}
	}
}

// A phase is a stretch of load, with all connections: the warm-up, or a round.
type phase struct {
	left  *atomic.Int64   // closed loop: requests left to do; nil: until over
	pace  *pacer          // open loop; nil: a closed one
	over  context.Context // at its end, no more requests are sent
	end   func()          // ends over
	limit context.Context // at its end, requests under way are given up
}

// run puts load on the servers: for length, or, if that is 0, until ops operations
// are done; at the workload's rate, or, if that is 0, as fast as answers come. The
// result counts what was asked for in that time, however late it was answered,
// within the grace.
func (l *load) run(ctx context.Context, length time.Duration, ops int) *result {
	over, end := context.WithCancel(ctx)
	defer end()
	limit, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	p := &phase{over: over, end: end, limit: limit}
	switch w := l.cfg.Workload; {
	case w.Rate > 0:
		if length == 0 {
			length = time.Duration(float64(ops) / float64(w.Batch) / w.Rate * 1e9)
		}
		p.pace = newPacer(newSchedule(w.Rate, w.Arrival, w.Seed+l.first), length)
	case length > 0:
		defer time.AfterFunc(length, end).Stop()
	default:
		p.left = new(atomic.Int64)
		p.left.Store(int64((ops + w.Batch - 1) / w.Batch))
	}
	if length > 0 {
		defer time.AfterFunc(length+l.grace, giveUp).Stop()
	}
	defer context.AfterFunc(ctx, func() { time.AfterFunc(l.grace, giveUp) })()

	start := metrics.Now()
	results := make([]*result, len(l.conns))
	var workers sync.WaitGroup
	for i, c := range l.conns {
		workers.Go(func() { results[i] = c.work(p) }) // ends with the phase
	}
	workers.Wait()
	sum := &result{dur: metrics.Now() - start}
	for _, r := range results {
		sum.merge(r)
	}
	if p.pace != nil {
		sum.unfinished += p.pace.unsent()
	}
	return sum
}

// work is the request loop.
func (c *connection) work(p *phase) *result {
	r := &result{connections: 1}
	select {
	case <-c.greeted:
	case <-p.over.Done():
		r.neverGreeted, r.starved = 1, 1
		return r
	}
	asked := false
	for due, ok := p.next(r); ok; due, ok = p.next(r) {
		asked = true
		c.request(p, due, r)
	}
	if refused := r.errors[client.ErrBusy.Error()]; asked && r.requests == 0 && refused == 0 {
		r.starved = 1
	}
	return r
}

// next waits until a request is to be sent, and returns when it was due: in a
// closed loop, now. The connection that finds the end ends the phase, for those
// that nobody greets.
func (p *phase) next(r *result) (due time.Duration, ok bool) {
	switch {
	case p.over.Err() != nil, p.limit.Err() != nil:
	case p.pace != nil:
		var slip time.Duration
		if due, slip, ok = p.pace.next(p.over); ok {
			r.late(slip)
		}
	default:
		due, ok = metrics.Now(), p.left == nil || p.left.Add(-1) >= 0
	}
	if !ok {
		p.end()
	}
	return due, ok
}

// request asks for the source's next request, and counts what came of it.
func (c *connection) request(p *phase, due time.Duration, r *result) {
	cl := c.client
	if cl == nil {
		cl = client.New(c.load.cfg)
		defer cl.Close()
	}
	do := cl.Do
	if c.load.once {
		do = cl.Once
	}
	answers, err := do(p.limit, c.source.next()...)
	took := metrics.Now() - due
	switch {
	case err == nil:
		r.requests++
		r.latency.Record(took)
		c.source.check(answers, r)
	case p.limit.Err() != nil:
		r.unfinished++
	default:
		r.fail(errorKind(err), err)
		r.failed += took
		c.source.check(answers, r) // the parts that were answered
		if errors.Is(err, client.ErrDown) {
			pause(p.over, time.Millisecond) // or all that is counted is how fast it fails
		}
	}
}

// errorKind puts an error into a word or two.
func errorKind(err error) string {
	for _, kind := range []error{client.ErrBusy, client.ErrDown, client.ErrUnknown, client.ErrWrongNode} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return "other"
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// preload stores a value under every key.
func preload(ctx context.Context, cfg cluster.Config, work *workload) error {
	cl, err := client.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer cl.Close()
	for ops := range work.preload {
		results, err := cl.Do(ctx, ops...)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(results, func(r wire.Result) bool { return r.Status != wire.Created && r.Status != wire.Replaced }); i >= 0 {
			return errors.New("a put was answered " + results[i].Status.String())
		}
	}
	return nil
}
