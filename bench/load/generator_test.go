package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/wire"
)

// These tests show that the generator measures correctly. The servers take a known time, and
// the clock stands still during computations, so measurements must equal arithmetic, up to
// the 0.8 % by which a histogram may be above.

// A knownServer is a client whose requests take as long as serve and get right answers.
type knownServer struct {
	apply func([]wire.Op) []wire.Result
	serve func(ctx context.Context) error
	onces atomic.Int64 // calls of Once
}

func (k *knownServer) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	if err := k.serve(ctx); err != nil {
		return nil, err
	}
	ops = slices.Clone(ops)
	for i := range ops { // whose values the next request changes
		ops[i].Value = bytes.Clone(ops[i].Value)
	}
	return k.apply(ops), nil
}

func (k *knownServer) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	k.onces.Add(1)
	return k.Do(ctx, ops...)
}

func (k *knownServer) Counts() (none client.Counts) { return none }
func (k *knownServer) Close() error                 { return nil }

// newKnownLoad returns a generator for a known server, with the clock of a synctest bubble.
func newKnownLoad(t *testing.T, serve func(ctx context.Context) error, change func(*cluster.Workload)) *Generator {
	t.Helper()
	w := cluster.Default().Workload
	w.Keys = 50
	change(&w)
	work := newWorkload(t, w)
	k := &knownServer{apply: benchtest.Locked(nil), serve: serve}
	k.apply(work.Preload(0, work.Keys))
	l := &Generator{cfg: cluster.Config{Workload: work.Workload}, Grace: 5 * time.Second, patience: 2 * time.Second,
		clock: bubbleClock(0), arrivals: work.Seed}
	for i := range work.Connections {
		c := &connection{greeted: make(chan struct{}), client: k, sources: []*workload.Source{work.Source(i)}}
		close(c.greeted)
		l.conns = append(l.conns, c)
	}
	return l
}

// wait waits by the clock of the bubble.
func wait(ctx context.Context, d time.Duration) error {
	if d > 0 {
		control.Pause(ctx, d)
	}
	return ctx.Err()
}

// stalls returns a server that stalls at the start of each second from now on, and otherwise
// takes service.
func stalls(stall, service time.Duration) func(context.Context) error {
	began := time.Now()
	return func(ctx context.Context) error {
		return wait(ctx, max(stall-time.Since(began)%time.Second, 0)+service)
	}
}

// wantQuantile checks a quantile of what was measured.
func wantQuantile(t *testing.T, what string, r *Result, q float64, want time.Duration) {
	t.Helper()
	if got := r.ResponseTimes.Quantile(q); got < want || got > want+want/128 {
		t.Errorf("%s: quantile %v is %v, want %v", what, q, got, want)
	}
}

// dueTimes are the offsets of a schedule.
func dueTimes(w cluster.Workload, length time.Duration) (all []time.Duration) {
	for s := newSchedule(w.Rate, w.Arrival, w.Seed); s.due() < length; s.advance() {
		all = append(all, s.due())
	}
	return all
}

// An open loop sees a server stall for 100 ms each second: the requests that are due meanwhile
// wait for the rest of the stall, evenly from 0 to 100 ms.
func TestOpenLoopSeesStalls(t *testing.T) {
	const stall, length = 100 * time.Millisecond, 1100 * time.Millisecond
	for arrival, connections := range map[string]int{"constant": 1, "poisson": 50} {
		synctest.Test(t, func(t *testing.T) {
			l := newKnownLoad(t, stalls(stall, 0), func(w *cluster.Workload) {
				w.Connections, w.Rate, w.Arrival = connections, 200, arrival
			})
			due := dueTimes(l.cfg.Workload, length)
			l.sampled = connections > 1
			r := l.run(t.Context(), length, 0)
			if n := len(r.Samples); l.sampled && n != len(due) || !l.sampled && n != 0 {
				t.Errorf("%s: %d samples of %d requests, want all, or none", arrival, n, len(due))
			}
			for _, s := range r.Samples {
				_, found := slices.BinarySearch(due, s.Due)
				if end := s.Due + max(stall-s.Due%time.Second, 0); !found || s.Done != end || s.Sent < s.Due || s.Outcome != "answered" {
					t.Errorf("%s: sample %+v: not due then, or not answered when the stall was over", arrival, s)
				}
			}
			if r.Requests != int64(len(due)) || r.Unfinished != 0 || r.Wrong != 0 || r.Misses != 0 {
				t.Errorf("%s: %d answered, %d unfinished, %d wrong (%v), want %d answered",
					arrival, r.Requests, r.Unfinished, r.Wrong, r.FirstWrong, len(due))
			}
			for i, at := range due { // becomes how long its answer took
				due[i] = max(stall-at%time.Second, 0)
			}
			slices.Sort(due)
			for _, q := range []float64{0.5, 0.9, 0.95, 0.99, 0.999, 1} {
				wantQuantile(t, arrival, r, q, due[max(int(q*float64(len(due))+0.999999)-1, 0)])
			}
			if late := r.Slips.Max(); late != 0 {
				t.Errorf("%s: the client was late by %v, want 0: only the server stalled", arrival, late)
			}
		})
	}
}

