package load

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
)

func newWorkload(t *testing.T, w cluster.Workload) *workload.Workload {
	t.Helper()
	work, err := workload.New(w)
	if err != nil {
		t.Fatal(err)
	}
	return work
}

func unheard(string, time.Duration) {}

// turns is a stage that calls turn for each request; answer gives the right answer to it.
func turns(turn func(n *node.Node, c *node.Conn, answer func())) node.Serve {
	return func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			turn(n, c, func() { n.Answer(c, apply) })
		})
	}
}

// stuckAfter runs a node that answers this many requests, and no others before the end of the test.
func stuckAfter(t *testing.T, answers int64) cluster.Config {
	t.Helper()
	var taken atomic.Int64
	over := make(chan struct{})
	cfg, _ := benchtest.Here(t, 1, turns(func(_ *node.Node, _ *node.Conn, answer func()) {
		if taken.Add(1) > answers {
			<-over
		}
		answer()
	}))
	t.Cleanup(func() { close(over) })
	return cfg
}

// newTestLoad connects to the servers of cfg. At the end of the test it closes the
// connections and checks that no goroutine of theirs is left: the test is not parallel.
func newTestLoad(t *testing.T, cfg cluster.Config) *Generator {
	t.Helper()
	t.Cleanup(func() { noneLeft(t) })
	return connected(t, cfg)
}

