package load

import (
	"context"
	"math/rand/v2"
	"time"

	"lockstep/common/metrics"
)

// A schedule is when the requests of an open loop are due: offsets from its start,
// ascending, without end, the same for the same seed. It is not safe for concurrent
// use.
type schedule struct {
	gap  float64    // mean time between two requests, ns
	rand *rand.Rand // Poisson arrivals; nil: constant ones
	at   float64    // the offset after which the next one is due, ns
}

// newSchedule returns a schedule of rate requests a second, rate > 0; arrival is
// "constant" or "poisson", which is what many independent users come to.
func newSchedule(rate float64, arrival string, seed uint64) *schedule {
	s := &schedule{gap: 1e9 / rate}
	if arrival == "poisson" {
		s.rand = rand.New(rand.NewPCG(seed, 1<<63)) // no worker has that number
		s.advance()
	}
	return s
}

// due is the offset at which the next request is due.
func (s *schedule) Due() time.Duration { return time.Duration(s.at) }

// advance goes on to the request after it.
func (s *schedule) advance() {
	if s.rand == nil {
		s.at += s.gap
	} else {
		s.at += s.gap * s.rand.ExpFloat64()
	}
}

// A pacer hands the times of a schedule to the connections of an open loop, in order,
// each when it is due. There is no queue: the schedule is one, of no size. A
// connection that is free takes the next time, waits for it, and sends; one that comes
// late, because all were busy, sends at once, and its response time counts from when
// the request was due. So nothing that was due is ever lost.
//
// One connection at a time waits for the clock, and the others wait for their turn to
// do so, the one that came first before the rest. So a single thread sleeps, as finely
// as the system can; and it sends itself, when it wakes, instead of waking another
// to do so. When several times have passed meanwhile, each connection finds its own
// due, and passes the turn on at once.
type pacer struct {
	turn  chan *schedule // holds the schedule, unless one has its turn with it; a channel serves in order
	start time.Duration  // the schedule's start, by now
	end   time.Duration  // nothing is handed out that is due at this offset or later
	clock
}

// A clock is what a load goes by: that of package metrics, outside of tests.
type clock struct {
	now   func() time.Duration
	sleep func(time.Duration) // may take longer
}

func realClock() clock { return clock{metrics.Now, metrics.Sleep} }

// newPacer returns a pacer that hands out what is due within length from now on.
func newPacer(s *schedule, length time.Duration, c clock) *pacer {
	p := &pacer{turn: make(chan *schedule, 1), start: c.now(), end: length, clock: c}
	p.turn <- s
	return p
}

// next waits until a request is due, and returns when it was, by the clock, when it
// is to be sent, which is now, and the slip: by how much the client itself is late. That a connection was busy is not the
// client's fault: slip counts from when the request was due, or from the call of next
// where that came later. It returns false when the schedule or ctx has ended.
func (p *pacer) Next(ctx context.Context) (due, sent, slip time.Duration, ok bool) {
	free := p.now()
	var s *schedule
	select {
	case s = <-p.turn:
	case <-ctx.Done():
		return 0, 0, 0, false
	}
	defer func() { p.turn <- s }()
	if s.Due() >= p.end {
		return 0, 0, 0, false
	}
	due = p.start + s.Due()
	if !p.wait(ctx, due) {
		return 0, 0, 0, false
	}
	s.advance()
	sent = p.now()
	return due, sent, sent - max(due, free), true
}

// wait returns true when it is due, and false when ctx ends first.
func (p *pacer) wait(ctx context.Context, due time.Duration) bool {
	// A timer can be given up, and is often a millisecond late on an idle Linux
	// (golang/go#53824); sleep is neither.
	const coarse = 2 * time.Millisecond
	if left := due - p.now(); left > 2*coarse {
		timer := time.NewTimer(left - coarse)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		left := due - p.now()
		if left <= 0 {
			return true
		}
		p.sleep(left)
	}
	return false
}

// unsent counts the requests that were due before now, or the end of the schedule, and
// that no connection took. They are part of what a round leaves unfinished. It is
// called when no connection calls next any more, and ends the pacer.
func (p *pacer) unsent() (n int64) {
	s := <-p.turn
	for limit := min(p.end, p.now()-p.start); s.Due() < limit; s.advance() {
		n++
	}
	return n
}
