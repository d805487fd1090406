package load

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A phase is a time of load on all connections: the warm-up, or a round.
type phase struct {
	*Generator
	start time.Duration   // by the clock
	pace  *pacer          // open loop; nil in a closed one
	left  atomic.Int64    // operations left to send
	stuck *time.Timer     // gives up when it is not reset; nil if time ends the phase
	lull  time.Duration   // longest time between two requests of a phase that goes on
	limit context.Context // ends when requests in flight are given up
	over  context.Context // ends when no more requests are sent, at the latest with limit
	end   func()          // ends over
}

// run puts load on the servers for length or, if that is 0, until exactly ops operations are
// done, at the workload's rate or, if that is 0, as fast as answers come. The result counts what was
// asked for in that time, even if it was sent or answered later, within the grace. The end of ctx
// ends run at once.
func (g *Generator) run(ctx context.Context, length time.Duration, ops int) *Result {
	limit, giveUp := context.WithCancel(ctx)
	defer giveUp()
	over, end := context.WithCancel(limit)
	w := g.cfg.Workload
	p := &phase{Generator: g, start: g.clock.now(), limit: limit, over: over, end: end, lull: g.patience}
	if length > 0 {
		ops = math.MaxInt - w.Batch // as many as there is time for
		defer time.AfterFunc(length+g.Grace, giveUp).Stop()
	}
	p.left.Store(int64(ops))
	if w.Rate > 0 {
		s := newSchedule(w.Rate, w.Arrival, g.arrivals)
		s.left = (ops + w.Batch - 1) / w.Batch
		p.pace = newPacer(s, cmp.Or(length, never), g.clock)
		p.lull += time.Duration(20e9 / w.Rate) // a gap is longer once in e^20 by chance
	}
	switch {
	case length > 0 && (w.Rate == 0 || g.warming):
		defer time.AfterFunc(length, end).Stop()
	case length == 0:
		p.stuck = time.AfterFunc(p.lull, giveUp)
		defer p.stuck.Stop()
	}
	g.arrivals += 1 << 32
	sum := new(Result)
	var workers, watcher sync.WaitGroup
	watcher.Go(func() { sum.watch(limit, g.clock) }) // ends with limit
	for _, c := range g.conns {
		c.tally = &Result{Counts: Counts{Connections: 1}}
		for _, s := range c.sources {
			workers.Go(func() { p.work(c, s) }) // ends with the phase
		}
	}
	if g.Told != nil && !g.warming {
		watcher.Go(func() { p.tell(limit) }) // ends with limit
	}
	workers.Wait()
	sum.Dur = g.clock.now() - p.start
	giveUp()
	watcher.Wait()
	for _, c := range g.conns {
		r := c.tally
		select {
		case <-c.greeted:
			if r.Requests == 0 && r.Errors[client.ErrBusy.Error()] == 0 && r.Failed()+r.Unfinished > 0 {
				r.Starved = 1
			}
		default:
			r.NeverGreeted, r.Starved = 1, 1
		}
		sum.Merge(r)
	}
	if p.pace != nil {
		unsent, lasts := p.pace.close()
		sum.Unfinished += unsent
		if ctx.Err() == nil {
			sum.Dur = max(sum.Dur, lasts)
		}
	}
	return sum
}

// tell tells what came of the last second's requests, first after a quarter of one, until ctx
// ends. It reads what the connections count anyway.
func (p *phase) tell(ctx context.Context) {
	before, failed, ok := new(metrics.Histogram), int64(0), int64(0)
	for every := time.Second / 4; ; every = time.Second {
		began := p.clock.now()
		control.Pause(ctx, every)
		if ctx.Err() != nil {
			return
		}
		now := new(Result)
		for _, c := range p.conns {
			c.mu.Lock()
			now.Add(c.tally.Counts)
			now.ResponseTimes.Merge(&c.tally.ResponseTimes)
			c.mu.Unlock()
		}
		now.ResponseTimes.Sub(before)
		before.Merge(&now.ResponseTimes)
		p.Told(float64(now.OK-ok)/(p.clock.now()-began).Seconds(), now.ResponseTimes.Quantile(0.99), now.Failed()-failed)
		failed, ok = now.Failed(), now.OK
	}
}

