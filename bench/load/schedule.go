package load

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"lockstep/common/control"
)

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