// A closed loop sees one slow request in each stall, which hardly shows: coordinated omission.
func TestClosedLoopMissesStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newKnownLoad(t, stalls(100*time.Millisecond, 5*time.Millisecond), func(w *cluster.Workload) { w.Connections = 1 })
		r := l.run(t.Context(), 2*time.Second-time.Microsecond, 0) // when nothing else happens
		if r.Requests != 360 {                                     // in each second one for 105 ms, and 179 for 5 ms
			t.Errorf("%d requests, want 360", r.Requests)
		}
		wantQuantile(t, "closed loop", r, 0.994, 5*time.Millisecond)
		wantQuantile(t, "closed loop", r, 1, 105*time.Millisecond)
	})
}

// known returns a server that takes 1 ms for half of the requests, 2 ms for 40 %, 5 ms for 9 %
// and 10 ms for 1 %.
func known() func(context.Context) error {
	var served atomic.Int64
	return func(ctx context.Context) error {
		switch i := served.Add(1) % 100; {
		case i >= 99:
			return wait(ctx, 10*time.Millisecond)
		case i >= 90:
			return wait(ctx, 5*time.Millisecond)
		case i >= 50:
			return wait(ctx, 2*time.Millisecond)
		}
		return wait(ctx, time.Millisecond)
	}
}

func TestKnownServiceTimes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*cluster.Workload){
		"closed loop":                  func(w *cluster.Workload) { w.Connections = 4 },
		"closed loop of one":           func(w *cluster.Workload) { w.Connections = 1 },
		"open loop, constant arrivals": func(w *cluster.Workload) { w.Connections, w.Rate, w.Batch = 16, 1000, 2 },
		"open loop, poisson arrivals":  func(w *cluster.Workload) { w.Connections, w.Rate, w.Arrival = 16, 1000, "poisson" },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newKnownLoad(t, known(), change)
			r := l.run(t.Context(), 0, 1000)
			for q, ms := range map[float64]time.Duration{0.25: 1, 0.49: 1, 0.51: 2, 0.89: 2, 0.91: 5, 0.98: 5, 0.995: 10, 1: 10} {
				wantQuantile(t, name, r, q, ms*time.Millisecond)
			}
			if r.OK != 1000 {
				t.Errorf("%s: %d operations, want 1000", name, r.OK)
			}
			if mean := r.ResponseTimes.Mean(); mean < 1840*time.Microsecond || mean > 1860*time.Microsecond {
				t.Errorf("%s: the mean is %v, want 1.85ms", name, mean)
			}
			if connections := float64(len(l.conns)); l.cfg.Workload.Rate == 0 && (r.InFlight() < 0.97*connections || r.InFlight() > connections) {
				t.Errorf("%s: by Little's law %v are in flight, want %v", name, r.InFlight(), connections)
			}
		})
	}
}

// The generator notices that it did not run: here its clock jumps by 200 ms each second, as it
// does when the process is stopped, and by 15 ms in between, as it does on a busy machine. A
// client that uses CPU time during the jumps does run.
func TestStallsOfTheClient(t *testing.T) {
	for busy, want := range map[bool]time.Duration{false: 200 * time.Millisecond, true: 0} {
		synctest.Test(t, func(t *testing.T) {
			l := newKnownLoad(t, stalls(0, 9*time.Millisecond), func(w *cluster.Workload) { w.Connections = 1 })
			steady := l.clock.now
			jumps := func() time.Duration {
				d := steady()
				return d + d.Truncate(time.Second)/5 + (d+time.Second/2).Truncate(time.Second)*15/1000
			}
			l.clock.now, l.clock.cpu = jumps, steady
			if busy {
				l.clock.cpu = func() time.Duration { return jumps() * 6 / 10 }
			}
			r := l.run(t.Context(), 2700*time.Millisecond, 0)
			if r.Stalled < 2*want || r.Stalled > 2*want+2*want/20 || r.Stall < want || r.Stall > want+want/20 {
				t.Errorf("busy %v: stalled for %v, for %v at a time, want %v and %v", busy, r.Stalled, r.Stall, 2*want, want)
			}
		})
	}
}