// work is the request loop. It keeps one request of the connection in flight.
func (p *phase) work(c *connection, s *workload.Source) {
	select {
	case <-c.greeted:
	case <-p.over.Done():
		return
	}
	for r := p.next(0); r.ops > 0; r = p.next(r.slip) {
		p.request(c, s, r)
	}
	p.end() // for connections that are never greeted
}

// A request is when a request was due and when it is sent, which are the same in a closed
// loop, how late the client itself is, and the number of operations.
type request struct {
	due, sent, slip time.Duration
	ops             int
}

// next waits until a connection's next request is to be sent, whose last one was late. A
// request without operations means that the phase is over.
func (p *phase) next(late time.Duration) (r request) {
	if p.over.Err() != nil || p.limit.Err() != nil { // over follows limit, but a moment later
		return r
	}
	if p.stuck != nil {
		p.stuck.Reset(p.lull)
	}
	now, ok := p.clock.now(), true
	r = request{due: now, sent: now}
	if p.pace != nil {
		r, ok = p.pace.next(p.over, late)
	}
	if ok {
		batch := int64(p.cfg.Workload.Batch)
		r.ops = int(min(max(p.left.Add(-batch)+batch, 0), batch))
	}
	return r
}

// request sends the source's next request and counts what came of it.
func (p *phase) request(c *connection, s *workload.Source, r request) {
	ops := s.Next(r.ops)
	cl, err := c.client, error(nil)
	if c.client == nil {
		if cl, err = p.target.Open(p.limit); err == nil {
			defer cl.Close()
		}
	}
	var answers []wire.Result
	if err == nil {
		do := cl.Do
		if s.Once {
			do = cl.Once
		}
		answers, err = do(p.limit, ops...)
	}
	done := p.clock.now()
	if errors.Is(err, client.ErrDown) {
		defer control.Pause(p.over, time.Millisecond) // so as not to count only how fast it fails
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally
	if cl != nil {
		counts := cl.Counts()
		t.Refusals += counts.Refusals - c.counts.Refusals
		t.RefusedDials += counts.Refused - c.counts.Refused
		if c.client != nil {
			c.counts = counts
		} else if t.FailedDials.Add(counts.FailedDials); err == nil {
			Record(&t.ConnectTimes, counts.Dialing)
		} else {
			t.NotServed = cmp.Or(t.NotServed, refusal(err))
		}
	}
	outcome := Answered
	switch {
	case err == nil:
		t.Requests++
		t.ResponseTimes.Record(done - r.due)
		if p.pace != nil {
			Record(&t.ServiceTimes, done-r.sent)
			Record(&t.Slips, r.slip)
		}
		t.Answered(len(ops), done-p.start)
	case p.limit.Err() != nil:
		t.Unfinished++
		outcome, answers = unfinished, nil
	default:
		outcome = errorKind(err)
		t.Fail(outcome, err)
		t.FailedTime += done - r.due
	}
	if p.sampled {
		t.sample(2*MaxSamples, Sample{r.due - p.start, r.sent - p.start, done - p.start, outcome})
	}
	if answers != nil { // of a request that failed, the parts that were answered
		t.Answers.Add(s.Check(answers))
	}
}

// A schedule is the sequence of the times at which the requests of an open loop are due, as
// offsets from its start. The same seed gives the same sequence. Not safe for
// concurrent use.
type schedule struct {
	gap  func() float64 // draws the time between two requests, ns
	at   float64        // offset of the next request, ns
	left int            // requests from here to the end of the schedule
}

// newSchedule returns an endless schedule of rate > 0 requests a second. arrival is "constant" or
// "poisson", which is how many independent users behave.
func newSchedule(rate float64, arrival string, seed uint64) *schedule {
	mean := 1e9 / rate
	if arrival == "constant" {
		return &schedule{func() float64 { return mean }, 0, math.MaxInt}
	}
	r := rand.New(rand.NewPCG(seed, 1<<63)) // no worker has this stream
	gap := func() float64 { return mean * r.ExpFloat64() }
	return &schedule{gap, gap(), math.MaxInt}
}

// due returns the offset at which the next request is due, or never.
func (s *schedule) due() time.Duration {
	if s.left == 0 || s.at >= float64(never/2) { // so that a start can be added
		return never
	}
	return time.Duration(s.at)
}

const never time.Duration = math.MaxInt64

// advance moves to the next request.
func (s *schedule) advance() {
	s.at += s.gap()
	s.left--
}

// A pacer hands the times of a schedule to the connections of an open loop, in order. A
// connection that is free takes the next time, waits until it is due, and sends. If all
// connections were busy, one takes the time late and sends at once; its response time still counts
// from when the request was due. So every request that was due is counted.
//
// One connection at a time waits for the clock, and the others wait for their turn in the
// order in which they came. So one thread sleeps, as precisely as the system can, and
// sends when it wakes, without waking another thread first. If several times have passed
// meanwhile, each connection finds its own due and passes the turn on at once.
type pacer struct {
	turn  chan *schedule // holds the schedule while no connection has its turn; a channel serves in order
	start time.Duration  // the schedule's start, by now
	end   time.Duration  // offset at which the schedule ends
	clock
}

// A clock tells the time; outside of tests it is that of package metrics.
type clock struct {
	now   func() time.Duration
	sleep func(time.Duration)  // for d or longer
	cpu   func() time.Duration // that the process has used
}

// newPacer returns a pacer that starts now and ends after length.
func newPacer(s *schedule, length time.Duration, c clock) *pacer {
	p := &pacer{turn: make(chan *schedule, 1), start: c.now(), end: length, clock: c}
	p.turn <- s
	return p
}

// next waits until a request is due. It returns when it was due and when it is sent, both by
// the clock, and the slip: how late the client itself is. A connection that was busy is not
// the client's fault, so slip counts from when the request was due or the connection was
// free, whichever is later. But a connection is only this late because the request before
// was: late is the slip of that one, without which the connection would have been free
// earlier. So after a stall of the client, all that was due meanwhile counts as late, and
// not only the first request of each connection. next returns false when the schedule or
// ctx has ended.
func (p *pacer) next(ctx context.Context, late time.Duration) (r request, ok bool) {
	free := p.now() - late
	var s *schedule
	select {
	case s = <-p.turn:
	case <-ctx.Done():
		return r, false
	}
	defer func() { p.turn <- s }()
	if r.due = p.start + s.due(); s.due() >= p.end || !p.wait(ctx, r.due) {
		return r, false
	}
	s.advance()
	r.sent = p.now()
	r.slip = r.sent - max(r.due, free)
	return r, true
}

// wait waits until due and returns true, or false if ctx ends first.
func (p *pacer) wait(ctx context.Context, due time.Duration) bool {
	// A timer can be stopped, but is often a millisecond late on an idle Linux
	// (golang/go#53824). A sleep cannot be stopped, and is precise.
	const coarse = 2 * time.Millisecond
	for left := due - p.now(); left > 0 && ctx.Err() == nil; left = due - p.now() {
		if left > 2*coarse {
			control.Pause(ctx, left-coarse)
		} else {
			p.sleep(left)
		}
	}
	return ctx.Err() == nil
}

// close ends the pacer, when no connection calls next any more. It returns the number of
// requests that were due before now and the end of the schedule and that no connection took,
// and the offset at which the next one would be due, or the end of the schedule.
func (p *pacer) close() (unsent int64, end time.Duration) {
	s := <-p.turn
	for limit := min(p.end, p.now()-p.start); s.due() < limit; s.advance() {
		unsent++
	}
	return unsent, min(p.end, time.Duration(math.Round(s.at)))
}
