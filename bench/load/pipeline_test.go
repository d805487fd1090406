package load

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

func newTestPipeline(t *testing.T, cfg cluster.Config) *pipeline {
	t.Helper()
	pl, err := dialPipeline(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pl.Close() })
	return pl
}

// As many requests are on their way on the one connection as there are calls: this
// server answers nothing before it has seen them all.
func TestPipelineDepth(t *testing.T) {
	const depth = 16
	seen := make(chan int, 1)
	cfg, nodes := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			var keys []string
			var r wire.Request
			for len(keys) < depth && c.Ready() && c.ReadRequest(&r) {
				keys = append(keys, r.Ops[0].Key)
			}
			for _, key := range keys {
				c.WriteResponse(&wire.Response{Code: wire.OK, Results: []wire.Result{{Status: wire.Found, Value: []byte(key)}}})
			}
			seen <- len(keys)
		})
	})
	pl := newTestPipeline(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var calls sync.WaitGroup
	for i := range depth {
		calls.Go(func() {
			key := strconv.Itoa(i)
			r, err := pl.Do(ctx, wire.Op{Kind: wire.Get, Key: key})
			if err != nil || string(r[0].Value) != key {
				t.Errorf("call %s was answered %v, error %v: another's answer, or none", key, r, err)
			}
		})
	}
	calls.Wait()
	if got := <-seen; got != depth || nodes[0].Stats.Connections.Load() != 1 {
		t.Errorf("%d requests at once on %d connections, want %d on 1", got, nodes[0].Stats.Connections.Load(), depth)
	}
}

// Many calls with batches over several nodes, some of them refused at first: each is
// answered, with its own answers, in their order.
func TestPipelineOverNodes(t *testing.T) {
	var turns atomic.Int64
	cfg, nodes := benchtest.Here(t, 3, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			if turns.Add(1)%3 == 0 {
				n.Refuse(c)
				return
			}
			n.Answer(c, apply)
		})
	})
	pl := newTestPipeline(t, cfg)
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for round := range 50 {
				var puts, gets []wire.Op
				for i := range 5 {
					key := strconv.Itoa(caller) + "-" + strconv.Itoa(i)
					puts = append(puts, wire.Op{Kind: wire.Put, Key: key, Value: []byte(key + "-" + strconv.Itoa(round))})
					gets = append(gets, wire.Op{Kind: wire.Get, Key: key})
				}
				if _, err := pl.Do(t.Context(), puts...); err != nil {
					t.Errorf("caller %d: put: %v", caller, err)
					return
				}
				results, err := pl.Do(t.Context(), gets...)
				for i, r := range results {
					if err != nil || string(r.Value) != string(puts[i].Value) {
						t.Errorf("caller %d reads %q, %v, want %q", caller, r.Value, err, puts[i].Value)
						return
					}
				}
			}
		})
	}
	callers.Wait()
	for i, n := range nodes {
		if n.Stats.Connections.Load() != 1 || n.Stats.Ops.Load() == 0 || n.Stats.Refusals.Load() == 0 {
			t.Errorf("node %d: %d connections, %d operations, %d refusals, want 1, and some", i,
				n.Stats.Connections.Load(), n.Stats.Ops.Load(), n.Stats.Refusals.Load())
		}
	}
}

func TestPipelineErrors(t *testing.T) {
	get := wire.Op{Kind: wire.Get, Key: "color"}
	for _, test := range []struct {
		name         string
		turn         func(*node.Conn) // answers one request
		first, later error            // of the call, and of the one after it
	}{
		{"busy", func(c *node.Conn) {
			c.SkipRequest()
			c.WriteResponse(&wire.Response{Code: wire.Busy})
		}, client.ErrBusy, client.ErrBusy},
		{"hangs up", func(c *node.Conn) { c.Conn.Close() }, client.ErrUnknown, client.ErrDown},
		{"says goodbye", func(c *node.Conn) {
			c.SkipRequest()
			c.WriteResponse(&wire.Response{Code: wire.Goodbye})
		}, client.ErrUnknown, client.ErrDown},
		{"answers garbage", func(c *node.Conn) {
			c.SkipRequest()
			c.WriteResponse(&wire.Response{})
		}, errAny, nil},
		{"answers too little", func(c *node.Conn) {
			c.SkipRequest()
			c.WriteResponse(&wire.Response{Code: wire.OK})
		}, errAny, nil},
		{"fails", func(c *node.Conn) {
			c.SkipRequest()
			c.WriteResponse(&wire.Response{Code: wire.Failed})
		}, errAny, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, _ := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
				return benchtest.ServeAll(ctx, ln, n, test.turn)
			})
			pl := newTestPipeline(t, cfg)
			for i, want := range []error{test.first, test.later} {
				if want == nil {
					continue
				}
				if _, err := pl.Once(t.Context(), get); err == nil || want != errAny && !errors.Is(err, want) {
					t.Errorf("call %d: error %v, want %v", i+1, err, want)
				}
			}
		})
	}
	if _, err := newTestPipeline(t, func() cluster.Config { cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked); return cfg }()).Do(t.Context(), wire.Op{}); err == nil {
		t.Error("a request that breaks the rules gives no error")
	}
}

var errAny = errors.New("any error")

// A part that fails leaves the others' answers alone.
func TestPipelinePart(t *testing.T) {
	var dead atomic.Bool
	cfg, _ := benchtest.Here(t, 2, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			if n.Self == 1 && dead.Load() {
				c.Conn.Close()
				return
			}
			n.Answer(c, apply)
		})
	})
	dead.Store(true)
	var ops []wire.Op
	for i := range 10 {
		ops = append(ops, wire.Op{Kind: wire.Put, Key: strconv.Itoa(i), Value: []byte("x")})
	}
	results, err := newTestPipeline(t, cfg).Do(t.Context(), ops...)
	if !errors.Is(err, client.ErrUnknown) || len(results) != len(ops) {
		t.Fatalf("%d results, error %v", len(results), err)
	}
	for i, r := range results {
		want := []wire.Status{wire.Created, wire.Unknown}[cfg.Owner(ops[i].Key)]
		if r.Status != want {
			t.Errorf("operation %d: %v, want %v", i, r.Status, want)
		}
	}
}

// A call that is given up leaves its answer to nobody, and the next call's to the next.
func TestPipelineGivenUp(t *testing.T) {
	g := newGate()
	cfg, _ := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			g.wait()
			n.Answer(c, apply)
		})
	})
	pl := newTestPipeline(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := pl.Do(ctx, wire.Op{Kind: wire.Put, Key: "a", Value: []byte("b")}); err != context.DeadlineExceeded {
		t.Errorf("a call that is given up: error %v", err)
	}
	close(g.open)
	r, err := pl.Do(t.Context(), wire.Op{Kind: wire.Get, Key: "a"})
	if err != nil || r[0].Status != wire.Found {
		t.Errorf("the call after it is answered %v, %v, want found", r, err)
	}
}

func TestPipelineDial(t *testing.T) {
	cfg, _ := benchtest.Here(t, 2, benchtest.ServeLocked)
	other := cfg
	other.Nodes = append([]cluster.Node{}, cfg.Nodes...)
	other.Nodes[1].Control = "127.0.0.1:9" // another cluster
	if _, err := dialPipeline(t.Context(), other); !errors.Is(err, wire.ErrMismatch) || !strings.HasPrefix(err.Error(), "node 0 (") {
		t.Errorf("dialling another cluster: error %v", err)
	}
	noneLeft(t)
}
