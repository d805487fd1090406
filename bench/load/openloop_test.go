package load

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/client"
	"lockstep/common/node"
)

// A response time counts from when the request was due, even if the connection was busy then.
func TestOpenLoopCountsFromWhenDue(t *testing.T) {
	const stall = 200 * time.Millisecond
	var once sync.Once
	cfg, _ := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			once.Do(func() { <-time.After(stall) })
			n.Answer(c, apply)
		})
	})
	cfg.Workload.Connections, cfg.Workload.Rate = 1, 1000
	l := newTestLoad(t, cfg)
	r := l.run(t.Context(), 400*time.Millisecond, 0)
	if r.Requests != 400 || r.Unfinished != 0 || r.Slips == nil || r.Slips.Count() != 400 {
		t.Fatalf("%d answered, %d unfinished, slip %v, want 400, 0 and 400", r.Requests, r.Unfinished, r.Slips)
	}
	// 200 requests were due in the stall, evenly: a quarter of all waited for 100 ms and more.
	if p75, p99 := r.ResponseTimes.Quantile(0.75), r.ResponseTimes.Quantile(0.99); p75 < stall/2-20*time.Millisecond || p99 < stall-20*time.Millisecond || r.ResponseTimes.Max() > stall+2*time.Second {
		t.Errorf("p75 %v, p99 %v, max %v after a stall of %v", p75, p99, r.ResponseTimes.Max(), stall)
	}
	// A busy connection is not the client's fault.
	if slip := r.Slips.Quantile(0.9); slip > stall/4 {
		t.Errorf("the client was late by %v at p90", slip)
	}
}

// Every request that was due is answered, refused or unfinished.
func TestOverload(t *testing.T) {
	g := newGate()
	var turns, refused, answered atomic.Int64
	cfg, _ := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			switch turns.Add(1) % 5 {
			case 0:
				g.wait()
			case 1, 2:
				refused.Add(1)
				n.Refuse(c)
				return
			}
			n.Answer(c, apply)
			answered.Add(1)
		})
	})
	t.Cleanup(func() { close(g.open) })
	for _, test := range []struct {
		connections, depth int
		arrival            string
	}{{30, 1, "constant"}, {80, 1, "poisson"}, {10, 3, "constant"}} {
		t.Run(fmt.Sprintf("c=%d/depth=%d/%s", test.connections, test.depth, test.arrival), func(t *testing.T) {
			w := &cfg.Workload
			w.Connections, w.Depth, w.Rate, w.Arrival = test.connections, test.depth, 1000, test.arrival
			l := newTestLoad(t, cfg)
			l.Once, l.Grace = true, 50*time.Millisecond
			for _, counter := range []*atomic.Int64{&turns, &refused, &answered, &g.held} {
				counter.Store(0)
			}
			r := l.run(t.Context(), 200*time.Millisecond, 0)
			due := int64(0)
			for s := newSchedule(w.Rate, w.Arrival, w.Seed); s.due() < 200*time.Millisecond; s.advance() {
				due++
			}
			if got := r.Requests + r.Failed() + r.Unfinished; got != due || r.Failed() != r.Errors[client.ErrBusy.Error()] {
				t.Errorf("%d answered, errors %v, %d unfinished: %d in all, want %d that were due", r.Requests, r.Errors, r.Unfinished, got, due)
			}
			// Answers that had not arrived at the end are only counted by the server.
			if test.depth == 1 && (r.Errors[client.ErrBusy.Error()] > refused.Load() || r.Requests > answered.Load() || r.Unfinished < g.held.Load()) {
				t.Errorf("%d refused, %d answered, %d unfinished; the server says %d, %d, and %d held",
					r.Errors[client.ErrBusy.Error()], r.Requests, r.Unfinished, refused.Load(), answered.Load(), g.held.Load())
			}
			if r.Unfinished == 0 || r.Errors[client.ErrBusy.Error()] == 0 || r.Requests == 0 {
				t.Errorf("%d answered, %d refused, %d unfinished, want some of each", r.Requests, r.Errors[client.ErrBusy.Error()], r.Unfinished)
			}
		})
	}
}

// An open loop can end with a number of operations.
func TestOpenLoopOps(t *testing.T) {
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	cfg.Workload.Rate, cfg.Workload.Batch = 1000, 2
	r := newTestLoad(t, cfg).run(t.Context(), 0, 200)
	if r.Requests != 100 || r.OK != 200 || r.Dur < 95*time.Millisecond {
		t.Errorf("200 operations at 1000 requests a second: %d requests, %d operations, in %v", r.Requests, r.OK, r.Dur)
	}
}
