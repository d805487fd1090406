package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A server is a node whose connections follow a script. Its table tells what was
// applied.
type server struct {
	hello wire.Hello
	ln    net.Listener
	conns sync.WaitGroup // scripts; each ends when its connection does

	mu       sync.Mutex // guards what follows
	table    *table.Table
	applied  int // requests
	accepted int
	open     []net.Conn
}

// A link is the server's end of one connection, not yet greeted.
type link struct {
	net.Conn
	*server
	nth int // from 1
	c   *wire.Conn
}

func newServer(cfg cluster.Config, number int) *server {
	return &server{table: table.New(cluster.Work{}, nil),
		hello: wire.Hello{Purpose: wire.Service, Group: "nodes", Number: number, Fingerprint: cfg.Fingerprint()}}
}

// pipe returns the client's end of a connection that does not need the network.
func (s *server) pipe(nth int, script func(*link)) net.Conn {
	near, far := net.Pipe()
	s.conns.Go(func() { // ends with the connection
		defer far.Close()
		script(&link{Conn: far, server: s, nth: nth})
	})
	return near
}

// start runs a server as node number of cfg until the end of the test.
func start(t *testing.T, cfg *testbed, number int, script func(*link)) *server {
	t.Helper()
	ln := cfg.lns[number]
	s := newServer(cfg.Config, number)
	s.ln = ln
	s.conns.Go(func() { // ends when ln is closed
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.accepted++
			s.open = append(s.open, nc)
			l := &link{Conn: nc, server: s, nth: s.accepted}
			s.mu.Unlock()
			s.conns.Go(func() {
				defer nc.Close()
				script(l)
			})
		}
	})
	t.Cleanup(s.stop)
	return s
}

// stop ends the server and its connections, without a Goodbye.
func (s *server) stop() {
	s.ln.Close()
	s.mu.Lock()
	for _, nc := range s.open {
		nc.Close()
	}
	s.mu.Unlock()
	s.conns.Wait()
}

func (s *server) count() (applied, accepted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied, s.accepted
}

func (l *link) greet() *link {
	l.c, _ = wire.Greet(l.Conn, l.hello, wire.Limits{}) // nil if the client has gone
	return l
}

// next waits for a request; nil at the end of the connection.
func (l *link) next() []wire.Op {
	var r wire.Request
	if l.c == nil || !l.c.Ready() || !l.c.ReadRequest(&r) {
		return nil
	}
	return r.Ops
}

func (l *link) apply(ops []wire.Op) []wire.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.applied++
	return l.table.Apply(ops)
}

func (l *link) say(code wire.Code, results ...wire.Result) {
	l.c.WriteResponse(&wire.Response{Code: code, Results: results})
	l.c.Flush()
}

// serve answers as a server should, until the end of the connection.
func (l *link) serve() {
	for ops := l.next(); ops != nil; ops = l.next() {
		l.say(wire.OK, l.apply(ops)...)
	}
}

func honest(l *link) { l.greet().serve() }

// reset ends a connection so that the other end's next write fails.
func (l *link) reset() {
	l.Conn.(*net.TCPConn).SetLinger(0)
	l.Conn.Close()
}

// A testbed is a cluster whose servers are to be started. Where lns has a listener,
// clients can already dial.
type testbed struct {
	cluster.Config
	lns []net.Listener
}

func config(t *testing.T, n int) *testbed {
	t.Helper()
	cfg := &testbed{cluster.Default(), make([]net.Listener, n)}
	cfg.Nodes = make([]cluster.Node, n)
	for i := range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		cfg.lns[i] = ln
		cfg.Nodes[i] = cluster.Node{Addr: ln.Addr().String(), Control: fmt.Sprintf("127.0.0.1:%d", 2+i)}
	}
	return cfg
}