// Where every request fails, there is no response time, so the client is not late in it, and
// the round has failed. A connection that is refused is not starved.
func TestNobodyIsAnswered(t *testing.T) {
	full := Refusal{errors.New("OOM command not allowed")}
	for _, test := range []struct {
		rate    float64
		fault   error
		starved int
	}{{0, full, 8}, {100, full, 8}, {0, client.ErrBusy, 0}} {
		synctest.Test(t, func(t *testing.T) {
			l := newKnownLoad(t, func(ctx context.Context) error {
				wait(ctx, time.Millisecond)
				return test.fault
			}, func(w *cluster.Workload) { w.Rate = test.rate })
			l.conns[0].sources[0].Once = true // of all sources
			late := l.clock.sleep
			l.clock.sleep = func(d time.Duration) { late(d + 60*time.Millisecond) }
			r := l.run(t.Context(), 0, 100)
			if r.Failed() != 100 || r.Errors[errorKind(test.fault)] != 100 || r.Requests != 0 ||
				r.Starved != test.starved || r.Slips != nil {
				t.Errorf("%+v: errors %v, %d answered, %d starved, slips %v, want 100, 0 and none",
					test, r.Errors, r.Requests, r.Starved, r.Slips)
			}
			if once := l.conns[0].client.(*knownServer).onces.Load(); once != 100 || r.FailedTime < 100*time.Millisecond {
				t.Errorf("%+v: %d requests were sent but once, in %v, want all, in 1ms each", test, once, r.FailedTime)
			}
			if err := r.Broken(); err == nil || !strings.Contains(err.Error(), "no request was answered: "+test.fault.Error()) {
				t.Errorf("%+v: the round has the error %v", test, err)
			}
		})
	}
}

// What is told while a round runs is of the last second only; of the warm-up nothing is told.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fast atomic.Bool
		requests := 0
		l := newKnownLoad(t, func(ctx context.Context) error {
			if requests++; fast.Load() {
				return wait(ctx, 4*time.Millisecond)
			}
			if wait(ctx, 9*time.Millisecond); requests%5 == 0 && !fast.Load() {
				return errors.New("no")
			}
			return nil
		}, func(w *cluster.Workload) { w.Connections, w.Duration = 1, 2500*time.Millisecond })
		var told []string
		l.Told = func(opsPerSecond float64, p99 time.Duration, failed int64) {
			told = append(told, fmt.Sprintf("%.2g/s %v %d", opsPerSecond, p99.Round(time.Millisecond), failed))
			fast.Store(len(told) == 2)
		}
		l.warmUp(t.Context())
		r := l.run(t.Context(), l.cfg.Workload.Duration, 0)
		const want = "88/s 9ms 5, 89/s 9ms 22, 2.5e+02/s 4ms 0"
		if got := strings.Join(told, ", "); got != want || r.Requests < 250 {
			t.Errorf("%d requests, of which was told %q, want %q", r.Requests, got, want)
		}
	})
}

// A worker is a server, and its target, that works for each key that is there. It greets so
// many clients.
type worker struct {
	Target
	*knownServer
	places, requests atomic.Int64
	work, longest    time.Duration // of a key, and of a request
}

// newWorker returns a worker that takes 1 ms for each request.
func newWorker(cfg cluster.Config, places int64) *worker {
	serve := func(ctx context.Context) error { return wait(ctx, time.Millisecond) }
	s := &worker{Target: NewLockstep(cfg), knownServer: &knownServer{apply: benchtest.Locked(nil), serve: serve}}
	s.places.Store(places)
	return s
}

func (s *worker) Dial(ctx context.Context) (Client, error) {
	if s.places.Add(-1) < 0 {
		<-ctx.Done()
	}
	return s, ctx.Err()
}

