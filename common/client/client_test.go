package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A server is what a Client talks to here. Each connection follows a script, and
// the table behind them tells what was applied.
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

// start runs a server as node number of cfg until the end of the test.
func start(t *testing.T, cfg *house, number int, script func(*link)) *server {
	t.Helper()
	ln := cfg.lns[number]
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", cfg.Nodes[number].Addr); err != nil {
			t.Fatal(err)
		}
	}
	s := &server{ln: ln, table: table.New(cluster.Work{}, new(metrics.Timer)),
		hello: wire.Hello{Purpose: wire.Service, Group: "nodes", Number: number, Fingerprint: cfg.Fingerprint()}}
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

// stop ends the server and its connections without a word.
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

// A house is a cluster whose servers are to be started: where lns has a listener,
// clients can dial already.
type house struct {
	cluster.Config
	lns []net.Listener
}

func config(t *testing.T, n int) *house {
	t.Helper()
	cfg := &house{cluster.Default(), make([]net.Listener, n)}
	cfg.Nodes = make([]cluster.Node, n)
	for i := range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		cfg.lns[i] = ln
		cfg.Nodes[i] = cluster.Node{Addr: ln.Addr().String(), Control: fmt.Sprintf("127.0.0.1:%d", 1+i)}
	}
	return cfg
}

// refuse moves node i to an address where nobody listens. It is outside the
// ephemeral range: there, a client that dials again and again can meet itself.
func (cfg *house) refuse(t *testing.T, i int) {
	t.Helper()
	cfg.lns[i].Close()
	for range 100 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000)))
		if err == nil {
			ln.Close()
			cfg.lns[i], cfg.Nodes[i].Addr = nil, ln.Addr().String()
			return
		}
	}
	t.Fatal("no free port")
}

// client returns a Client of cfg that is closed at the end of the test, and must
// leave nothing behind.
func client(t *testing.T, cfg *house) *Client {
	cl := New(cfg.Config)
	t.Cleanup(func() { cl.Close(); noneLeft(t) })
	return cl
}

func dial(t *testing.T, cfg *house) *Client {
	t.Helper()
	cl, err := Dial(t.Context(), cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close(); noneLeft(t) })
	return cl
}

// noneLeft fails the test if a goroutine of a Client runs on.
func noneLeft(t *testing.T) {
	t.Helper()
	stacks := ""
	if !until(t, "the Client's goroutines to end", func() bool {
		buf := make([]byte, 1<<20)
		stacks = string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(stacks, "client.(*peer)") && !strings.Contains(stacks, "client.(*Client)")
	}) {
		t.Log(stacks)
	}
}

// until waits for what another goroutine is about to do.
func until(t *testing.T, what string, done func() bool) bool {
	t.Helper()
	for late := time.Now().Add(10 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(late) {
			t.Errorf("waited in vain for %s", what)
			return false
		}
	}
	return true
}

func put(key string) wire.Op { return wire.Op{Kind: wire.Put, Key: key, Value: []byte("v")} }
func get(key string) wire.Op { return wire.Op{Kind: wire.Get, Key: key} }

// insert is a write that tells whether it is applied twice: Mismatch.
func insert(key string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Absent: true, Value: []byte("v")}
}

