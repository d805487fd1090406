package load

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestConstantSchedule(t *testing.T) {
	s := newSchedule(1000, "constant", 1)
	for i := range 100_000 {
		if want := time.Duration(i) * time.Millisecond; s.due() != want {
			t.Fatalf("request %d is due at %v, want %v", i, s.due(), want)
		}
		s.advance()
	}
	s = newSchedule(30_000, "constant", 1) // a gap that is not a whole number of nanoseconds
	for range 300_000 {
		s.advance()
	}
	if off := s.due() - 10*time.Second; off.Abs() > time.Microsecond {
		t.Errorf("after 10 s the schedule is off by %v", off)
	}
}

func TestPoissonSchedule(t *testing.T) {
	offsets := func(seed uint64) (all []time.Duration) {
		s := newSchedule(1000, "poisson", seed)
		for range 50_000 {
			all = append(all, s.due())
			s.advance()
		}
		return all
	}
	first := offsets(1)
	if !slices.Equal(first, offsets(1)) {
		t.Error("the same seed gives another schedule the second time")
	}
	if slices.Equal(first, offsets(2)) {
		t.Error("another seed gives the same schedule")
	}
	// The gaps are exponential: each of ten classes of them is as likely as the next.
	counts := make([]int, 10)
	last := time.Duration(0)
	for _, at := range first {
		gap := at - last
		last = at
		counts[int(10*-math.Expm1(-float64(gap)/float64(time.Millisecond)))]++
	}
	for class, n := range counts { // 5000 expected; five standard deviations are 335
		if n < 4665 || n > 5335 {
			t.Errorf("%d gaps of 50 000 are in class %d of 10", n, class)
		}
	}
}

// bubbleClock is the clock of a synctest bubble, whose sleeps end late by this much.
func bubbleClock(late time.Duration) clock {
	began := time.Now()
	return clock{
		now:   func() time.Duration { return time.Since(began) },
		sleep: func(d time.Duration) { <-time.After(d + late) },
		cpu:   func() time.Duration { return 0 },
	}
}

// A release is one request of a pacer, in ms since its start.
type release struct{ due, sent, slip int }

// drive runs workers that take requests from the pacer, each busy for service, until ctx or
// the schedule ends.
func drive(ctx context.Context, p *pacer, workers int, service time.Duration) []release {
	var mu sync.Mutex // guards all
	var all []release
	var wg sync.WaitGroup
	late := make([]time.Duration, workers) // by the request before
	ms := func(d time.Duration) int { return int(d / time.Millisecond) }
	for w := range workers {
		wg.Go(func() {
			for {
				r, ok := p.next(ctx, late[w])
				if !ok {
					return
				}
				late[w] = r.slip
				mu.Lock()
				all = append(all, release{ms(r.due - p.start), ms(r.sent - p.start), ms(r.slip)})
				mu.Unlock()
				if service > 0 {
					<-time.After(service)
				}
			}
		})
	}
	wg.Wait()
	return all
}

func TestPacer(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name                  string
		workers               int
		length, service, late time.Duration // of a schedule with a gap of 10 ms
		want                  []release
	}{
		{"a free connection", 1, 40 * ms, 0, 0, []release{{0, 0, 0}, {10, 10, 0}, {20, 20, 0}, {30, 30, 0}}},
		{"the connection is busy", 1, 40 * ms, 25 * ms, 0, []release{{0, 0, 0}, {10, 25, 0}, {20, 50, 0}, {30, 75, 0}}},
		{"one of two is free", 2, 40 * ms, 15 * ms, 0, []release{{0, 0, 0}, {10, 10, 0}, {20, 20, 0}, {30, 30, 0}}},
		{"the clock is late", 1, 40 * ms, 0, 3 * ms, []release{{0, 0, 0}, {10, 13, 3}, {20, 23, 3}, {30, 33, 3}}},
		{"the clock is late for several", 3, 40 * ms, 0, 25 * ms,
			[]release{{0, 0, 0}, {10, 35, 25}, {20, 35, 15}, {30, 35, 5}}},
		// Without the clock, the connection would have been back at 15 and 25, when nothing was due.
		{"both", 1, 40 * ms, 5 * ms, 20 * ms, []release{{0, 0, 0}, {10, 30, 20}, {20, 35, 15}, {30, 40, 10}}},
		// Without the clock, it would have been back at 35 and 60: only the rest is the clock's.
		{"a busy connection and the clock", 1, 40 * ms, 25 * ms, 3 * ms, []release{{0, 0, 0}, {10, 25, 0}, {20, 50, 0}, {30, 75, 0}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPacer(newSchedule(100, "constant", 1), test.length, bubbleClock(test.late))
				got := drive(t.Context(), p, test.workers, test.service)
				slices.SortFunc(got, func(a, b release) int { return a.due - b.due })
				if !slices.Equal(got, test.want) {
					t.Errorf("releases (due, sent, slip) = %v, want %v", got, test.want)
				}
				if n, end := p.close(); n != 0 || end != test.length {
					t.Errorf("%d unsent of a schedule that was served to its end, %v", n, end)
				}
			})
		})
	}
}

// After one stall of the client, every request that was due in it is late, and not only the
// first of each connection: those after them wait for answers that a prompt client would have
// had in time.
func TestLateIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		c := bubbleClock(0)
		sleep := c.sleep
		c.sleep = func(d time.Duration) {
			if sleep(d); c.now() >= 500*ms && c.now() < 700*ms {
				sleep(700*ms - c.now())
			}
		}
		p := newPacer(newSchedule(500, "constant", 1), time.Second, c)
		late, sum := 0, 0
		for _, r := range drive(t.Context(), p, 8, ms) {
			if r.due < 500 && r.slip > 0 || r.slip > r.sent-r.due {
				t.Errorf("%+v, but the stall is from 500 to 700 ms", r)
			}
			if r.slip > 1 {
				late, sum = late+1, sum+r.slip
			}
		}
		if late < 98 || late > 115 || sum < 100*95 {
			t.Errorf("%d requests are late, by %d ms in all, want the 100 that were due in the stall, by 100 ms on average", late, sum)
		}
	})
}