func (s *worker) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	s.requests.Add(1)
	results, err := s.knownServer.Do(ctx, ops...)
	if s.work == 0 || results[0].Status != wire.Replaced { // as all the others
		return results, err
	}
	took := time.Duration(len(ops)) * s.work
	s.longest = max(s.longest, took)
	return results, wait(ctx, took)
}

// Keys are stored whatever the work of the server, a second at a time, and the time that is
// left is known.
func TestPreloadOfServersThatWork(t *testing.T) {
	for _, work := range []time.Duration{0, 10 * time.Millisecond, 400 * time.Millisecond, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkload(t, cluster.Workload{Keys: 100, Value: cluster.Bytes(30), Dist: "uniform"})
			s := &worker{knownServer: &knownServer{apply: benchtest.Locked(nil), serve: stalls(0, 0)}, work: work}
			var told []time.Duration
			for range 2 {
				s.places.Store(2)
				s.requests.Store(0)
				began := time.Now()
				s.longest, told = 0, nil
				if err := Preload(t.Context(), s, w, func(_ string, left time.Duration) { told = append(told, left) }); err != nil {
					t.Fatalf("work of %v: %v after %v", work, err, time.Since(began))
				}
			}
			first, last, requests := told[0], told[len(told)-1], int(s.requests.Load())
			if s.longest > max(time.Second, work) || work == 0 && requests > 12 || len(told) != requests || first != 99*work || last != 0 {
				t.Errorf("work of %v: %d requests, the longest of %v, and %v to %v left", work, requests, s.longest, first, last)
			}
			s.work = time.Hour
			began := time.Now()
			if err := Preload(t.Context(), s, w, func(string, time.Duration) {}); !errors.Is(err, ErrNoAnswer) ||
				time.Since(began) > 3*time.Minute {
				t.Errorf("a server that is stuck: error %v after %v", err, time.Since(began))
			}
		})
	}
}

// New gives up when no connection is greeted for long, or at the end of ctx, and says why.
func TestNobodyGreets(t *testing.T) {
	for _, test := range []struct {
		patience, took time.Duration // of ctx, and of New
		want           string
	}{{time.Hour, ConnectTime, "the server serves others"}, {time.Second, time.Second, context.DeadlineExceeded.Error()}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.patience)
			defer cancel()
			cfg, began := cluster.Default(), time.Now()
			_, err := New(ctx, &worker{Target: NewLockstep(cfg)}, newWorkload(t, cfg.Workload), 0)
			if took := time.Since(began); took != test.took || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("error %v after %v, want %q after %v", err, took, test.want, test.took)
			}
		})
	}
}

// The connections of a server that serves one client at a time starve, but one.
func TestStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cluster.Default()
		cfg.Workload.Connections = 3
		l := connected(t, newWorker(cfg, 1))
		l.clock = bubbleClock(0)
		for _, test := range []struct {
			length time.Duration
			rate   float64
			want   int64 // requests, of 1 ms each
		}{{50*time.Millisecond - 1, 0, 50}, {0, 0, 100}, {50 * time.Millisecond, 500, 25}} {
			l.cfg.Workload.Rate = test.rate
			r := l.run(t.Context(), test.length, 100)
			if r.Connections != 3 || r.Starved != 2 || r.NeverGreeted != 2 || r.Requests != test.want {
				t.Errorf("%+v: %d of %d starve, %d never greeted, %d answers, want 2 of 3, 2",
					test, r.Starved, r.Connections, r.NeverGreeted, r.Requests)
			}
		}
	})
}