// client returns a Client of cfg, which is closed at the end of the test and must leave
// no goroutines.
func client(t *testing.T, cfg *testbed) *Client {
	cl := New(cfg.Config)
	t.Cleanup(func() { cl.Close(); noneLeft(t) })
	return cl
}

func dial(t *testing.T, cfg *testbed) *Client {
	t.Helper()
	cl, err := Dial(t.Context(), cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close(); noneLeft(t) })
	return cl
}

// alone starts the only server of a cluster, and returns a Client of it.
func alone(t *testing.T, script func(*link)) (*server, *Client) {
	t.Helper()
	cfg := config(t, 1)
	return start(t, cfg, 0, script), client(t, cfg)
}

// noneLeft fails the test if goroutines of a Client do not end.
func noneLeft(t *testing.T) {
	t.Helper()
	var left []string
	if !until(t, "the Client's goroutines to end", func() bool { left = node.Stacks("client.(*peer)", "client.(*Client)"); return left == nil }) {
		t.Log(strings.Join(left, "\n\n"))
	}
}

// until waits for something that another goroutine is about to do.
func until(t *testing.T, what string, done func() bool) bool {
	t.Helper()
	for late := time.Now().Add(10 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(late) {
			t.Errorf("timed out waiting for %s", what)
			return false
		}
	}
	return true
}

func put(key string) wire.Op { return wire.Op{Kind: wire.Put, Key: key, Value: []byte("v")} }
func get(key string) wire.Op { return wire.Op{Kind: wire.Get, Key: key} }

// insert is a write that answers Mismatch if it is applied a second time.
func insert(key string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Absent: true, Value: []byte("v")}
}

// keyOf returns a key of node i.
func keyOf(cfg cluster.Config, i int) string {
	for n := 0; ; n++ {
		if key := fmt.Sprint("key", n); cfg.Owner(key) == i {
			return key
		}
	}
}

func statuses(results []wire.Result) string {
	var words []string
	for _, r := range results {
		words = append(words, r.Status.String())
	}
	return strings.Join(words, ", ")
}

// expect returns a function that checks the statuses and the error that Do returns. The
// error must be all of errs, and nil if there are none.
func expect(t *testing.T, want string, errs ...error) func([]wire.Result, error) {
	return func(results []wire.Result, err error) {
		t.Helper()
		different := func(is error) bool { return !errors.Is(err, is) }
		if got := statuses(results); got != want || err != nil && errs == nil || slices.ContainsFunc(errs, different) {
			t.Errorf("%s (%v), want %s (%v)", got, err, want, errs)
		}
	}
}

