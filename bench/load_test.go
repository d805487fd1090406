package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// newTestLoad connects to the servers of cfg. At the end of the test it closes the
// connections, and nothing of them may be left.
func newTestLoad(t *testing.T, cfg cluster.Config) *load {
	t.Helper()
	work, err := newWorkload(cfg.Workload)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoad(t.Context(), target{cfg: cfg}, work, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.close()
		noneLeft(t)
	})
	return l
}

// noneLeft fails the test if a goroutine of a client runs on.
func noneLeft(t *testing.T) {
	t.Helper()
	var left []string
	for range 300 { // one that has told its WaitGroup may need a moment to be gone
		left = node.Stacks("lockstep/common/client.", "bench.(*pipe).", "bench.(*connection).")
		if left == nil {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("the load is closed, and left behind:\n%s", strings.Join(left, "\n\n"))
}

func TestClosedLoopOps(t *testing.T) {
	for _, test := range []struct {
		batch, depth, ops int
		want              int64 // operations
	}{{1, 1, 1000, 1000}, {4, 1, 1000, 1000}, {4, 1, 1001, 1004}, {1, 5, 1000, 1000}, {3, 2, 999, 999}, {1, 1, 1, 1}} {
		t.Run(fmt.Sprintf("batch=%d/depth=%d/ops=%d", test.batch, test.depth, test.ops), func(t *testing.T) {
			cfg, nodes := here(t, 1, serveLocked)
			w := &cfg.Workload
			w.Batch, w.Depth, w.Connections = test.batch, test.depth, 3
			r := newTestLoad(t, cfg).run(t.Context(), 0, test.ops)
			if served := nodes[0].Stats.Ops.Load(); r.ok != test.want || served != test.want || r.requests*int64(test.batch) != test.want {
				t.Errorf("%d operations in %d requests, the server says %d, want %d", r.ok, r.requests, served, test.want)
			}
			if r.connections != 3 || r.starved != 0 || r.unfinished != 0 || r.errors != nil || r.wrong != 0 || r.slip != nil || r.latency.Count() != r.requests {
				t.Errorf("the result is %+v", newRun(r))
			}
			if got := nodes[0].Stats.Connections.Load(); got != 3 {
				t.Errorf("%d connections, want 3", got)
			}
		})
	}
}

func TestClosedLoopDuration(t *testing.T) {
	cfg, nodes := here(t, 1, serveLocked)
	l := newTestLoad(t, cfg)
	r := l.run(t.Context(), 100*time.Millisecond, 1)
	if r.dur < 100*time.Millisecond || r.ok < 100 || r.ok != nodes[0].Stats.Ops.Load() || r.unfinished != 0 || r.starved != 0 {
		t.Errorf("in 100ms: %v long, %d ok, %d unfinished, %d starved", r.dur, r.ok, r.unfinished, r.starved)
	}
}

// A gate holds up requests until it is opened.
type gate struct {
	held atomic.Int64
	open chan struct{}
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) wait() {
	g.held.Add(1)
	<-g.open
}

// What is under way at the end is waited for, but not for ever, and counted; whoever
// has no answer at all starves.
func TestUnfinished(t *testing.T) {
	g := newGate()
	var turns atomic.Int64
	cfg, _ := here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := locked(n)
		return serveAll(ctx, ln, n, func(c *node.Conn) {
			if turns.Add(1) > 3 {
				g.wait()
			}
			n.Answer(c, apply)
		})
	})
	t.Cleanup(func() { close(g.open) })
	cfg.Workload.Connections = 5
	cfg.Workload.Mix = cluster.Mix{Put: 100}
	l := newTestLoad(t, cfg)
	l.grace = 50 * time.Millisecond
	r := l.run(t.Context(), 50*time.Millisecond, 0)
	if r.requests != 3 || r.unfinished != 5 || r.errors != nil || r.dur < 100*time.Millisecond || r.dur > 5*time.Second {
		t.Errorf("%d answered, %d unfinished, errors %v, in %v, want 3, 5 and none", r.requests, r.unfinished, r.errors, r.dur)
	}
	if r.starved < 2 || r.neverGreeted != 0 {
		t.Errorf("%d starved, %d never greeted, want the 2 or more without an answer, and 0", r.starved, r.neverGreeted)
	}
}