// When requests are full, keys are stored by as many clients as are greeted. The failure of
// one of them ends them all, and so does Ctrl-C, here after 205 ms.
func TestPreloadTogether(t *testing.T) {
	broken := errors.New("node 1: gone")
	for _, test := range []struct {
		places, last int64         // the last request before the servers hang
		want         error         // of the last request
		took         time.Duration // 10 ms a request: of 1 to 32 keys, and 9 others
	}{
		{1, 99, nil, 150 * time.Millisecond},
		{9, 99, nil, 90 * time.Millisecond},
		{9, 11, broken, 70 * time.Millisecond},
		{9, 15, broken, 80 * time.Millisecond},
		{9, 11, context.DeadlineExceeded, 205 * time.Millisecond},
		{9, 99, ErrWrong, 10 * time.Millisecond}, // of the first
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkload(t, cluster.Workload{Keys: 9 << 6, Value: cluster.Bytes(30), Dist: "uniform"})
			w.Full = 1 << 6
			s, apply := new(worker), benchtest.Locked(nil)
			s.places.Store(test.places)
			var failed atomic.Bool
			s.knownServer = &knownServer{apply: apply, serve: func(ctx context.Context) error {
				switch {
				case s.requests.Load() < test.last:
					return wait(ctx, 10*time.Millisecond)
				case test.want == broken && failed.CompareAndSwap(false, true):
					return broken
				}
				return wait(ctx, time.Hour)
			}}
			if test.want == ErrWrong {
				s.apply = func(ops []wire.Op) []wire.Result { return make([]wire.Result, len(ops)) }
			}
			ctx, cancel := context.WithTimeout(t.Context(), 205*time.Millisecond)
			defer cancel()
			began, told := time.Now(), ""
			err := Preload(ctx, s, w, func(what string, _ time.Duration) { told = what })
			took := time.Since(began)
			missing := err == nil && slices.ContainsFunc(apply(w.Preload(0, w.Keys)),
				func(r wire.Result) bool { return r.Status != wire.Replaced })
			if !errors.Is(err, test.want) || took != test.took || missing ||
				err == nil && told != "storing keys: 576 of 576" {
				t.Errorf("%d places, last %d: error %v after %v, want %v after %v; keys are missing: %v; told %q",
					test.places, test.last, err, took, test.want, test.took, missing, told)
			}
		})
	}
}

// If more is due than the server can do, throughput is what it can do, the rest is unfinished,
// and response times include the wait. A warm-up ends on time: the backlog is dropped, only the
// request in flight is waited for. The round works its own off within the grace.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newKnownLoad(t, stalls(0, 15*time.Millisecond), func(w *cluster.Workload) {
			w.Connections, w.Rate, w.Duration = 1, 1000, 4*time.Second
		})
		l.Grace = 505 * time.Millisecond
		if warm := l.warmUp(t.Context()); warm.Requests != 67 || warm.Dur != 1005*time.Millisecond {
			t.Errorf("%d answered in a warm-up of %v, want 67 in 1.005s", warm.Requests, warm.Dur)
		}
		r := l.run(t.Context(), time.Second, 0)
		if r.Requests != 100 || r.Unfinished != 900 || r.Dur != 1505*time.Millisecond {
			t.Errorf("%d answered, %d unfinished in %v, want 100 and 900 of the 1000 that were due, in 1.505s",
				r.Requests, r.Unfinished, r.Dur)
		}
		// Request i was due at i ms, and answered at 15 (i + 1).
		wantQuantile(t, "overload", r, 0.5, (14*49+15)*time.Millisecond)
		wantQuantile(t, "overload", r, 1, (14*99+15)*time.Millisecond)
	})
}

// The number of operations ends an open loop, and not a time by which they should be done.
func TestOpenLoopOps(t *testing.T) {
	for _, arrival := range []string{"constant", "poisson"} {
		for _, n := range []int{6, 7, 100} {
			synctest.Test(t, func(t *testing.T) {
				l := newKnownLoad(t, known(), func(w *cluster.Workload) { w.Rate, w.Arrival, w.Batch = float64(n), arrival, n%4+1 })
				r := l.run(t.Context(), 0, n)
				batches := (n + n%4) / (n%4 + 1)
				if r.OK != int64(n) || r.Requests != int64(batches) || r.Unfinished != 0 {
					t.Errorf("%d operations with %s arrivals: %d done by %d requests, %d unfinished", n, arrival, r.OK, r.Requests, r.Unfinished)
				}
				if lasts := time.Duration(batches) * time.Second / time.Duration(n); arrival == "constant" && (r.Dur-lasts).Abs() > time.Microsecond {
					t.Errorf("%d of %d requests a second took %v, want %v", batches, n, r.Dur, lasts)
				}
			})
		}
	}
}

