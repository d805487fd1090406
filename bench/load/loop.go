package load

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/wire"
)

// A phase is a stretch of load, with all connections: the warm-up, or a round.
type phase struct {
	start time.Duration // by now
	now   func() time.Duration
	left  *atomic.Int64   // closed loop: requests left to do; nil: until over
	pace  *pacer          // open loop; nil: a closed one
	limit context.Context // at its end, requests under way are given up
	over  context.Context // at its end, no more requests are sent; it ends with limit
	end   func()          // ends over
}

// A tally is what the requests of one connection came to.
type tally struct {
	mu sync.Mutex // guards what follows, where several are in flight
	Result
	asked bool
}

// run puts load on the servers: for length, or, if that is 0, until ops operations
// are done; at the workload's rate, or, if that is 0, as fast as answers come. The
// result counts what was asked for in that time, however late it was answered,
// within the grace. When ctx ends, it ends at once.
func (l *Load) run(ctx context.Context, length time.Duration, ops int) *Result {
	start := l.clock.now() // before the clock that ends the phase
	limit, giveUp := context.WithCancel(ctx)
	defer giveUp()
	over, end := context.WithCancel(limit)
	defer end()
	p := &phase{start: start, now: l.clock.now, limit: limit, over: over, end: end}
	switch w := l.cfg.Workload; {
	case w.Rate > 0:
		if length == 0 {
			length = time.Duration(float64(ops) / float64(w.Batch) / w.Rate * 1e9)
		}
		// Arrivals of their own for each round and each of its phases: rounds that were
		// alike in them would hide how much the arrivals matter.
		seed := w.Seed + l.first + l.round<<40 + l.phases<<32
		p.pace = newPacer(newSchedule(w.Rate, w.Arrival, seed), length, l.clock)
	case length > 0:
		defer time.AfterFunc(length, end).Stop()
	default:
		p.left = new(atomic.Int64)
		p.left.Store(int64((ops + w.Batch - 1) / w.Batch))
		watching, watched := context.WithCancel(limit)
		var watch sync.WaitGroup
		defer watch.Wait()
		defer watched()
		watch.Go(func() { l.giveUpStuck(watching, p.left, giveUp) }) // ends with watching
	}
	if length > 0 {
		defer time.AfterFunc(length+l.Grace, giveUp).Stop()
	}

	l.phases++
	refusals := l.refusals()
	tallies := make([]tally, len(l.conns))
	var workers sync.WaitGroup
	for i, c := range l.conns {
		tallies[i].Connections = 1
		for _, s := range c.sources {
			workers.Go(func() { c.work(p, s, &tallies[i]) }) // ends with the phase
		}
	}
	workers.Wait()
	sum := &Result{Dur: l.clock.now() - start}
	sum.Refusals = l.refusals() - refusals
	for i := range tallies {
		t := &tallies[i]
		if t.asked && t.Requests == 0 && t.Errors[client.ErrBusy.Error()] == 0 {
			t.Starved = 1
		}
		sum.Merge(&t.Result)
	}
	if p.pace != nil {
		sum.Unfinished += p.pace.unsent()
		if ctx.Err() == nil {
			sum.Dur = max(sum.Dur, length) // what was due last was due before the end
		}
	}
	return sum
}

// giveUpStuck ends a load of so many operations when no connection has taken one of
// those that are left for so long that their servers must be stuck.
func (l *Load) giveUpStuck(ctx context.Context, left *atomic.Int64, giveUp func()) {
	limit := l.patience + time.Duration(l.cfg.Workload.Batch)*l.cfg.Server.Work.Time
	for last := int64(math.MaxInt64); ctx.Err() == nil && left.Load() != last; Pause(ctx, limit) {
		last = left.Load()
	}
	giveUp()
}

// work is the request loop: it keeps one request of the connection in flight.
func (c *connection) work(p *phase, s *workload.Source, t *tally) {
	select {
	case <-c.greeted:
	case <-p.over.Done():
		select {
		case <-c.greeted: // but others were faster
		default:
			t.mu.Lock()
			t.NeverGreeted, t.Starved = 1, 1
			t.mu.Unlock()
		}
		return
	}
	for {
		due, sent, slip, ok := p.Next()
		if !ok {
			return
		}
		c.request(p, s, due, sent, slip, t)
	}
}

// next waits until a request is to be sent, and returns when it was due and when it
// is sent: in a closed loop, both are now. Who finds the end ends the phase, for those that nobody greets.
func (p *phase) Next() (due, sent, slip time.Duration, ok bool) {
	switch {
	case p.over.Err() != nil, p.limit.Err() != nil: // over follows limit, a moment later
	case p.pace != nil:
		due, sent, slip, ok = p.pace.Next(p.over)
	default:
		due, ok = p.now(), p.left == nil || p.left.Add(-1) >= 0
		sent = due
	}
	if !ok {
		p.end()
	}
	return due, sent, slip, ok
}

// request asks for the source's next request, and counts what came of it.
func (c *connection) request(p *phase, s *workload.Source, due, sent, slip time.Duration, t *tally) {
	ops := s.Next()
	var answers []wire.Result
	cl, err := c.open(p.limit)
	if err == nil {
		if c.client == nil {
			defer cl.Close()
		}
		do := cl.Do
		if c.load.Once {
			do = cl.Once
		}
		answers, err = do(p.limit, ops...)
	}
	done := p.now()
	if errors.Is(err, client.ErrDown) {
		defer Pause(p.over, time.Millisecond) // or all that is counted is how fast it fails
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = true
	if p.pace != nil {
		Record(&t.Slips, slip)
	}
	if c.client == nil && cl != nil {
		counts := cl.Counts()
		t.Refusals += counts.Refusals
		if err == nil {
			Record(&t.ConnectTimes, counts.Dialing)
		}
	}
	switch {
	case err == nil:
		t.Requests++
		t.ResponseTimes.Record(done - due)
		if p.pace != nil {
			Record(&t.ServiceTimes, done-sent)
		}
		t.Answered(len(ops), done-p.start)
	case p.limit.Err() != nil:
		t.Unfinished++
		return
	default:
		t.Fail(errorKind(err), err)
		t.FailedTime += done - due
	}
	if answers != nil { // of a request that failed, the parts that were answered
		t.Check(s.Check(answers))
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

func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