func TestStarved(t *testing.T) {
	cfg, _ := here(t, 1, serveOne)
	cfg.Workload.Connections = 3
	l := newTestLoad(t, cfg)
	for _, length := range []time.Duration{50 * time.Millisecond, 0} {
		r := l.run(t.Context(), length, 100)
		if r.connections != 3 || r.starved != 2 || r.neverGreeted != 2 || r.requests < 1 || length == 0 && r.requests != 100 {
			t.Errorf("one client after the other, for %v: %d of %d starve, %d never greeted, %d answers", length, r.starved, r.connections, r.neverGreeted, r.requests)
		}
	}
	l.cfg.Workload.Rate = 500
	if r := l.run(t.Context(), 50*time.Millisecond, 0); r.starved != 2 || r.neverGreeted != 2 || r.requests != 25 {
		t.Errorf("one client after the other, at a rate: %d starve, %d never greeted, %d answers", r.starved, r.neverGreeted, r.requests)
	}
}

// Who is refused is not starved.
func TestBusy(t *testing.T) {
	cfg, nodes := here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		return serveAll(ctx, ln, n, n.Refuse)
	})
	for _, depth := range []int{1, 3} {
		t.Run(fmt.Sprintf("depth=%d", depth), func(t *testing.T) {
			cfg.Workload.Connections, cfg.Workload.Depth = 2, depth
			l := newTestLoad(t, cfg)
			l.once = true
			before := nodes[0].Stats.Refusals.Load()
			r := l.run(t.Context(), 0, 50)
			if want := map[string]int64{"server busy": 50}; !maps.Equal(r.errors, want) || r.starved != 0 || r.requests != 0 || r.unfinished != 0 || r.failed <= 0 {
				t.Errorf("errors %v, %d starved, %d answered, want %v", r.errors, r.starved, r.requests, want)
			}
			if got := nodes[0].Stats.Refusals.Load() - before; got != 50 {
				t.Errorf("the server refused %d, want 50, none of them again", got)
			}
		})
	}
}

func TestPerRequest(t *testing.T) {
	cfg, nodes := here(t, 1, serveLocked)
	cfg.Workload.Conn, cfg.Workload.Connections = "per-request", 4
	r := newTestLoad(t, cfg).run(t.Context(), 0, 100)
	if got := nodes[0].Stats.Connections.Load(); got != 100 || r.requests != 100 || r.errors != nil || r.starved != 0 {
		t.Errorf("100 requests: %d answered, %d connections, errors %v", r.requests, got, r.errors)
	}
}

// Requests over several nodes, each of which takes one client at a time, do not wait
// for each other's connections.
func TestPerRequestOverNodes(t *testing.T) {
	cfg, _ := here(t, 3, serveOne)
	cfg.Workload.Conn, cfg.Workload.Connections, cfg.Workload.Batch = "per-request", 4, 8
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r := newTestLoad(t, cfg).run(ctx, 0, 400)
	if r.requests != 50 || r.errors != nil {
		t.Errorf("50 requests: %d answered, errors %v, %d unfinished", r.requests, r.errors, r.unfinished)
	}
}

func TestPreloadThenNoMisses(t *testing.T) {
	for nodes, size := range map[int]cluster.Size{1: cluster.Bytes(30), 3: {Min: 16, Max: 1024}} {
		cfg, _ := here(t, nodes, serveLocked)
		cfg.Workload.Mix, cfg.Workload.Value = cluster.Mix{Get: 70, Put: 10, CAS: 20}, size
		work, err := newWorkload(cfg.Workload)
		if err != nil {
			t.Fatal(err)
		}
		if err := preload(t.Context(), target{cfg: cfg}, work); err != nil {
			t.Fatal(err)
		}
		l, err := newLoad(t.Context(), target{cfg: cfg}, work, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := l.run(t.Context(), 0, 2000)
		l.close()
		if r.ok != 2000 || r.misses != 0 || r.wrong != 0 {
			t.Errorf("%d nodes: %d ok, %d misses, %d wrong (%v), want 2000, 0, 0", nodes, r.ok, r.misses, r.wrong, r.firstWrong)
		}
	}
}

// The end of ctx ends a load at once, whatever it waits for.
func TestLoadCancelled(t *testing.T) {
	for _, depth := range []int{1, 2} {
		for _, rate := range []float64{0, 0.01, 100} {
			t.Run(fmt.Sprintf("depth=%d/rate=%v", depth, rate), func(t *testing.T) {
				g := newGate()
				cfg, _ := here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
					return serveAll(ctx, ln, n, func(c *node.Conn) {
						g.wait()
						n.Refuse(c)
					})
				})
				t.Cleanup(func() { close(g.open) })
				cfg.Workload.Rate, cfg.Workload.Depth = rate, depth
				l := newTestLoad(t, cfg)
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				began := time.Now()
				r := l.run(ctx, time.Hour, 0)
				if took := time.Since(began); took > 3*time.Second || r.requests != 0 || r.unfinished == 0 {
					t.Errorf("it took %v after 300ms, %d answered, %d unfinished", took, r.requests, r.unfinished)
				}
				if inFlight := int64(8 * depth); rate == 0 && r.unfinished != inFlight {
					t.Errorf("%d requests were in flight on 8 connections, want %d", r.unfinished, inFlight)
				}
			})
		}
	}
}

