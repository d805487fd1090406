package load

import (
	"cmp"
	"context"
	"errors"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

func newWorkload(t *testing.T, w cluster.Workload) *workload.Workload {
	t.Helper()
	work, err := workload.New(w)
	if err != nil {
		t.Fatal(err)
	}
	return work
}

// turns is a stage that calls turn for each request; answer gives the right answer to it.
func turns(turn func(n *node.Node, c *node.Conn, answer func())) node.Serve {
	return func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			turn(n, c, func() { n.Answer(c, apply) })
		})
	}
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

// noneLeft fails the test if a goroutine of a client is left.
func noneLeft(t *testing.T) {
	t.Helper()
	var left []string
	for range 300 { // after its WaitGroup, a goroutine may need a moment to end
		left = node.Stacks("lockstep/common/client.", "load.(*stream).", "load.(*connection).")
		if left == nil {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("goroutines are left after Close:\n%s", strings.Join(left, "\n\n"))
}

func TestClosedLoopOps(t *testing.T) {
	for _, test := range []struct {
		batch, depth, ops int
		conn              string
		connections       int64 // of the server
	}{
		{4, 1, 81, "persistent", 3}, {3, 2, 79, "persistent", 3}, {1, 1, 1, "persistent", 3}, {1, 1, 20, "per-request", 20},
	} {
		cfg, nodes := benchtest.Here(t, 1, benchtest.ServeLocked)
		w := &cfg.Workload
		w.Batch, w.Depth, w.Connections, w.Conn = test.batch, test.depth, 3, test.conn
		r := connected(t, NewLockstep(cfg)).run(t.Context(), 0, test.ops)
		if served := nodes[0].Stats.Ops.Load(); r.OK != int64(test.ops) || served != r.OK || r.Requests != int64((test.ops+test.batch-1)/test.batch) {
			t.Errorf("%+v: %d operations in %d requests, the server says %d", test, r.OK, r.Requests, served)
		}
		if r.Connections != 3 || r.Starved != 0 || r.Unfinished != 0 || r.Errors != nil || r.Wrong != 0 || r.Slips != nil || r.ResponseTimes.Count() != r.Requests {
			t.Errorf("%+v: the result is %+v", test, r)
		}
		if got := nodes[0].Stats.Connections.Load(); got != test.connections {
			t.Errorf("%+v: %d connections", test, got)
		}
	}
}

// A server without a place for a connection says so, and its word reaches the result. The
// connection is dialled again until there is a place, also by each request.
func TestNoPlace(t *testing.T) {
	t.Parallel()
	for depth, conn := range map[int]string{1: "persistent", 2: "persistent", 0: "per-request"} {
		cfg, _ := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
			n.Config.Server.MaxConnections = 2
			return benchtest.ServeLocked(ctx, ln, n)
		})
		w := &cfg.Workload
		w.Connections, w.Ops, w.Depth, w.Conn = 5, 50, max(depth, 1), conn
		l := connected(t, NewLockstep(cfg))
		r, err := l.Measure(t.Context())
		if err != nil || r.OK != 50 || r.Errors != nil {
			t.Fatalf("%s, depth %d: %d operations, errors %v, %v", conn, depth, r.OK, r.Errors, err)
		}
		const why = "all 2 places are taken (max_connections)"
		if conn == "persistent" && (r.NeverGreeted != 3 || r.Starved != 3 || r.NotServed != why || r.RefusedDials < 3) {
			t.Errorf("depth %d: %d never greeted because of %q, %d dials refused, want 3 because of %q, and some", depth, r.NeverGreeted, r.NotServed, r.RefusedDials, why)
		}
		if conn == "per-request" && (r.NeverGreeted+r.Starved != 0 || r.RefusedDials < 10) {
			t.Errorf("per request: %d never greeted, %d starved, %d dials refused, want 0, 0 and many", r.NeverGreeted, r.Starved, r.RefusedDials)
		}
	}
}

// The end of ctx ends a load at once, and Close all goroutines.
func TestLoadCancelled(t *testing.T) {
	over := make(chan bool)
	cfg, _ := benchtest.Here(t, 1, turns(func(_ *node.Node, _ *node.Conn, answer func()) {
		<-over
		answer()
	}))
	t.Cleanup(func() { close(over) })
	cfg.Workload.Depth = 2
	l := connected(t, NewLockstep(cfg))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	r := l.run(ctx, time.Hour, 0)
	if took := time.Since(began); took > 3*time.Second || r.Requests != 0 || r.Unfinished != 16 {
		t.Errorf("it took %v after 50ms, %d answered, %d unfinished, want 0 and 16", took, r.Requests, r.Unfinished)
	}
	l.Close()
	noneLeft(t)
}

