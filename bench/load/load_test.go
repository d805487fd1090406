package load

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// These tests show that the generator measures correctly. The servers take a known time, and
// the clock stands still during computations, so measurements must equal arithmetic, up to
// the 0.8 % by which a histogram may be above.

// A knownServer is a client whose requests take as long as serve and get right answers.
type knownServer struct {
	apply         func([]wire.Op) []wire.Result
	serve         func(ctx context.Context) error
	onces, closes atomic.Int64 // calls of Once, and of Close
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
func (k *knownServer) Close() error                 { k.closes.Add(1); return nil }

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

// takes returns a server that takes this long.
func takes(service time.Duration) func(context.Context) error {
	return func(ctx context.Context) error { return wait(ctx, service) }
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
// wait for the rest of the stall, evenly from 0 to 100 ms. The round has a schedule of its own,
// which the warm-up has no part in.
func TestOpenLoopSeesStalls(t *testing.T) {
	const stall, length = 100 * time.Millisecond, 1100 * time.Millisecond
	for arrival, connections := range map[string]int{"constant": 1, "poisson": 50} {
		synctest.Test(t, func(t *testing.T) {
			began, second := time.Now(), time.After(time.Second)
			serve := func(ctx context.Context) error { return wait(ctx, stall-time.Since(began)%time.Second) }
			l := newKnownLoad(t, serve, func(w *cluster.Workload) {
				w.Connections, w.Rate, w.Arrival, w.Duration = connections, 200, arrival, 4*time.Second
			})
			w := l.cfg.Workload
			if r := l.warmUp(t.Context()); r.Requests != int64(len(dueTimes(w, time.Second))) {
				t.Errorf("%s: %d requests in a warm-up of a second", arrival, r.Requests)
			}
			<-second
			w.Seed += 1 << 32 // of its second phase
			due := dueTimes(w, length)
			l.sampled = true
			r := l.run(t.Context(), length, 0)
			if r.Requests != int64(len(due)) || r.Unfinished != 0 || r.Wrong != 0 || r.Misses != 0 || len(r.Samples) != len(due) {
				t.Fatalf("%s: %d answered, %d unfinished, %d wrong (%v), %d samples, want %d answered",
					arrival, r.Requests, r.Unfinished, r.Wrong, r.FirstWrong, len(r.Samples), len(due))
			}
			for i, s := range sortedSamples(r) {
				took := max(stall-due[i]%time.Second, 0)
				if s.Due != due[i] || s.Done != due[i]+took || s.Sent < s.Due || s.Outcome != "answered" {
					t.Errorf("%s: sample %+v, want one due at %v and answered after %v", arrival, s, due[i], took)
				}
			}
			if late := r.Slips.Max(); late != 0 {
				t.Errorf("%s: the client was late by %v, want 0: only the server stalled", arrival, late)
			}
		})
	}
}

// A server takes 1 ms for half of the requests, 2 ms for 40 %, 5 ms for 9 % and 10 ms for 1 %.
// The number of operations ends the load, and not a time by which they should be done.
func TestKnownServiceTimes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*cluster.Workload){
		"closed loop":                  func(w *cluster.Workload) { w.Connections = 4 },
		"open loop, constant arrivals": func(w *cluster.Workload) { w.Connections, w.Rate, w.Batch = 16, 70, 3 },
		"open loop, poisson arrivals":  func(w *cluster.Workload) { w.Connections, w.Rate, w.Arrival, w.Batch = 16, 1000, "poisson", 2 },
	} {
		synctest.Test(t, func(t *testing.T) {
			var served atomic.Int64
			times := slices.Concat(slices.Repeat([]time.Duration{1}, 50), slices.Repeat([]time.Duration{2}, 40),
				slices.Repeat([]time.Duration{5}, 9), []time.Duration{10})
			l := newKnownLoad(t, func(ctx context.Context) error {
				return wait(ctx, times[served.Add(1)%100]*time.Millisecond)
			}, change)
			w := l.cfg.Workload
			ops := 1000*w.Batch - w.Batch/2 // so the last request is shorter
			r := l.run(t.Context(), 0, ops)
			for q, ms := range map[float64]time.Duration{0.25: 1, 0.49: 1, 0.51: 2, 0.89: 2, 0.91: 5, 0.98: 5, 0.995: 10, 1: 10} {
				wantQuantile(t, name, r, q, ms*time.Millisecond)
			}
			if r.OK != int64(ops) || r.Requests != 1000 || r.Unfinished != 0 {
				t.Errorf("%s: %d operations in %d requests, %d unfinished, want %d in 1000", name, r.OK, r.Requests, r.Unfinished, ops)
			}
			if lasts := 100 * time.Second / 7; w.Rate == 70 && (r.Dur-lasts).Abs() > time.Microsecond {
				t.Errorf("%s: 1000 of 70 requests a second took %v, want %v", name, r.Dur, lasts)
			}
			if connections := float64(w.Connections); w.Rate == 0 && (r.InFlight() < 0.97*connections || r.InFlight() > connections) {
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
			l := newKnownLoad(t, takes(9*time.Millisecond), func(w *cluster.Workload) { w.Connections = 1 })
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
			l.clock = bubbleClock(60 * time.Millisecond)
			r := l.run(t.Context(), 0, 100)
			once := l.conns[0].client.(*knownServer).onces.Load()
			if r.Failed() != 100 || r.Errors[errorKind(test.fault)] != 100 || r.Requests != 0 || r.Starved != test.starved ||
				r.Slips != nil || once != 100 || r.FailedTime < 100*time.Millisecond {
				t.Errorf("%+v: errors %v in %v, %d sent but once, %d answered, %d starved, slips %v, want 100 in 100ms, 100, 0 and none",
					test, r.Errors, r.FailedTime, once, r.Requests, r.Starved, r.Slips)
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
		began, requests := time.Now(), 0
		l := newKnownLoad(t, func(ctx context.Context) error {
			if time.Since(began) >= 1875*time.Millisecond { // and so when two seconds have been told
				return wait(ctx, 4*time.Millisecond)
			}
			if requests++; requests%5 == 0 {
				return cmp.Or(wait(ctx, 9*time.Millisecond), errors.New("no"))
			}
			return wait(ctx, 9*time.Millisecond)
		}, func(w *cluster.Workload) { w.Connections, w.Duration = 1, 2500*time.Millisecond })
		var told []string
		l.Told = func(opsPerSecond float64, p99 time.Duration, failed int64) {
			told = append(told, fmt.Sprintf("%.2g/s %v %d", opsPerSecond, p99.Round(time.Millisecond), failed))
		}
		l.warmUp(t.Context())
		r := l.run(t.Context(), l.cfg.Workload.Duration, 0)
		const want = "88/s 9ms 5, 89/s 9ms 22, 2.5e+02/s 4ms 0"
		if got := strings.Join(told, ", "); got != want || r.Requests < 250 {
			t.Errorf("%d requests, of which was told %q, want %q", r.Requests, got, want)
		}
	})
}

// A worker is a server, and its target, that works for each key. It greets so many clients.
type worker struct {
	Target
	*knownServer
	places, requests atomic.Int64
	work, longest    time.Duration // of a key, and of a request
}

// newWorker returns a worker that takes 1 ms for each request.
func newWorker(cfg cluster.Config, places int64) *worker {
	s := &worker{Target: NewLockstep(cfg), knownServer: &knownServer{apply: benchtest.Locked(nil), serve: takes(time.Millisecond)}}
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
	if took := time.Duration(len(ops)) * s.work; err == nil && took > 0 {
		s.longest = max(s.longest, took)
		err = wait(ctx, took)
	}
	return results, err
}

// Keys are stored whatever the work of the server, a second at a time, and the time that is
// left is known. A server that is stuck is given up.
func TestPreloadOfServersThatWork(t *testing.T) {
	for _, work := range []time.Duration{0, 10 * time.Millisecond, 400 * time.Millisecond, time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkload(t, cluster.Workload{Keys: 100, Value: cluster.Bytes(30), Dist: "uniform"})
			s := &worker{knownServer: &knownServer{apply: benchtest.Locked(nil), serve: takes(0)}, work: work}
			s.places.Store(1)
			began, told := time.Now(), []time.Duration(nil)
			err := Preload(t.Context(), s, w, func(_ string, left time.Duration) { told = append(told, left) })
			if took := time.Since(began); work == time.Hour && errors.Is(err, ErrNoAnswer) && took < 3*time.Minute {
				return
			} else if err != nil || work == time.Hour {
				t.Fatalf("work of %v: error %v after %v", work, err, took)
			}
			first, last, requests := told[0], told[len(told)-1], int(s.requests.Load())
			if s.longest > max(time.Second, work) || work == 0 && requests > 12 || len(told) != requests || first != 99*work || last != 0 {
				t.Errorf("work of %v: %d requests, the longest of %v, and %v to %v left", work, requests, s.longest, first, last)
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
			_, err := New(ctx, newWorker(cfg, 0), newWorkload(t, cfg.Workload), 0)
			if took := time.Since(began); took != test.took || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("error %v after %v, want %q after %v", err, took, test.want, test.took)
			}
		})
	}
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
		{9, 11, context.DeadlineExceeded, 205 * time.Millisecond},
		{9, 99, ErrWrong, 10 * time.Millisecond}, // of the first
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkload(t, cluster.Workload{Keys: 9 << 6, Value: cluster.Bytes(30), Dist: "uniform"})
			w.Full = 1 << 6
			apply := benchtest.Locked(nil)
			var taken atomic.Int64
			s := &worker{knownServer: &knownServer{apply: apply, serve: func(ctx context.Context) error {
				switch n := taken.Add(1); {
				case n < test.last:
					return wait(ctx, 10*time.Millisecond)
				case n == test.last && test.want == broken:
					return broken
				}
				return wait(ctx, time.Hour)
			}}}
			s.places.Store(test.places)
			if test.want == ErrWrong {
				s.apply = func(ops []wire.Op) []wire.Result { return make([]wire.Result, len(ops)) }
			}
			ctx, cancel := context.WithTimeout(t.Context(), 205*time.Millisecond)
			defer cancel()
			began, told := time.Now(), ""
			err := Preload(ctx, s, w, func(what string, _ time.Duration) { told = what })
			took := time.Since(began)
			created := func(r wire.Result) bool { return r.Status == wire.Created }
			missing := err == nil && slices.ContainsFunc(apply(w.Preload(0, w.Keys)), created)
			if !errors.Is(err, test.want) || took != test.took || missing || err == nil && told != "storing keys: 576 of 576" {
				t.Errorf("%+v: error %v after %v; keys are missing: %v; told %q", test, err, took, missing, told)
			}
		})
	}
}

