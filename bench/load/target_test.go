package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// turns is a stage that calls turn for each request; answer gives the right answer to it.
func turns(turn func(n *node.Node, c *node.Conn, answer func())) node.Serve {
	return func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			turn(n, c, func() { n.Answer(c, apply) })
		})
	}
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
		served, connections := nodes[0].Stats.Ops.Load(), nodes[0].Stats.Connections.Load()
		if r.OK != int64(test.ops) || served != r.OK || r.Requests != int64((test.ops+test.batch-1)/test.batch) ||
			connections != test.connections || r.Connections != 3 || r.Starved != 0 || r.Unfinished != 0 || r.Errors != nil ||
			r.Wrong != 0 || r.Slips != nil || r.Samples != nil || r.ResponseTimes.Count() != r.Requests {
			t.Errorf("%+v: the server says %d operations on %d connections; the result is %+v", test, served, connections, r.Counts)
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
		if err != nil || r.OK != 50 || r.Errors != nil || r.Dur > 15*time.Second { // it waits for no connection that has no place
			t.Fatalf("%s, depth %d: %d operations in %v, errors %v, %v", conn, depth, r.OK, r.Dur, r.Errors, err)
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

// New says why no connection is greeted.
func TestAnotherCluster(t *testing.T) {
	cfg, _ := benchtest.Here(t, 2, benchtest.ServeLocked)
	cfg.Nodes = slices.Clone(cfg.Nodes)
	cfg.Nodes[1].Control = "127.0.0.1:9"
	for _, cfg.Workload.Depth = range []int{1, 2} {
		_, err := New(t.Context(), NewLockstep(cfg), newWorkload(t, cfg.Workload), 0)
		if place := " (node 0, " + cfg.Nodes[0].Addr + ")"; !errors.Is(err, wire.ErrMismatch) || !strings.HasSuffix(err.Error(), place) {
			t.Errorf("depth %d: error %v, want %v with %q", cfg.Workload.Depth, err, wire.ErrMismatch, place)
		}
	}
}

func newTestPipeline(t *testing.T, cfg cluster.Config) *pipeline {
	cfg.Workload.Depth, cfg.Workload.Connections = 2, 1
	return connected(t, NewLockstep(cfg)).conns[0].client.(*pipeline)
}

func put(key string) wire.Op { return wire.Op{Kind: wire.Put, Key: key, Value: []byte("value")} }

// Batches over several nodes, some of them refused at first, get their own answers in their order.
func TestPipelineOverNodes(t *testing.T) {
	t.Parallel()
	var taken [3]atomic.Int64 // by each node
	cfg, nodes := benchtest.Here(t, 3, turns(func(n *node.Node, c *node.Conn, answer func()) {
		if taken[n.Self].Add(1)%3 == 0 {
			n.Refuse(c)
			return
		}
		answer()
	}))
	w := &cfg.Workload
	w.Connections, w.Depth, w.Batch, w.Keys = 1, 4, 5, 20
	l := connected(t, NewLockstep(cfg))
	r := l.run(t.Context(), 0, 300)
	refusals := int64(0)
	for i, n := range nodes {
		refused, served, connections := n.Stats.Refusals.Load(), n.Stats.Ops.Load(), n.Stats.Connections.Load()
		if refusals += refused; connections != 1 || served == 0 || refused == 0 {
			t.Errorf("node %d: %d connections, %d operations, %d refusals, want 1, and some", i, connections, served, refused)
		}
	}
	if r.OK != 300 || r.Misses > 100 || r.Wrong > 0 || r.Refusals != refusals || l.conns[0].client.Counts().Dialing <= 0 {
		t.Errorf("counted %+v, want 300 right answers, most gets to find a value, and %d refusals", r.Counts, refusals)
	}
}

// What becomes of a put whose first turn goes wrong, and then of a get, in the same way.
func TestPipelineErrors(t *testing.T) {
	t.Parallel()
	respond := func(code wire.Code) func(*node.Conn) {
		return func(c *node.Conn) {
			c.SkipRequest()
			c.WriteResponse(&wire.Response{Code: code})
		}
	}
	for _, test := range []struct {
		name        string
		turn        func(*node.Conn)
		put, get    error
		connections int64 // one more after each that is lost
	}{
		{"busy", respond(wire.Busy), nil, nil, 1},
		{"wrong node", respond(wire.WrongNode), client.ErrWrongNode, client.ErrWrongNode, 1},
		{"failed", respond(wire.Failed), client.ErrUnknown, client.ErrFailed, 1},
		{"goodbye", func(c *node.Conn) { c.SkipRequest(); c.Conn.Close() }, nil, nil, 3},
		{"no code", respond(0), client.ErrUnknown, nil, 3},
		{"no results", respond(wire.OK), client.ErrUnknown, nil, 3},
	} {
		var wrong atomic.Bool
		cfg, nodes := benchtest.Here(t, 1, turns(func(_ *node.Node, c *node.Conn, answer func()) {
			if wrong.Swap(false) {
				test.turn(c)
			} else {
				answer()
			}
		}))
		pl := newTestPipeline(t, cfg)
		ask := func(do func(context.Context, ...wire.Op) ([]wire.Result, error), op wire.Op) error {
			wrong.Store(true)
			_, err := do(t.Context(), op)
			return err
		}
		if err := ask(pl.Do, put("k")); !errors.Is(err, test.put) {
			t.Errorf("%s: put: error %v, want %v", test.name, err, test.put)
		}
		if err := ask(pl.Do, wire.Op{Kind: wire.Get, Key: "k"}); !errors.Is(err, test.get) || errors.Is(err, client.ErrUnknown) {
			t.Errorf("%s: get: error %v, want %v", test.name, err, test.get)
		}
		if got := nodes[0].Stats.Connections.Load(); got != test.connections {
			t.Errorf("%s: %d connections, want %d", test.name, got, test.connections)
		}
		if err := ask(pl.Once, put("k")); test.name == "busy" && !errors.Is(err, client.ErrBusy) {
			t.Errorf("busy, once: error %v", err)
		}
		if _, err := pl.Do(t.Context(), wire.Op{}); err == nil {
			t.Error("a request that breaks the rules gives no error")
		}
	}
}

// A node that is down fails its part of a batch, at once after a second in which it was tried, and
// leaves the others' answers alone.
func TestPipelinePart(t *testing.T) {
	cfg, _ := benchtest.Here(t, 2, benchtest.ServeLocked)
	cfg.Nodes = slices.Clone(cfg.Nodes)
	pl := newTestPipeline(t, cfg)
	cfg.Nodes[1].Addr = "127.0.0.1:1"
	pl.nodes[1].stream.nc.Close()
	pl.nodes[1].failing = time.Now().Add(-client.DownAfter)
	var ops []wire.Op
	for i := range 10 {
		ops = append(ops, put(strconv.Itoa(i)))
	}
	results, err := pl.Do(t.Context(), ops...)
	if !errors.Is(err, client.ErrDown) || len(results) != len(ops) {
		t.Fatalf("%d results, error %v, want %v", len(results), err, client.ErrDown)
	}
	for i, r := range results {
		if want := []wire.Status{wire.Created, wire.NotRun}[cfg.Owner(ops[i].Key)]; r.Status != want {
			t.Errorf("operation %d: %v, want %v", i, r.Status, want)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// While a node is silent, Dial gives back the connections to the nodes before it, and starts over.
func TestPipelineYields(t *testing.T) {
	cfg := cluster.Default()
	cfg.Nodes = slices.Repeat([]cluster.Node{{Addr: listen(t).Addr().String()}}, 2)
	synctest.Test(t, func(t *testing.T) {
		var first net.Conn // to node 0
		given := false     // back
		began := time.Now()
		cl, err := Dial(t.Context(), cfg, func(ctx context.Context, i int, nc net.Conn) (Codec, error) {
			switch {
			case first == nil:
				first = nc
			case i == 0:
				given = errors.Is(first.SetDeadline(time.Time{}), net.ErrClosed)
			case !given:
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return textCodec{}, nil
		})
		defer cl.Close()
		if took := time.Since(began); err != nil || !given || took != client.Patience(0) {
			t.Errorf("error %v, given back %v, after %v, want nil, true, %v", err, given, took, client.Patience(0))
		}
	})
}

// A textCodec sends "NUMBER KEY" for a get and reads "NUMBER VALUE", each on a line.
type textCodec struct{ *bufio.Reader }

func (c textCodec) Append(dst []byte, number uint64, ops []wire.Op) ([]byte, error) {
	return fmt.Appendf(dst, "%d %s\n", number, ops[0].Key), nil
}

func (c textCodec) Read([]wire.Op) (number uint64, results []wire.Result, err error) {
	line, err := c.ReadString('\n')
	if err != nil {
		return 0, nil, err
	}
	first, value, _ := strings.Cut(strings.TrimSpace(line), " ")
	number, err = strconv.ParseUint(first, 10, 64)
	return number, []wire.Result{{Status: wire.Found, Value: []byte(value)}}, err
}

// newTestStream returns a stream to serve in a bubble, with no buffers between the two ends: a
// write waits until the other end reads.
func newTestStream(t *testing.T, serve func(net.Conn)) *stream {
	mine, its := net.Pipe()
	t.Cleanup(func() { mine.Close() })
	go func() { // the bubble waits for its end
		defer its.Close()
		serve(its)
	}()
	return &stream{codec: textCodec{bufio.NewReader(mine)}, nc: mine, idleSince: time.Now()}
}

// getAll makes this many calls at the same time, and fails the test unless each gets its own answer.
func getAll(t *testing.T, s *stream, calls, times int) {
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			for n := range times {
				key := fmt.Sprintf("%d-%d", i, n)
				if r, err := s.do(t.Context(), []wire.Op{{Kind: wire.Get, Key: key}}); err != nil || string(r[0].Value) != key {
					t.Errorf("get %s = %v, error %v", key, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A connection that the server has closed while it was idle is no longer good.
func TestStreamIdle(t *testing.T) {
	ln := listen(t)
	mine, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	its, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{nc: mine, idleSince: time.Now().Add(-time.Second)}
	open := s.good()
	its.Close()
	if s.idleSince = time.Now().Add(-time.Second); !open || s.good() {
		t.Errorf("it is good while it is open: %v, and later: %v", open, s.lost == nil)
	}
}

// A server that takes no request before its last answer is read does not block calls, and
// answers may come in any order.
func TestStreamAnswers(t *testing.T) {
	for together, times := range map[int]int{1: 5, 50: 1} { // requests that are read before the answers are sent; of each call
		synctest.Test(t, func(t *testing.T) {
			getAll(t, newTestStream(t, func(nc net.Conn) {
				in, answers := bufio.NewReader(iotest.OneByteReader(nc)), make([]string, together)
				for {
					for i := range answers {
						line, err := in.ReadString('\n')
						if err != nil {
							return
						}
						answers[together-1-i] = line
					}
					io.WriteString(nc, strings.Join(answers, ""))
				}
			}), 50, times)
		})
	}
}

// A slowConn's writes return a second after they are read.
type slowConn struct{ net.Conn }

func (c slowConn) Write(b []byte) (int, error) {
	defer func() { <-time.After(time.Second) }()
	return c.Conn.Write(b)
}

// A call that is answered during its own write also sends the request of the call that reads.
func TestStreamWritesForTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestStream(t, func(nc net.Conn) { io.Copy(nc, nc) })
		s.nc = slowConn{s.nc}
		getAll(t, s, 2, 1)
	})
}

func TestStreamLost(t *testing.T) {
	for _, test := range []struct {
		name   string
		taken  int // bytes of the request, which has 4
		answer string
		want   error
	}{
		{"a request that was not sent whole", 3, "", errNotApplied},
		{"the end of its context", 4, "", client.ErrUnknown},
		{"an answer to another request", 4, "7 k\n", client.ErrUnknown},
		{"a malformed answer", 4, "k\n", client.ErrUnknown},
	} {
		synctest.Test(t, func(t *testing.T) { // which ends a call that ignores its context
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			s := newTestStream(t, func(nc net.Conn) {
				if io.ReadFull(nc, make([]byte, test.taken)); test.taken == 4 {
					io.WriteString(nc, test.answer)
					io.Copy(io.Discard, nc)
				}
			})
			ops := []wire.Op{put("k")}
			if _, err := s.do(ctx, ops); !errors.Is(err, test.want) {
				t.Errorf("%s: error %v, want %v", test.name, err, test.want)
			}
			if _, err := s.do(t.Context(), ops); !errors.Is(err, errNotApplied) || s.good() {
				t.Errorf("after %s: error %v, good %v", test.name, err, s.good())
			}
		})
	}
}