// keyOf returns a key that node i owns.
func keyOf(cfg *house, i int) string {
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

// counted is what a client has counted, but for the time that dialling took.
func counted(cl *Client) Counts {
	c := cl.Counts()
	c.Dialing = 0
	return c
}

// The first request meets what a script does to it; whatever comes after that is
// served well. The table says what the caller of Do must be told.
func TestOutcomes(t *testing.T) {
	raw := func(bytes string) func(*link, []wire.Op) {
		return func(l *link, ops []wire.Op) { l.apply(ops); io.WriteString(l.Conn, bytes); l.Conn.Close() }
	}
	code := func(code wire.Code) func(*link, []wire.Op) {
		return func(l *link, ops []wire.Op) { l.say(code) }
	}
	const again = "again" // the second try is answered
	for _, test := range []struct {
		name   string
		first  func(l *link, ops []wire.Op)
		write  string // what becomes of a write
		read   string // and of a read
		err    error  // one that the error must be, where there is one
		says   string // and that it must say
		counts Counts // of one write; a read, and a write that is done again, count no Unknown
	}{
		{"ok", func(l *link, ops []wire.Op) { l.say(wire.OK, l.apply(ops)...) }, "ok", "ok", nil, "",
			Counts{Dials: 1}},
		{"busy", code(wire.Busy), again, again, nil, "",
			Counts{Dials: 1, Retries: 1, Refusals: 1}},
		{"goodbye", func(l *link, ops []wire.Op) { l.say(wire.Goodbye); l.Conn.Close() }, again, again, nil, "",
			Counts{Dials: 2, Retries: 1}},
		{"goodbye, and the connection stays", code(wire.Goodbye), again, again, nil, "",
			Counts{Dials: 2, Retries: 1}},
		{"wrong node", code(wire.WrongNode), "not run", "not run", ErrWrongNode, "wrong node",
			Counts{Dials: 1}},
		{"invalid", func(l *link, ops []wire.Op) { l.say(wire.Invalid); l.Conn.Close() }, "not run", "not run", nil, "invalid",
			Counts{Dials: 1}},
		{"failed", code(wire.Failed), "unknown", again, ErrUnknown, "the server failed inside the request",
			Counts{Dials: 1, Unknown: 1}},
		{"no code", code(0), "unknown", again, ErrUnknown, "no code",
			Counts{Dials: 1, Unknown: 1}},
		{"a code from the future", code(99), "unknown", again, ErrUnknown, "Code(99)",
			Counts{Dials: 1, Unknown: 1}},
		{"too few results", code(wire.OK), "unknown", again, ErrUnknown, "0 results for 1 operations",
			Counts{Dials: 1, Unknown: 1}},
		{"too many results", func(l *link, ops []wire.Op) { l.say(wire.OK, append(l.apply(ops), wire.Result{Status: wire.Found})...) },
			"unknown", again, ErrUnknown, "2 results for 1 operations",
			Counts{Dials: 1, Unknown: 1}},
		{"the client's own words", func(l *link, ops []wire.Op) { l.apply(ops); l.say(wire.OK, wire.Result{Status: wire.NotRun}) },
			"unknown", again, ErrUnknown, "not run answered to",
			Counts{Dials: 1, Unknown: 1}},
		{"answer lost", raw(""), "unknown", again, ErrUnknown, "unexpected EOF",
			Counts{Dials: 1, Unknown: 1}},
		{"connection reset", func(l *link, ops []wire.Op) { l.apply(ops); l.reset() }, "unknown", again, ErrUnknown, "reset",
			Counts{Dials: 1, Unknown: 1}},
		{"answer cut in its length", raw("\x00\x00"), "unknown", again, ErrUnknown, "unexpected EOF",
			Counts{Dials: 1, Unknown: 1}},
		{"answer cut in its frame", raw("\x00\x00\x00\x09\x08"), "unknown", again, ErrUnknown, "unexpected EOF",
			Counts{Dials: 1, Unknown: 1}},
		{"answer of no length", raw("\x00\x00\x00\x00"), "unknown", again, ErrUnknown, "malformed",
			Counts{Dials: 1, Unknown: 1}},
		{"answer of 4 GB", raw("\xff\xff\xff\xff"), "unknown", again, ErrUnknown, "malformed",
			Counts{Dials: 1, Unknown: 1}},
		{"garbage", raw("\x00\x00\x00\x04\x03\xff\x82\x00"), "unknown", again, ErrUnknown, "malformed",
			Counts{Dials: 1, Unknown: 1}},
		{"another program", raw("HTTP/1.1 400 Bad Request\r\n\r\n"), "unknown", again, ErrUnknown, "malformed",
			Counts{Dials: 1, Unknown: 1}},
	} {
		for _, op := range []wire.Op{insert("k"), get("k")} {
			t.Run(test.name+"/"+op.Kind.String(), func(t *testing.T) {
				cfg := config(t, 1)
				var met sync.Once
				s := start(t, cfg, 0, func(l *link) {
					l.greet()
					for ops := l.next(); ops != nil; ops = l.next() {
						first := false
						if met.Do(func() { first = true }); first {
							test.first(l, ops)
						} else {
							l.say(wire.OK, l.apply(ops)...)
						}
					}
				})
				cl := dial(t, cfg)
				ctx := &countedContext{done: make(chan struct{})}
				results, err := cl.Do(ctx, op)

				want, counts := test.write, test.counts
				if !op.Kind.Writes() {
					want = test.read
				}
				good := map[string]string{"cas": "swapped", "get": "missing"}[op.Kind.String()]
				switch want {
				case "ok", again:
					if got := statuses(results); got != good || err != nil {
						t.Errorf("%s (%v), want %s", got, err, good)
					}
				default:
					if got := statuses(results); got != want || err == nil || test.err != nil && !errors.Is(err, test.err) {
						t.Errorf("%s (%v), want %s (%v)", got, err, want, test.err)
					}
					if got := fmt.Sprint(err); strings.Count(got, "node 0 (") != 1 || !strings.Contains(got, test.says) {
						t.Errorf("the error is %q, want it to name the node once, and %q", got, test.says)
					}
				}
				if want == again && counts.Unknown > 0 { // the read is done again
					counts.Unknown, counts.Retries = 0, 1
					if !strings.HasPrefix(test.name, "failed") {
						counts.Dials = 2
					}
				}
				if got := counted(cl); got != counts {
					t.Errorf("counted %+v, want %+v", got, counts)
				}
				if applied, _ := s.count(); op.Kind.Writes() && applied > 1 {
					t.Errorf("a write was applied %d times", applied)
				}
				if n := ctx.waiting.Load(); n != 0 {
					t.Errorf("%d functions wait for the end of the call's context after it", n)
				}

				// Whatever happened, the next call is served: on a new connection if
				// the old one is not to be trusted.
				if results, err := cl.Do(t.Context(), put("after")); err != nil || results[0].Status != wire.Created {
					t.Errorf("the next call: %s, %v", statuses(results), err)
				}
				kept := slices.Contains([]string{"ok", "busy", "wrong node", "failed"}, test.name)
				if _, accepted := s.count(); kept != (accepted == 1) {
					t.Errorf("after two calls %d connections, kept %v, want %v", accepted, accepted == 1, kept)
				}
			})
		}
	}
}

// A countedContext never ends, and counts the functions that wait for its end:
// one that stays behind a call is a leak as long as the caller's context lives.
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

func TestOnceTakesBusyForAnAnswer(t *testing.T) {
	cfg := config(t, 1)
	s := start(t, cfg, 0, func(l *link) {
		l.greet().next()
		l.say(wire.Busy)
		l.serve()
	})
	cl := dial(t, cfg)
	for _, want := range []struct {
		status wire.Status
		err    error
	}{{wire.NotRun, ErrBusy}, {wire.Swapped, nil}} {
		results, err := cl.Once(t.Context(), insert("k"))
		if results[0].Status != want.status || !errors.Is(err, want.err) {
			t.Errorf("Once: %v, %v, want %v, %v", results[0].Status, err, want.status, want.err)
		}
	}
	if got, want := counted(cl), (Counts{Dials: 1, Refusals: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if _, accepted := s.count(); accepted != 1 {
		t.Errorf("%d connections, want the one that said Busy", accepted)
	}
}

// Busy for as long as the caller has time: then the error says both.
func TestBusyUntilTheContextEnds(t *testing.T) {
	cfg := config(t, 1)
	start(t, cfg, 0, func(l *link) {
		for l.greet(); l.next() != nil; {
			l.say(wire.Busy)
		}
	})
	cl := dial(t, cfg)
	for range 10 { // unless ctx ends between two pauses
		ctx, cancel := context.WithCancel(t.Context())
		enough := cl.Counts().Refusals + 5
		go func() {
			defer cancel()
			until(t, "five refusals", func() bool { return cl.Counts().Refusals >= enough })
		}()
		results, err := cl.Do(ctx, get("k"))
		if results[0].Status != wire.NotRun || !errors.Is(err, context.Canceled) {
			t.Fatalf("%s, %v, want not run, and that the call was cancelled", statuses(results), err)
		}
		if errors.Is(err, ErrBusy) {
			return
		}
	}
	t.Error("the error never says that the server was busy")
}

// A request that is not sent whole was not applied: here its connection is reset
// while it is idle.
func TestRequestNotSentIsSentAgain(t *testing.T) {
	cfg := config(t, 1)
	cut := make(chan struct{})
	s := start(t, cfg, 0, func(l *link) {
		if l.greet(); l.nth == 1 {
			l.say(wire.OK, l.apply(l.next())...)
			<-cut
			l.reset()
			return
		}
		l.serve()
	})
	cl := dial(t, cfg)
	if _, err := cl.Do(t.Context(), put("a")); err != nil {
		t.Fatal(err)
	}
	close(cut)
	until(t, "the reset", func() bool { return !cl.peers[0].idle[0].Quiet() })
	results, err := cl.Do(t.Context(), insert("b"))
	if err != nil || results[0].Status != wire.Swapped {
		t.Errorf("%s, %v, want swapped", statuses(results), err)
	}
	if got, want := counted(cl), (Counts{Dials: 2, Retries: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if applied, _ := s.count(); applied != 2 {
		t.Errorf("%d requests applied, want 2", applied)
	}
}

func TestOperations(t *testing.T) {
	cfg := config(t, 1)
	start(t, cfg, 0, honest)
	cl := dial(t, cfg)
	ctx := t.Context()
	value, ok, err := cl.Get(ctx, "k")
	if value != nil || ok || err != nil {
		t.Errorf("Get of nothing: %q, %v, %v", value, ok, err)
	}
	for _, want := range []bool{true, false} {
		if created, err := cl.Put(ctx, "k", []byte("1")); created != want || err != nil {
			t.Errorf("Put: %v, %v, want %v", created, err, want)
		}
	}
	for _, test := range []struct {
		old  []byte
		want bool
	}{{nil, false}, {[]byte{}, false}, {[]byte("1"), true}} {
		if swapped, err := cl.CompareAndSwap(ctx, "k", test.old, nil); swapped != test.want || err != nil {
			t.Errorf("CompareAndSwap(%v): %v, %v, want %v", test.old, swapped, err, test.want)
		}
	}
	// An empty value is not nil, though gob does not tell them apart.
	if value, ok, err = cl.Get(ctx, "k"); value == nil || len(value) != 0 || !ok || err != nil {
		t.Errorf("Get of an empty value: %#v, %v, %v", value, ok, err)
	}
	if swapped, err := cl.CompareAndSwap(ctx, "k", []byte{}, []byte("2")); !swapped || err != nil {
		t.Errorf("CompareAndSwap of an empty value: %v, %v", swapped, err)
	}
	for _, want := range []bool{true, false} {
		if existed, err := cl.Delete(ctx, "k"); existed != want || err != nil {
			t.Errorf("Delete: %v, %v, want %v", existed, err, want)
		}
	}
	if swapped, err := cl.CompareAndSwap(ctx, "k", nil, []byte("3")); !swapped || err != nil {
		t.Errorf("CompareAndSwap of nothing: %v, %v", swapped, err)
	}
}

func TestNothingToDo(t *testing.T) {
	cl := client(t, config(t, 1)) // nobody serves it
	if results, err := cl.Do(t.Context()); len(results) != 0 || err != nil {
		t.Errorf("Do of nothing: %v, %v", results, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results, err := cl.Do(ctx, put("k"))
	if statuses(results) != "not run" || !errors.Is(err, context.Canceled) {
		t.Errorf("Do after the end of its context: %s, %v", statuses(results), err)
	}
}

// What breaks a rule is not sent, and the connection is as good as before.
func TestInvalidOperations(t *testing.T) {
	cfg := config(t, 1)
	s := start(t, cfg, 0, honest)
	cl := dial(t, cfg)
	for name, ops := range map[string][]wire.Op{
		"no key":     {put("a"), put("")},
		"no kind":    {{Key: "a"}},
		"long value": {put("a"), {Kind: wire.Put, Key: "b", Value: make([]byte, wire.MaxValue+1)}},
		"a thousand": slices.Repeat([]wire.Op{put("a")}, wire.MaxOps+1),
		"a frame":    slices.Repeat([]wire.Op{{Kind: wire.Put, Key: "a", Value: make([]byte, wire.MaxValue)}}, 5),
	} {
		results, err := cl.Do(t.Context(), ops...)
		if err == nil || len(results) != len(ops) || slices.ContainsFunc(results, func(r wire.Result) bool { return r.Status != wire.NotRun }) {
			t.Errorf("%s: %s, %v, want not run", name, statuses(results), err)
		}
	}
	if _, ok, err := cl.Get(t.Context(), "a"); ok || err != nil {
		t.Errorf("something was stored, or not asked: %v, %v", ok, err)
	}
	if applied, accepted := s.count(); applied != 1 || accepted != 1 {
		t.Errorf("%d requests on %d connections, want the last one alone", applied, accepted)
	}
}

// Each part of a batch has a fate of its own.
func TestBatchOverTwoNodes(t *testing.T) {
	for _, test := range []struct {
		name string
		one  func(l *link) // what node 1 does with its part
		want string
		err  error
	}{
		{"both answer", honest, "created, created, created, missing", nil},
		{"one is lost", func(l *link) { l.greet(); l.apply(l.next()); l.Conn.Close() }, "created, unknown, created, unknown", ErrUnknown},
		{"one is refused", func(l *link) { l.greet().next(); l.say(wire.WrongNode) }, "created, not run, created, not run", ErrWrongNode},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, 2)
			start(t, cfg, 0, honest)
			start(t, cfg, 1, test.one)
			cl := dial(t, cfg)
			zero, one := keyOf(cfg, 0), keyOf(cfg, 1)
			results, err := cl.Do(t.Context(), put(zero), put(one), put(zero+"b"), get(one+"b"))
			if cfg.Owner(zero+"b") != 0 || cfg.Owner(one+"b") != 1 {
				t.Fatal("the keys are badly chosen")
			}
			if got := statuses(results); got != test.want || !errors.Is(err, test.err) {
				t.Errorf("%s (%v), want %s (%v)", got, err, test.want, test.err)
			}
			if got := fmt.Sprint(err); test.err != nil && (!strings.Contains(got, "node 1") || strings.Contains(got, "node 0")) {
				t.Errorf("the error is %q, want node 1 alone", got)
			}
		})
	}
}

func TestBatchOverTwoNodesThatBothFail(t *testing.T) {
	cfg := config(t, 2)
	start(t, cfg, 0, func(l *link) { l.greet().next(); l.say(wire.Busy) })
	start(t, cfg, 1, func(l *link) { l.greet().next() })
	cl := dial(t, cfg)
	results, err := cl.Once(t.Context(), put(keyOf(cfg, 0)), put(keyOf(cfg, 1)))
	if got, want := statuses(results), "not run, unknown"; got != want || !errors.Is(err, ErrBusy) || !errors.Is(err, ErrUnknown) {
		t.Errorf("%s (%v), want %s, and both errors", got, err, want)
	}
}

// A late answer must never be taken for that of the next request.
func TestContextEndsDuringAWrite(t *testing.T) {
	cfg := config(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan struct{})
	s := start(t, cfg, 0, func(l *link) {
		if l.greet(); l.nth == 1 {
			l.next()
			cancel()
			<-returned
			l.say(wire.OK, wire.Result{Status: wire.Found, Value: []byte("late")})
		}
		l.serve()
	})
	cl := dial(t, cfg)
	results, err := cl.Do(ctx, insert("k"))
	close(returned)
	if results[0].Status != wire.Unknown || !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("%s, %v, want unknown, and that the call was cancelled", statuses(results), err)
	}
	if got, want := counted(cl), (Counts{Dials: 1, Unknown: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if value, ok, err := cl.Get(t.Context(), "k"); ok || err != nil {
		t.Errorf("the next call has %q, %v, want its own answer", value, err)
	}
	if _, accepted := s.count(); accepted != 2 {
		t.Errorf("%d connections, want a new one after the call that was cancelled", accepted)
	}
}

func TestContextEndsDuringARead(t *testing.T) {
	cfg := config(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	start(t, cfg, 0, func(l *link) {
		l.greet().next()
		cancel()
		l.next() // until the client hangs up
	})
	cl := dial(t, cfg)
	_, ok, err := cl.Get(ctx, "k")
	if ok || !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) || strings.Count(err.Error(), "canceled") != 1 {
		t.Errorf("Get: %v, %v, want canceled, said once: a read leaves nobody in doubt", ok, err)
	}
	if got, want := counted(cl), (Counts{Dials: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// An answer too many is nobody's: the next request has a connection of its own.
func TestTwoAnswersToOneRequest(t *testing.T) {
	cfg := config(t, 1)
	start(t, cfg, 0, func(l *link) {
		if l.greet().nth > 1 {
			l.serve()
			return
		}
		ops := l.next()
		l.c.WriteResponse(&wire.Response{Code: wire.OK, Results: l.apply(ops)})
		l.say(wire.OK, wire.Result{Status: wire.Found, Value: []byte("nobody's")})
		l.next()
	})
	cl := client(t, cfg)
	if _, err := cl.Put(t.Context(), "key", []byte("mine")); err != nil {
		t.Fatal(err)
	}
	if value, ok, err := cl.Get(t.Context(), "key"); string(value) != "mine" || !ok || err != nil {
		t.Errorf("Get after a second answer to Put = %q, %v, %v, want %q", value, ok, err, "mine")
	}
}