// If more is due than the server can do, throughput is what it can do, the rest is unfinished,
// and response times include the wait. A warm-up ends on time: the backlog is dropped, only the
// request in flight is waited for. The round works its own off within the grace.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newKnownLoad(t, takes(15*time.Millisecond), func(w *cluster.Workload) {
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

// A load that makes no progress is given up: when its time and the grace are over, after its
// patience, or at the end of ctx, which here is after 5 s. What was due is unfinished then.
func TestGivenUp(t *testing.T) {
	for _, test := range []struct {
		rate                float64
		length              time.Duration
		ops                 int
		answers, unfinished int64 // of the server, before it is stuck; of the load
		starved             int   // of 8 connections
		took                time.Duration
	}{
		{0, time.Second, 0, 3, 8, 5, 1500 * time.Millisecond},
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
			if late := r.Dur - test.took; r.Requests != answered || r.Unfinished != test.unfinished || r.Starved != test.starved ||
				r.Errors != nil || late < 0 || late > time.Second/5 {
				t.Errorf("%+v: %+v after %v, want %d answered", test, r.Counts, r.Dur, answered)
			}
		})
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

// A slip is how late the client itself is in sending a request: not because its connection was busy.
func TestSlips(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		connections   int
		service, late time.Duration // the clock's sleeps end late by so much
		sent          [4]time.Duration
		slips         time.Duration // all four together
	}{
		"a free connection":             {1, 0, 0, [4]time.Duration{0, 10, 20, 30}, 0},
		"one of two is free":            {2, 15 * ms, 0, [4]time.Duration{0, 10, 20, 30}, 0},
		"the clock is late":             {1, 0, 3 * ms, [4]time.Duration{0, 13, 23, 33}, 3 + 3 + 3},
		"the clock is late for several": {3, 0, 25 * ms, [4]time.Duration{0, 35, 35, 35}, 25 + 15 + 5},
		// Without the clock, the connection would have been back at 15 and 25, when nothing was due.
		"both": {1, 5 * ms, 20 * ms, [4]time.Duration{0, 30, 35, 40}, 20 + 15 + 10},
		// Without the clock, it would have been back at 35 and 60: only the rest is the clock's.
		"a busy connection and the clock": {1, 25 * ms, 3 * ms, [4]time.Duration{0, 25, 50, 75}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newKnownLoad(t, takes(test.service), func(w *cluster.Workload) { w.Connections, w.Rate = test.connections, 100 })
			l.clock, l.sampled = bubbleClock(test.late), true
			r := l.run(t.Context(), 40*ms, 0)
			var sent [4]time.Duration
			for i, s := range sortedSamples(r) {
				sent[i%4] = s.Sent / ms
			}
			if slips := r.Slips.Mean() * 4 / ms; sent != test.sent || slips != test.slips || r.Requests != 4 || r.Unfinished != 0 {
				t.Errorf("%s: %d of 4 requests were sent at %d ms, %d ms late in all, want %d and %d",
					name, r.Requests, sent, slips, test.sent, test.slips)
			}
		})
	}
}