// What was due last is due before the end, and the round lasts until the end.
func TestOpenLoopLastsToItsEnd(t *testing.T) {
	cfg, _ := here(t, 1, serveLocked)
	cfg.Workload.Rate = 10
	r := newTestLoad(t, cfg).run(t.Context(), 250*time.Millisecond, 0)
	if r.requests != 3 || r.dur < 250*time.Millisecond {
		t.Errorf("%d requests in %v, want those of 0, 100 and 200 ms in 250", r.requests, r.dur)
	}
}

// Servers that answer nobody any more do not hold up a load that only the number of
// its operations would end.
func TestLoadStuck(t *testing.T) {
	g := newGate()
	var turns atomic.Int64
	cfg, _ := here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := locked(n)
		return serveAll(ctx, ln, n, func(c *node.Conn) {
			if turns.Add(1) > 100 {
				g.wait()
			}
			n.Answer(c, apply)
		})
	})
	t.Cleanup(func() { close(g.open) })
	l := newTestLoad(t, cfg)
	l.patience = 50 * time.Millisecond
	if r := l.run(t.Context(), 0, 1000); r.requests != 100 || r.unfinished != 8 {
		t.Errorf("%d answered, %d unfinished, want 100 and 8", r.requests, r.unfinished)
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
	work, err := newWorkload(cfg.Workload)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := newLoad(ctx, target{cfg: cfg}, work, 0); err != context.DeadlineExceeded {
		t.Errorf("interrupted while nobody greets: error %v", err)
	}
	noneLeft(t)

	ln.Close()
	for _, depth := range []int{1, 2} {
		cfg.Workload.Depth = depth
		if _, err := newLoad(t.Context(), target{cfg: cfg}, work, 0); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("depth %d: nobody listens: error %v", depth, err)
		}
	}
	noneLeft(t)
}

// A server that is silent is given up after a while, with what may be the reason.
func TestNobodyGreetsForLong(t *testing.T) {
	slow(t)
	cfg, _ := here(t, 1, serveOne)
	newTestLoad(t, cfg) // has it
	cfg.Workload.Connections = 2
	work, err := newWorkload(cfg.Workload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newLoad(t.Context(), target{cfg: cfg}, work, 0); err == nil || !strings.Contains(err.Error(), "no connection was greeted within 10s: the server serves others") {
		t.Errorf("a silent server: error %v", err)
	}
	if err := preload(t.Context(), target{cfg: cfg}, work); err == nil || !strings.Contains(err.Error(), "the server serves others") {
		t.Errorf("storing the keys on a silent server: error %v", err)
	}
}

func TestErrorKind(t *testing.T) {
	for want, err := range map[string]error{
		"server busy": client.ErrBusy, "node down": client.ErrDown, "outcome unknown": client.ErrUnknown,
		"wrong node": client.ErrWrongNode, "other": wire.ErrMismatch,
	} {
		if got := errorKind(err); got != want {
			t.Errorf("%v is of the kind %q, want %q", err, got, want)
		}
	}
}

// The last operations of a load may be under way when the watch for stuck servers
// begins: then they have as long as all others.
func TestGiveUpStuckIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var none atomic.Int64
		newKnownLoad(t, nil, func(*cluster.Workload) {}).giveUpStuck(t.Context(), &none, func() {})
		if took := time.Since(began); took < patience {
			t.Errorf("given up after %v, want %v", took, patience)
		}
	})
}