// New says why no connection is greeted, and leaves no goroutine.
func TestAnotherCluster(t *testing.T) {
	cfg, _ := benchtest.Here(t, 2, benchtest.ServeLocked)
	cfg.Nodes = slices.Clone(cfg.Nodes)
	cfg.Nodes[1].Control = "127.0.0.1:9"
	for _, cfg.Workload.Depth = range []int{1, 2} {
		_, err := New(t.Context(), NewLockstep(cfg), newWorkload(t, cfg.Workload), 0)
		if node := " (node 0, " + cfg.Nodes[0].Addr + ")"; !errors.Is(err, wire.ErrMismatch) || !strings.HasSuffix(err.Error(), node) {
			t.Errorf("depth %d: error %v, want %v with %q", cfg.Workload.Depth, err, wire.ErrMismatch, node)
		}
	}
	noneLeft(t)
}

func TestMerge(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	worker := func(n int64, err error) *Result {
		r := &Result{Counts: Counts{Connections: 1, Starved: 1, NeverGreeted: 1, Requests: n, Answers: workload.Answers{OK: n, Misses: n, Mismatches: n}, Unfinished: n, Refusals: n}, FailedTime: time.Duration(n)}
		r.Answered(int(n), time.Duration(n)*time.Second/10) // in second 1, and in second 2
		r.Fail("busy", err)
		r.FoundWrong(err)
		r.ResponseTimes.Record(time.Duration(n))
		Record(&r.Slips, time.Duration(n))
		Record(&r.ServiceTimes, time.Duration(n))
		return r
	}
	total := &Result{Dur: time.Second, ServerCPU: 2, ClientCPU: 3}
	total.Merge(worker(10, first))
	total.Merge(worker(20, second))
	total.Merge(new(Result))

	want := &Result{Counts: Counts{Connections: 2, Starved: 2, NeverGreeted: 2, Requests: 30, Unfinished: 30, Refusals: 30,
		Answers: workload.Answers{OK: 30, Misses: 30, Mismatches: 30, Wrong: 2, FirstWrong: "first"}, Errors: map[string]int64{"busy": 2}, FirstError: "first"},
		FailedTime: 30, Series: []int64{0, 10, 20},
		Dur: time.Second, ServerCPU: 2, ClientCPU: 3} // which belong to the round
	for _, d := range []time.Duration{10, 20} {
		want.ResponseTimes.Record(d)
		Record(&want.Slips, d)
		Record(&want.ServiceTimes, d)
	}
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
	busy, workerSamples, tenths := 0, 0, [10]int{}
	for i, s := range first.Samples {
		if s.Outcome == "server busy" {
			busy++
		}
		n := int(s.Due / time.Millisecond)
		if n%20 < 2 { // of the first two workers
			workerSamples++
		}
		tenths[n*10/requests]++
		if i > 0 && s == first.Samples[i-1] {
			t.Errorf("a sample is there twice: %v", s)
		}
	}
	const want, spread = MaxSamples / 10, 60 // 4.5 times the standard deviation
	for what, n := range map[string]int{"refused": busy, "of two workers": workerSamples, "early": tenths[0], "late": tenths[9]} {
		if n < want-spread || n > want+spread {
			t.Errorf("%d samples are %s, want about %d", n, what, want)
		}
	}
}

func sortedSamples(r *Result) []Sample {
	return slices.SortedFunc(slices.Values(r.Samples), func(a, b Sample) int { return cmp.Compare(a.Due, b.Due) })
}

// A scripted target's servers say this when they are asked for the second time.
type scripted struct {
	Target
	asked  bool
	second []metrics.Snapshot
	err    error
}

func (s *scripted) Stats(context.Context) ([]metrics.Snapshot, error) {
	if !s.asked {
		s.asked = true
		return []metrics.Snapshot{{Incarnation: 7}, {Incarnation: 1}}, nil
	}
	return s.second, s.err
}

// A round in which a node was restarted has failed, and nothing is subtracted; if a node has
// ended, so does the measurement. A fault before the round is none of the round's.
func TestServersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cluster.Default()
		cfg.Workload.Ops = 10
		measure := func(second []metrics.Snapshot, err error) (*Result, error) {
			to := &scripted{Target: newWorker(cfg, 8), second: second, err: err}
			return Measure(t.Context(), to, newWorkload(t, cfg.Workload), 0, nil)
		}
		r, err := measure([]metrics.Snapshot{{Incarnation: 7}, {Incarnation: 2, Requests: -5}}, nil)
		if err != nil || r.Requests != 10 || r.Nodes != nil || r.ServerCPU != 0 {
			t.Fatalf("error %v, result %+v, want 10 requests and nothing from the servers", err, r)
		}
		if err := r.Broken(); err == nil || !strings.HasPrefix(err.Error(), "node 1 was restarted") {
			t.Errorf("the round has failed because of %v, want a restart of node 1", err)
		}
		r, err = measure([]metrics.Snapshot{{Incarnation: 7, Faults: map[string]string{"panic": "before"}}, {Incarnation: 1}}, nil)
		if err = errors.Join(err, r.Broken()); err != nil {
			t.Errorf("a fault before the round: %v", err)
		}
		for want, fault := range map[string]error{
			"a server has ended during the load: ": &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
			"after the load: ":                     errors.New("no"),
		} {
			if _, err := measure(nil, fault); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("Measure: %v, want %s", err, want)
			}
		}
	})
}