// A load that makes no progress is given up: when its time and the grace are over, after its
// patience, or at the end of ctx, which here is after 5 s. What was due is unfinished then.
func TestGivenUp(t *testing.T) {
	for _, test := range []struct {
		rate       float64
		length     time.Duration
		ops        int
		answers    int64 // of the server, before it is stuck
		unfinished int64
		starved    int // of 8 connections
		took       time.Duration
	}{
		{0, time.Second, 0, 3, 8, 5, 1500 * time.Millisecond},
		{0, time.Hour, 0, 0, 8, 8, 5 * time.Second},
		{0.01, time.Hour, 0, 0, 1, 1, 5 * time.Second},
		{0, 0, 1000, 0, 8, 8, 2 * time.Second},
		{100, 0, 100, 0, 100, 8, 2200 * time.Millisecond},
		{0.25, 0, 1000, 9, 0, 0, 5 * time.Second}, // answered at 0 and 4 s, which is in time
	} {
		synctest.Test(t, func(t *testing.T) {
			var taken atomic.Int64
			l := newKnownLoad(t, func(ctx context.Context) error {
				if taken.Add(1) > test.answers {
					return wait(ctx, 10*time.Hour)
				}
				return wait(ctx, time.Millisecond)
			}, func(w *cluster.Workload) { w.Rate = test.rate })
			l.Grace = 500 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			r := l.run(ctx, test.length, test.ops)
			answered := min(taken.Load(), test.answers)
			if r.Requests != answered || r.Unfinished != test.unfinished || r.Starved != test.starved || r.Errors != nil ||
				r.Dur < test.took || r.Dur > test.took+time.Second/5 {
				t.Errorf("%+v: %d answered, %d unfinished, %d starved, errors %v after %v, want %d answered",
					test, r.Requests, r.Unfinished, r.Starved, r.Errors, r.Dur, answered)
			}
		})
	}
}

// The round has a schedule of its own: what the warm-up could not do is not sent later.
func TestNothingBurstsAfterWarmUp(t *testing.T) {
	for arrival, stall := range map[string]time.Duration{"constant": 3 * time.Second, "poisson": time.Hour} { // within the grace, and forever
		what := fmt.Sprintf("%s arrivals, a stall of %v", arrival, stall)
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			stalledUntil := start.Add(stall)
			var mu sync.Mutex // guards sent
			var sent []time.Duration
			l := newKnownLoad(t, func(ctx context.Context) error {
				mu.Lock()
				sent = append(sent, time.Since(start))
				mu.Unlock()
				return wait(ctx, time.Until(stalledUntil))
			}, func(w *cluster.Workload) {
				w.Connections, w.Rate, w.Arrival, w.Duration = 4, 100, arrival, 4*time.Second
			})
			w := l.cfg.Workload
			if r := l.warmUp(t.Context()); r.Requests+r.Unfinished != int64(len(dueTimes(w, time.Second))) {
				t.Errorf("%s: of the warm-up %d were answered and %d are unfinished", what, r.Requests, r.Unfinished)
			}
			sent, start, stalledUntil = nil, time.Now(), time.Now()
			r := l.run(t.Context(), time.Second, 0)
			w.Seed += 1 << 32 // of its second phase
			if due := dueTimes(w, time.Second); !slices.Equal(sent, due) || r.ResponseTimes.Max() != 0 || r.Slips.Max() != 0 {
				t.Errorf("%s: %d requests were sent in the round, want the %d at the times when they were due; the longest response took %v, with a slip of %v",
					what, len(sent), len(due), r.ResponseTimes.Max(), r.Slips.Max())
			}
		})
	}
}

func TestConstantSchedule(t *testing.T) {
	for _, rate := range []float64{1000, 30_000} { // the second has gaps that are not a whole number of nanoseconds
		s := newSchedule(rate, "constant", 1)
		for i := range 300_000 {
			if want := time.Duration(float64(i) * 1e9 / rate); (s.due() - want).Abs() > 10 {
				t.Fatalf("%v a second: request %d is due at %v, want %v", rate, i, s.due(), want)
			}
			s.advance()
		}
	}
}

func TestPoissonSchedule(t *testing.T) {
	offsets := func(seed uint64) []time.Duration {
		return dueTimes(cluster.Workload{Rate: 1000, Arrival: "poisson", Seed: seed}, 30*time.Second)
	}
	first := offsets(1)
	if !slices.Equal(first, offsets(1)) || slices.Equal(first, offsets(2)) {
		t.Error("the same seed gives another schedule the second time, or another seed the same")
	}
	// The gaps are exponential: each of ten classes of them is as likely as the next.
	counts, last := make([]int, 10), time.Duration(0)
	for _, at := range first {
		counts[int(10*-math.Expm1(-float64(at-last)/float64(time.Millisecond)))]++
		last = at
	}
	for class, n := range counts { // 3000 expected; five standard deviations are 260
		if n < 2740 || n > 3260 {
			t.Errorf("%d gaps of 30 000 are in class %d of 10, want about 3000", n, class)
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