// After one stall of the client, every request that was due in it is late, and not only the
// first of each connection: those after them wait for answers that a prompt client would have
// had in time.
func TestLateIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		l := newKnownLoad(t, takes(ms), func(w *cluster.Workload) { w.Rate = 500 })
		sleep, now := l.clock.sleep, l.clock.now
		l.clock.sleep = func(d time.Duration) {
			if sleep(d); now() >= 500*ms && now() < 700*ms {
				sleep(700*ms - now())
			}
		}
		slips := l.run(t.Context(), time.Second, 0).Slips
		late, sum := slips.Count()-slips.Within(ms), slips.Mean()*time.Duration(slips.Count())
		if late < 98 || late > 115 || sum < 100*95*ms || slips.Max() > 200*ms {
			t.Errorf("%d requests are late, by %v in all, %v at most, want the 100 that were due in the stall, by 100 ms on average",
				late, sum, slips.Max())
		}
	})
}

func newWorkload(t *testing.T, w cluster.Workload) *workload.Workload {
	t.Helper()
	work, err := workload.New(w)
	if err != nil {
		t.Fatal(err)
	}
	return work
}

// connected connects to servers until the end of the test.
func connected(t *testing.T, to Target) *Generator {
	t.Helper()
	l, err := New(t.Context(), to, newWorkload(t, to.Config().Workload), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestMerge(t *testing.T) {
	counted := func(n int64, err string) *Result {
		r := &Result{FailedTime: time.Duration(n), Counts: Counts{Connections: int(n), Starved: int(n), NeverGreeted: int(n),
			Requests: n, Unfinished: n, Refusals: n, RefusedDials: n, Answers: workload.Answers{OK: n, Misses: n, Mismatches: n}}}
		for range n {
			r.Answered(1, time.Second)
			r.Fail("busy", errors.New(err))
			r.FoundWrong(errors.New(err))
			r.ResponseTimes.Record(1)
			Record(&r.Slips, 2)
			Record(&r.ServiceTimes, 3)
		}
		return r
	}
	total := &Result{Dur: time.Second, ServerCPU: 2, ClientCPU: 3} // which Merge leaves alone
	total.Merge(counted(10, "first"))
	total.Merge(counted(20, "second"))
	total.Merge(new(Result))
	want := counted(30, "first")
	want.Dur, want.ServerCPU, want.ClientCPU = time.Second, 2, 3
	if !reflect.DeepEqual(total, want) {
		t.Errorf("merged they are %+v, want %+v", total.Counts, want.Counts)
	}
}

// Samples are drawn without bias, however the requests are spread over workers and however
// these are merged: a tenth of the requests, at any time of the round, is a tenth of the samples.
func TestSamples(t *testing.T) {
	const requests = 20_000
	workers := []*Result{{}, {}, {}}
	for i := range requests {
		at := time.Duration(i) * time.Millisecond
		s := Sample{at, at, at + 300*time.Microsecond, "answered"}
		if i%10 == 3 {
			s.Outcome = "server busy"
		}
		workers[min(i%20, 2)].sample(2*MaxSamples, s) // the third has nearly all
	}
	first, second := new(Result), new(Result)
	for i := range workers {
		first.Merge(workers[i])
		second.Merge(workers[2-i])
	}
	if n := len(first.Samples); n != MaxSamples || !reflect.DeepEqual(sortedSamples(first), sortedSamples(second)) {
		t.Fatalf("%d samples, want %d, and the same in any order of merging", n, MaxSamples)
	}
	found := make(map[string]int)
	for _, s := range first.Samples {
		n := int(s.Due / time.Millisecond)
		found[s.Outcome]++
		found[fmt.Sprint("tenth ", n*10/requests)]++
		found[fmt.Sprint("of two workers: ", n%20 < 2)]++
	}
	for _, what := range []string{"server busy", "of two workers: true", "tenth 0", "tenth 9"} {
		const want, spread = MaxSamples / 10, 60 // 4.5 times the standard deviation
		if n := found[what]; n < want-spread || n > want+spread {
			t.Errorf("%d samples are %s, want about %d", n, what, want)
		}
	}
}

func sortedSamples(r *Result) []Sample {
	return slices.SortedFunc(slices.Values(r.Samples), func(a, b Sample) int { return cmp.Compare(a.Due, b.Due) })
}

// A scripted target's servers are asked before and after a load. Then node 1 says second, or there
// is an error.
type scripted struct {
	Target
	asked  bool
	second metrics.Snapshot
	err    error
}

func (s *scripted) Stats(context.Context) ([]metrics.Snapshot, error) {
	if !s.asked {
		s.asked = true
		return []metrics.Snapshot{{}, {Incarnation: 1, CPU: 3}}, nil
	}
	return []metrics.Snapshot{{}, s.second}, s.err
}

// A round in which a node was restarted has failed, and nothing is subtracted; if a node has
// ended, so does the measurement. A fault before the round is none of the round's.
func TestServersEnd(t *testing.T) {
	before := map[string]string{"panic": "before"}
	for want, to := range map[string]*scripted{
		"<nil>":                                {second: metrics.Snapshot{Incarnation: 1, CPU: 5, Faults: before}},
		"node 1 was restarted":                 {second: metrics.Snapshot{Incarnation: 2, CPU: 5}},
		"a server has ended during the load: ": {err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}},
		"after the load: ":                     {err: errors.New("no")},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := cluster.Default()
			cfg.Workload.Ops = 10
			server := newWorker(cfg, 8)
			to.Target = server
			r, err := Measure(t.Context(), to, newWorkload(t, cfg.Workload), 0, nil)
			if err == nil {
				err = r.Broken()
			}
			known := r.Nodes != nil && r.ServerCPU == 2
			if !strings.HasPrefix(fmt.Sprint(err), want) || r.Requests != 10 || known != (err == nil) || server.closes.Load() != 8 {
				t.Errorf("error %v, %d requests, %v of the servers' CPU time, %d clients closed, want %q, 10, 2ns without an error, 8",
					err, r.Requests, r.ServerCPU, server.closes.Load(), want)
			}
		})
	}
}