// connected connects to the servers of cfg until the end of the test.
func connected(t *testing.T, cfg cluster.Config) *Generator {
	t.Helper()
	l, err := New(t.Context(), NewLockstep(cfg), newWorkload(t, cfg.Workload), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
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
		{1, 1, 200, "persistent", 3}, {4, 1, 201, "persistent", 3}, {1, 5, 200, "persistent", 3}, {3, 2, 199, "persistent", 3},
		{1, 1, 1, "persistent", 3}, {1, 1, 100, "per-request", 100},
	} {
		cfg, nodes := benchtest.Here(t, 1, benchtest.ServeLocked)
		w := &cfg.Workload
		w.Batch, w.Depth, w.Connections, w.Conn = test.batch, test.depth, 3, test.conn
		r := newTestLoad(t, cfg).run(t.Context(), 0, test.ops)
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

// Requests in flight at the end have the grace to be answered and are counted. A connection
// without any answer is starved.
func TestUnfinished(t *testing.T) {
	cfg := stuckAfter(t, 3)
	cfg.Workload.Connections = 5
	cfg.Workload.Mix = cluster.Mix{Put: 100}
	l := newTestLoad(t, cfg)
	l.Grace = 50 * time.Millisecond
	r := l.run(t.Context(), 50*time.Millisecond, 0)
	if r.Requests != 3 || r.Unfinished != 5 || r.Errors != nil || r.Dur < 100*time.Millisecond || r.Dur > 5*time.Second {
		t.Errorf("%d answered, %d unfinished, errors %v, in %v, want 3, 5 and none", r.Requests, r.Unfinished, r.Errors, r.Dur)
	}
	if r.Starved < 2 || r.NeverGreeted != 0 {
		t.Errorf("%d starved, %d never greeted, want the 2 or more without an answer, and 0", r.Starved, r.NeverGreeted)
	}
}

func TestStarved(t *testing.T) {
	t.Parallel()
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeOne)
	cfg.Workload.Connections = 3
	l := connected(t, cfg)
	for _, test := range []struct {
		length time.Duration
		rate   float64
		want   int64 // requests; 0: as many as there is time for
	}{{50 * time.Millisecond, 0, 0}, {0, 0, 100}, {50 * time.Millisecond, 500, 25}} {
		l.cfg.Workload.Rate = test.rate
		r := l.run(t.Context(), test.length, 100)
		if r.Connections != 3 || r.Starved != 2 || r.NeverGreeted != 2 || r.Requests < 1 || test.want > 0 && r.Requests != test.want {
			t.Errorf("%+v: %d of %d starve, %d never greeted, %d answers", test, r.Starved, r.Connections, r.NeverGreeted, r.Requests)
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
		w.Connections, w.Ops, w.Depth, w.Conn = 5, 400, max(depth, 1), conn
		l := connected(t, cfg)
		r, err := l.Measure(t.Context())
		if err != nil || r.OK != 400 || r.Errors != nil {
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

// A connection that is refused is not starved.
func TestBusy(t *testing.T) {
	cfg, nodes := benchtest.Here(t, 1, turns(func(n *node.Node, c *node.Conn, _ func()) { n.Refuse(c) }))
	for _, depth := range []int{1, 3} {
		cfg.Workload.Connections, cfg.Workload.Depth = 2, depth
		l := newTestLoad(t, cfg)
		l.conns[0].sources[0].Once = true
		before := nodes[0].Stats.Refusals.Load()
		r := l.run(t.Context(), 0, 20)
		refused := nodes[0].Stats.Refusals.Load() - before
		if want := map[string]int64{"server busy": 20}; !maps.Equal(r.Errors, want) || r.Starved+int(r.Requests+r.Unfinished) != 0 || r.FailedTime <= 0 || refused != 20 {
			t.Errorf("depth %d: errors %v, %d starved, %d answered, %d refused by the server, want %v, none of them again", depth, r.Errors, r.Starved, r.Requests, refused, want)
		}
	}
}

// The end of ctx ends a load at once.
func TestLoadCancelled(t *testing.T) {
	for _, test := range []struct {
		depth    int
		rate     float64
		inFlight int64 // on 8 connections
	}{{1, 0, 8}, {2, 0, 16}, {1, 0.01, 1}, {2, 0.01, 1}} {
		cfg := stuckAfter(t, 0)
		cfg.Workload.Rate, cfg.Workload.Depth = test.rate, test.depth
		l := newTestLoad(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		r := l.run(ctx, time.Hour, 0)
		if took := time.Since(began); took > 3*time.Second || r.Requests != 0 || r.Unfinished != test.inFlight {
			t.Errorf("%+v: it took %v after 50ms, %d answered, %d unfinished", test, took, r.Requests, r.Unfinished)
		}
	}
}

func TestNobodyGreets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := cluster.Default()
	cfg.Nodes[0].Addr = ln.Addr().String()
	work := newWorkload(t, cfg.Workload)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, NewLockstep(cfg), work, 0); err != context.DeadlineExceeded {
		t.Errorf("interrupted while nobody greets: error %v", err)
	}
	noneLeft(t)
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	cfg := cluster.Default()
	cfg.Nodes[0].Addr = "127.0.0.1:1"
	if _, err := New(t.Context(), NewLockstep(cfg), newWorkload(t, cfg.Workload), 0); !errors.Is(err, client.ErrDown) {
		t.Errorf("error %v, want %v", err, client.ErrDown)
	}
}

// New and Preload give up on a silent server, with a possible reason.
func TestNobodyGreetsForLong(t *testing.T) {
	benchtest.Slow(t)
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeOne)
	newTestLoad(t, cfg) // has it
	cfg.Workload.Connections = 2
	work := newWorkload(t, cfg.Workload)
	if _, err := New(t.Context(), NewLockstep(cfg), work, 0); err == nil || !strings.Contains(err.Error(), "the server serves others") {
		t.Errorf("a silent server: error %v", err)
	}
	if err := Preload(t.Context(), NewLockstep(cfg), work, unheard); err == nil || !strings.Contains(err.Error(), "the server serves others") {
		t.Errorf("storing the keys on a silent server: error %v", err)
	}
}

// An endingTarget is one whose servers have ended when they are asked for the second time.
type endingTarget struct {
	Target
	asked bool
}

func (e *endingTarget) Stats(ctx context.Context) ([]metrics.Snapshot, error) {
	if e.asked {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	e.asked = true
	return e.Target.Stats(ctx)
}

func TestServerEnds(t *testing.T) {
	t.Parallel()
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	cfg.Workload.Ops = 20
	_, err := Measure(t.Context(), &endingTarget{Target: NewLockstep(cfg)}, newWorkload(t, cfg.Workload), 0, nil)
	if want := "a server has ended during the load: dial: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Measure: %v, want %s", err, want)
	}
}