// checkCounts checks what a client has counted, without the time spent on dialling and the dials
// that failed.
func checkCounts(t *testing.T, cl *Client, want Counts) {
	t.Helper()
	got := cl.Counts()
	if got.Dialing, got.FailedDials = 0, nil; !reflect.DeepEqual(got, want) {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// A script treats the first request badly, and all others well.
func TestOutcomes(t *testing.T) {
	raw := func(bytes string) func(*link, []wire.Op) {
		return func(l *link, ops []wire.Op) { l.apply(ops); io.WriteString(l.Conn, bytes); l.Conn.Close() }
	}
	code := func(code wire.Code) func(*link, []wire.Op) {
		return func(l *link, ops []wire.Op) { l.say(code) }
	}
	status := func(s wire.Status) func(*link, []wire.Op) {
		return func(l *link, ops []wire.Op) { l.say(wire.OK, wire.Result{Status: s}) }
	}
	half := string(frame(t, wire.Response{Code: wire.OK, Results: []wire.Result{{Status: wire.Missing}}})[:9])
	const (
		again   = "again" // the second try is answered
		unknown = "unknown"
		failed  = "failed" // unknown for a write, and not tried again for a read either
	)
	for _, test := range []struct {
		name  string
		first func(l *link, ops []wire.Op)
		write string // the outcome of a write; a read is tried again where this is unknown
		err   error  // the error is this one, if not nil
		says  string // and says this
		kept  bool   // the connection is used again
	}{
		{"ok", func(l *link, ops []wire.Op) { l.say(wire.OK, l.apply(ops)...) }, "ok", nil, "", true},
		{"ok, and an answer to no request", func(l *link, ops []wire.Op) {
			l.c.WriteResponse(&wire.Response{Code: wire.OK, Results: l.apply(ops)})
			l.say(wire.OK, wire.Result{Status: wire.Found, Value: []byte("nobody's")})
		}, "ok", nil, "", false},
		{"busy", code(wire.Busy), again, nil, "", true},
		{"goodbye", func(l *link, ops []wire.Op) { l.say(wire.Goodbye); l.Conn.Close() }, again, nil, "", false},
		{"wrong node", code(wire.WrongNode), "not run", ErrWrongNode, "wrong node", true},
		{"invalid", func(l *link, ops []wire.Op) { l.say(wire.Invalid); l.Conn.Close() }, "not run", nil, "invalid", false},
		{"failed", code(wire.Failed), failed, nil, "server failed", true},
		{"no code", code(0), unknown, nil, "no code", false},
		{"too few results", code(wire.OK), unknown, wire.ErrMalformed, "0 results for 1 operation", false},
		{"two billion results", raw(string(claim(t))), unknown, wire.ErrMalformed, "more than 1024", false},
		{"status unknown", status(wire.Unknown), unknown, wire.ErrMalformed, "unknown answered to", false},
		{"status 0", status(0), unknown, wire.ErrMalformed, "invalid answered to", false},
		{"answer lost", raw(""), unknown, io.ErrUnexpectedEOF, "", false},
		{"connection reset", func(l *link, ops []wire.Op) { l.apply(ops); l.reset() }, unknown, nil, "reset", false},
		{"answer cut in its frame", raw(half), unknown, io.ErrUnexpectedEOF, "", false},
		{"half an answer, and a goodbye", raw(half + string(frame(t, wire.Response{Code: wire.Goodbye}))), unknown, wire.ErrMalformed, "", false},
		{"answer of no length", raw("\x00\x00\x00\x00"), unknown, wire.ErrMalformed, "", false},
		{"endless answer", func(l *link, _ []wire.Op) { babble(l.Conn, []byte{0, 1, 0, 0}) }, unknown, wire.ErrMalformed, "", false},
		{"garbage", raw("\x00\x00\x00\x04\x03\xff\x82\x00"), unknown, wire.ErrMalformed, "", false},
	} {
		for _, op := range []wire.Op{insert("k"), get("k")} {
			t.Run(test.name+"/"+op.Kind.String(), func(t *testing.T) {
				var met atomic.Bool
				s, cl := alone(t, func(l *link) {
					l.greet()
					for ops := l.next(); ops != nil; ops = l.next() {
						if !met.Swap(true) {
							test.first(l, ops)
						} else {
							l.say(wire.OK, l.apply(ops)...)
						}
					}
				})
				ctx := &countedContext{done: make(chan struct{})}
				results, err := cl.Do(ctx, op)

				want, counts := test.write, Counts{Dials: 1}
				if want == failed {
					want = map[bool]string{true: unknown, false: "not run"}[op.Kind.Writes()]
				}
				if want == unknown && op.Kind.Writes() {
					counts.Unknown = 1
				} else if want == unknown || want == again {
					want, counts.Retries = again, 1
					if !test.kept {
						counts.Dials = 2
					}
				}
				if test.name == "busy" {
					counts.Refusals = 1
				}
				if want == "ok" || want == again {
					good := map[wire.OpKind]string{wire.CompareAndSwap: "swapped", wire.Get: "missing"}[op.Kind]
					if got := statuses(results); got != good || err != nil {
						t.Errorf("%s (%v), want %s", got, err, good)
					}
				} else {
					got := fmt.Sprint(err)
					if statuses(results) != want || !errors.Is(err, test.err) && test.err != nil || errors.Is(err, ErrUnknown) != (want == unknown) {
						t.Errorf("%s (%v), want %s (%v)", statuses(results), err, want, test.err)
					}
					if strings.Count(got, "(node 0, "+cl.cfg.Nodes[0].Addr+")") != 1 || !strings.Contains(got, test.says) || len(got) > 300 {
						t.Errorf("the error is %q, want it short, with the node once, and %q", got, test.says)
					}
				}
				checkCounts(t, cl, counts)
				if applied, _ := s.count(); op.Kind.Writes() && applied > 1 {
					t.Errorf("a write was applied %d times", applied)
				}
				if n := ctx.waiting.Load(); n != 0 {
					t.Errorf("after the call %d functions wait for the end of its context", n)
				}

				// The next call is served, on a new connection if the old one is not to be trusted.
				expect(t, "created")(cl.Do(t.Context(), put("after")))
				if _, accepted := s.count(); test.kept != (accepted == 1) {
					t.Errorf("after two calls %d connections, kept %v, want %v", accepted, accepted == 1, test.kept)
				}
			})
		}
	}
}

// A countedContext never ends, and counts the functions that wait for its end. One that
// remains after a call is a leak for as long as the caller's context lives.
type countedContext struct {
	done    chan struct{}
	waiting atomic.Int64
}

func (c *countedContext) Done() <-chan struct{}       { return c.done }
func (c *countedContext) Err() error                  { return nil }
func (c *countedContext) Value(any) any               { return nil }
func (c *countedContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// AfterFunc is what context.AfterFunc calls.
func (c *countedContext) AfterFunc(func()) (stop func() bool) {
	c.waiting.Add(1)
	return sync.OnceValue(func() bool { c.waiting.Add(-1); return true })
}

func TestOnceReturnsBusy(t *testing.T) {
	s, cl := alone(t, func(l *link) {
		l.greet().next()
		l.say(wire.Busy)
		l.serve()
	})
	expect(t, "not run", ErrBusy)(cl.Once(t.Context(), insert("k")))
	expect(t, "swapped")(cl.Once(t.Context(), insert("k")))
	checkCounts(t, cl, Counts{Dials: 1, Refusals: 1})
	if _, accepted := s.count(); accepted != 1 {
		t.Errorf("%d connections, want the one that said Busy", accepted)
	}
}

// A request that is not sent whole was not applied: its connection was reset while
// idle.
func TestRequestNotSentIsSentAgain(t *testing.T) {
	cut := make(chan struct{})
	s, cl := alone(t, func(l *link) {
		if l.greet(); l.nth == 1 {
			l.say(wire.OK, l.apply(l.next())...)
			<-cut
			l.reset()
			return
		}
		l.serve()
	})
	expect(t, "created")(cl.Do(t.Context(), put("a")))
	close(cut)
	until(t, "the reset", func() bool { return !cl.peers[0].idle[0].Quiet() })
	expect(t, "swapped")(cl.Do(t.Context(), insert("b")))
	checkCounts(t, cl, Counts{Dials: 2, Retries: 1})
	if applied, _ := s.count(); applied != 2 {
		t.Errorf("%d requests applied, want 2", applied)
	}
}

func TestOperations(t *testing.T) {
	_, cl := alone(t, honest)
	ctx := t.Context()
	is := func(want bool) func(bool, error) {
		return func(got bool, err error) {
			t.Helper()
			if got != want || err != nil {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}
	}
	value, ok, err := cl.Get(ctx, "k")
	if value != nil || ok || err != nil {
		t.Errorf("Get of nothing: %q, %v, %v", value, ok, err)
	}
	is(true)(cl.Put(ctx, "k", []byte("1")))
	is(false)(cl.Put(ctx, "k", []byte("1")))
	is(false)(cl.CompareAndSwap(ctx, "k", nil, nil))
	is(false)(cl.CompareAndSwap(ctx, "k", []byte{}, nil))
	is(true)(cl.CompareAndSwap(ctx, "k", []byte("1"), nil))
	// An empty value is not nil, though gob does not tell them apart.
	if value, ok, err = cl.Get(ctx, "k"); value == nil || len(value) != 0 || !ok || err != nil {
		t.Errorf("Get of an empty value: %#v, %v, %v", value, ok, err)
	}
	is(true)(cl.CompareAndSwap(ctx, "k", []byte{}, []byte("2")))
	is(true)(cl.Delete(ctx, "k"))
	is(false)(cl.Delete(ctx, "k"))
	is(true)(cl.CompareAndSwap(ctx, "k", nil, []byte("3")))

	expect(t, "")(cl.Do(ctx))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	expect(t, "not run", context.Canceled)(cl.Do(ended, put("k")))

	// A status that does not suit its operation is passed on to the caller.
	_, cl = alone(t, func(l *link) {
		l.greet().next()
		l.say(wire.OK, wire.Result{Status: wire.Missing})
	})
	expect(t, "missing")(cl.Do(ctx, put("k")))
}

// Each part of a batch has an outcome of its own.
func TestBatchOverTwoNodes(t *testing.T) {
	say := func(code wire.Code) func(*link) { return func(l *link) { l.greet().next(); l.say(code) } }
	var down func(*link)
	lose := func(l *link) { l.greet(); l.apply(l.next()); l.Conn.Close() }
	for _, test := range []struct {
		name      string
		zero, one func(l *link) // what the nodes do with their parts
		want      string
		errs      [2]error
	}{
		{"both answer", honest, honest, "created, created, created, missing", [2]error{}},
		{"one is lost", honest, lose, "created, unknown, created, unknown", [2]error{1: ErrUnknown}},
		{"one is refused", honest, say(wire.WrongNode), "created, not run, created, not run", [2]error{1: ErrWrongNode}},
		{"one is down", down, honest, "not run, created, not run, missing", [2]error{ErrDown}},
		{"both fail", say(wire.Busy), lose, "not run, unknown, not run, unknown", [2]error{ErrBusy, ErrUnknown}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t, test.zero, test.one)
				zero, one := keyOf(m.cfg, 0), keyOf(m.cfg, 1)
				results, err := m.Once(t.Context(), put(zero), put(one), put(zero+"b"), get(one+"b"))
				if m.cfg.Owner(zero+"b") != 0 || m.cfg.Owner(one+"b") != 1 {
					t.Fatal("the keys are badly chosen")
				}
				if got := statuses(results); got != test.want {
					t.Errorf("%s (%v), want %s", got, err, test.want)
				}
				for i, want := range test.errs {
					named := strings.Contains(fmt.Sprint(err), fmt.Sprint("node ", i))
					if named != (want != nil) || want != nil && !errors.Is(err, want) {
						t.Errorf("the error is %v, want %v of node %d", err, want, i)
					}
				}
			})
		})
	}
}

// A late answer must never be taken for the answer to the next request.
func TestContextEndsDuringAWrite(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan struct{})
	s, cl := alone(t, func(l *link) {
		if l.greet(); l.nth == 1 {
			l.next()
			cancel()
			<-returned
			l.say(wire.OK, wire.Result{Status: wire.Found, Value: []byte("late")})
		}
		l.serve()
	})
	expect(t, "unknown", ErrUnknown, context.Canceled)(cl.Do(ctx, insert("k")))
	close(returned)
	checkCounts(t, cl, Counts{Dials: 1, Unknown: 1})
	if value, ok, err := cl.Get(t.Context(), "k"); ok || err != nil {
		t.Errorf("the next call has %q, %v, want its own answer", value, err)
	}
	if _, accepted := s.count(); accepted != 2 {
		t.Errorf("%d connections, want a new one after the call that was cancelled", accepted)
	}
}
