package client

// The outcome of every request, also where a server lies, babbles or breaks off: a clear
// error at a bounded cost, and a Client that goes on with a better server.

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A memory is nodes on net.Pipe, so that synctest owns their time and notices what does not
// end. They are found by name at each dial. Each connection follows its node's script, and the
// tables tell what was applied.
type memory struct {
	*Client
	conns sync.WaitGroup // scripts; each ends when its connection does

	mu      sync.Mutex     // guards what follows
	scripts []func(*link)  // by node; nil: dials are refused
	tables  []*table.Table // by node
	applied int            // requests
	dials   int
}

// A link is a node's end of one connection, not yet greeted.
type link struct {
	net.Conn
	m     *memory
	hello wire.Hello
	nth   int // from 1
	c     *wire.Conn
}

func newMemory(t *testing.T, scripts ...func(*link)) *memory {
	m, cfg := &memory{scripts: scripts}, cluster.Default()
	cfg.Nodes = nil
	for i := range scripts {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: fmt.Sprint("node:", i)})
		m.tables = append(m.tables, table.New(cluster.Work{}, nil))
	}
	t.Cleanup(m.conns.Wait) // or a deadlock: Close ends all connections
	m.Client = m.join(t, cfg)
	return m
}

// join returns another Client of the nodes, which is closed at the end of the test.
func (m *memory) join(t *testing.T, cfg cluster.Config) *Client {
	cl := New(cfg)
	cl.DialContext = m.dial
	t.Cleanup(func() { cl.Close() })
	return cl
}

func (m *memory) dial(_ context.Context, network, addr string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dials++
	i := slices.IndexFunc(m.cfg.Nodes, func(n cluster.Node) bool { return n.Addr == addr })
	script := m.scripts[i]
	if script == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	l := &link{Conn: far, m: m, hello: m.cfg.Hello(i), nth: m.dials}
	m.conns.Go(func() {
		defer far.Close()
		script(l)
	})
	return near, nil
}

// redial sets the script of the first node, and returns the number of dials so far.
func (m *memory) redial(script func(*link)) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scripts[0] = script
	return m.dials
}

// count returns the number of requests applied and of dials.
func (m *memory) count() (applied, dials int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied, m.dials
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
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.applied++
	return l.m.tables[l.hello.Number].Apply(ops)
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

// silent never greets.
func silent(l *link) { l.Conn.Read(make([]byte, 1)) }

// greetAs greets as another server than the one expected.
func greetAs(edit func(*wire.Hello)) func(*link) {
	return func(l *link) {
		edit(&l.hello)
		if c := l.greet().c; c != nil {
			c.Ready()
		}
	}
}

// within returns a context that ends after the limit, and at the end of the test.
func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
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
		{"answer cut in its frame", raw(half), unknown, io.ErrUnexpectedEOF, "", false},
		{"garbage", raw("\x00\x00\x00\x04\x03\xff\x82\x00"), unknown, wire.ErrMalformed, "", false},
	} {
		for _, op := range []wire.Op{insert("k"), get("k")} {
			t.Run(test.name+"/"+op.Kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var met atomic.Bool
					m := newMemory(t, func(l *link) {
						l.greet()
						for ops := l.next(); ops != nil; ops = l.next() {
							if !met.Swap(true) {
								test.first(l, ops)
							} else {
								l.say(wire.OK, l.apply(ops)...)
							}
						}
					})
					ctx := &countedContext{Context: t.Context()}
					results, err := m.Do(ctx, op)

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
					got := fmt.Sprint(err)
					if want == "ok" || want == again {
						expect(t, map[bool]string{true: "swapped", false: "missing"}[op.Kind.Writes()])(results, err)
					} else if expect(t, want, cmp.Or(test.err, err))(results, err); errors.Is(err, ErrUnknown) != (want == unknown) ||
						strings.Count(got, "(node 0, node:0)") != 1 || !strings.Contains(got, test.says) || len(got) > 300 {
						t.Errorf("the error is %q, want it short, with the node once, and %q; unknown if the outcome is", got, test.says)
					}
					checkCounts(t, m.Client, counts)
					if applied, _ := m.count(); op.Kind.Writes() && applied > 1 {
						t.Errorf("a write was applied %d times", applied)
					}
					if n := ctx.waiting.Load(); n != 0 {
						t.Errorf("after the call %d functions wait for the end of its context", n)
					}

					// The next call is served, on a new connection if the old one is not to be trusted.
					expect(t, "created")(m.Do(t.Context(), put("after")))
					if _, dials := m.count(); test.kept != (dials == 1) {
						t.Errorf("after two calls %d connections, kept %v, want %v", dials, dials == 1, test.kept)
					}
				})
			})
		}
	}
}

// A countedContext counts the functions that wait for its end. One that remains after a call
// is a leak for as long as the caller's context lives.
type countedContext struct {
	context.Context
	waiting atomic.Int64
}

// Value hides that the context is one of package context, which would not call AfterFunc.
func (c *countedContext) Value(any) any { return nil }

// AfterFunc is what context.AfterFunc calls.
func (c *countedContext) AfterFunc(func()) (stop func() bool) {
	c.waiting.Add(1)
	return sync.OnceValue(func() bool { c.waiting.Add(-1); return true })
}

func TestOnceReturnsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, func(l *link) {
			l.greet().next()
			l.say(wire.Busy)
			l.serve()
		})
		expect(t, "not run", ErrBusy)(m.Once(t.Context(), insert("k")))
		expect(t, "swapped")(m.Once(t.Context(), insert("k")))
		checkCounts(t, m.Client, Counts{Dials: 1, Refusals: 1})
	})
}

// A request that is not sent whole was not applied: its connection has ended while idle.
func TestRequestNotSentIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, func(l *link) { l.say(wire.OK, l.apply(l.greet().next())...) })
		for i, op := range []wire.Op{put("a"), insert("b")} {
			expect(t, []string{"created", "swapped"}[i])(m.Do(t.Context(), op))
			synctest.Wait() // for the end of the connection
		}
		checkCounts(t, m.Client, Counts{Dials: 2, Retries: 1})
		if applied, _ := m.count(); applied != 2 {
			t.Errorf("%d requests applied, want 2", applied)
		}
	})
}

func TestOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, m := t.Context(), newMemory(t, honest)
		is := func(want bool) func(bool, error) {
			return func(got bool, err error) {
				t.Helper()
				if got != want || err != nil {
					t.Errorf("%v, %v, want %v", got, err, want)
				}
			}
		}
		value, ok, err := m.Get(ctx, "k")
		if value != nil || ok || err != nil {
			t.Errorf("Get of nothing: %q, %v, %v", value, ok, err)
		}
		is(true)(m.Put(ctx, "k", []byte("1")))
		is(false)(m.Put(ctx, "k", []byte("1")))
		is(false)(m.CompareAndSwap(ctx, "k", nil, nil))
		is(false)(m.CompareAndSwap(ctx, "k", []byte{}, nil))
		is(true)(m.CompareAndSwap(ctx, "k", []byte("1"), nil))
		// An empty value is not nil, though gob does not tell them apart.
		if value, ok, err = m.Get(ctx, "k"); value == nil || len(value) != 0 || !ok || err != nil {
			t.Errorf("Get of an empty value: %#v, %v, %v", value, ok, err)
		}
		is(true)(m.CompareAndSwap(ctx, "k", []byte{}, []byte("2")))
		is(true)(m.Delete(ctx, "k"))
		is(false)(m.Delete(ctx, "k"))
		is(true)(m.CompareAndSwap(ctx, "k", nil, []byte("3")))

		expect(t, "")(m.Do(ctx))
		ended, cancel := context.WithCancel(ctx)
		cancel()
		expect(t, "not run", context.Canceled)(m.Do(ended, put("k")))

		// A status that does not suit its operation is passed on to the caller.
		m = newMemory(t, func(l *link) {
			l.greet().next()
			l.say(wire.OK, wire.Result{Status: wire.Missing})
		})
		expect(t, "missing")(m.Do(ctx, put("k")))
	})
}

// Each part of a batch has an outcome of its own.
func TestBatchOverTwoNodes(t *testing.T) {
	say := func(code wire.Code) func(*link) { return func(l *link) { l.greet().next(); l.say(code) } }
	lose := func(l *link) { l.apply(l.greet().next()) }
	for _, test := range []struct {
		name      string
		zero, one func(l *link) // what the nodes do with their parts; nil: the node is down
		want      string
		errs      [2]error
	}{
		{"both answer", honest, honest, "created, created, created, missing", [2]error{}},
		{"one is lost", honest, lose, "created, unknown, created, unknown", [2]error{1: ErrUnknown}},
		{"one is refused", honest, say(wire.WrongNode), "created, not run, created, not run", [2]error{1: ErrWrongNode}},
		{"one is down", nil, honest, "not run, created, not run, missing", [2]error{ErrDown}},
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
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		returned := make(chan struct{})
		m := newMemory(t, func(l *link) {
			if l.greet(); l.nth == 1 {
				l.next()
				cancel()
				<-returned
				l.say(wire.OK, wire.Result{Status: wire.Found, Value: []byte("late")})
			}
			l.serve()
		})
		expect(t, "unknown", ErrUnknown, context.Canceled)(m.Do(ctx, insert("k")))
		close(returned)
		checkCounts(t, m.Client, Counts{Dials: 1, Unknown: 1})
		expect(t, "missing")(m.Do(t.Context(), get("k"))) // its own answer
		checkCounts(t, m.Client, Counts{Dials: 2, Unknown: 1})
	})
}

// A read whose context ends says so once, and why it was tried again, if it was. Its outcome
// is never unknown.
func TestContextEndsDuringARead(t *testing.T) {
	for tries := range 3 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			m := newMemory(t, func(l *link) {
				if l.greet().next(); l.nth > tries {
					cancel()
					l.next() // until the client hangs up
					return
				}
				l.say(wire.OK, wire.Result{Status: wire.Unknown})
			})
			_, ok, err := m.Get(ctx, "k")
			if ok || !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) || strings.Count(err.Error(), "canceled") != 1 ||
				strings.Contains(err.Error(), "unknown answered to a get") != (tries > 0) {
				t.Errorf("Get, cut off at try %d: %v, %v, want canceled, once, and what the server did before", tries, ok, err)
			}
			checkCounts(t, m.Client, Counts{Dials: int64(tries) + 1, Retries: int64(tries)})
		})
	}
}

// A call that breaks a rule is not sent, not even a part of it, and does not wait for a
// connection: these servers never greet. The limits do not depend on the number of nodes,
// and the error counts as the caller does.
func TestInvalidOperations(t *testing.T) {
	for nodes := 1; nodes <= 2; nodes++ {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, slices.Repeat([]func(*link){silent}, nodes)...)
			var good []wire.Op // for each node as many
			for i := range nodes {
				good = append(good, slices.Repeat([]wire.Op{put(keyOf(m.cfg, i))}, 4/nodes)...)
			}
			large := slices.Clone(good)
			for i := range large {
				large[i].Value = make([]byte, wire.MaxValue)
			}
			tooLarge := wire.Op{Kind: wire.Put, Key: "k", Value: make([]byte, wire.MaxValue+1)}
			for want, ops := range map[string][]wire.Op{
				"operation 5 of 5: a key of 0 bytes":       append(slices.Clone(good), get("")),
				"operation 5 of 6: a value of 16385 bytes": append(slices.Clone(good), tooLarge, get("k")),
				"operation 5 of 5: operation kind 9":       append(slices.Clone(good), wire.Op{Kind: 9, Key: "k"}),
				"1025 operations":                          append(slices.Repeat(good, wire.MaxOps/4), get("k")),
				"larger than a frame":                      large,
			} {
				results, err := m.Do(within(t, 2*time.Second), ops...)
				notRun := slices.Repeat([]wire.Result{{Status: wire.NotRun}}, len(ops))
				if err == nil || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(results, notRun) {
					t.Errorf("%d nodes: %s, %v, want not run: %s", nodes, statuses(results), err, want)
				}
			}
			if _, dials := m.count(); dials > 0 {
				t.Errorf("%d nodes: %d connections for requests that cannot be sent", nodes, dials)
			}
		})
	}
}

// frame is the bytes of an answer.
func frame(t testing.TB, r wire.Response) []byte {
	b, err := wire.AppendResponse(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// claim is an answer that announces more results than there are.
func claim(t testing.TB) []byte {
	good := frame(t, wire.Response{Code: wire.OK, Results: []wire.Result{{Status: wire.Missing}}})
	head, rest, ok := bytes.Cut(good[5:], []byte{1, 3, 1, 2, 0}) // the list, of 3 bytes: 1 element, Missing, without a value
	if !ok {
		t.Fatalf("% x is not an answer as this test knows it", good)
	}
	body := slices.Concat(head, []byte{1, 7, 0xff, 0xff, 0xff, 0xff, 7, 2, 0}, rest)
	return slices.Concat([]byte{0, 0, 0, byte(1 + len(body)), byte(len(body))}, body)
}

// A bad greeting: nothing was sent, so nothing was applied. A mismatch is final for the
// call, and after anything else it tries again.
func TestHostileGreetings(t *testing.T) {
	for _, test := range []struct {
		name string
		bad  func(l *link)
		says string
		fits error
	}{
		{"garbage", func(l *link) { io.WriteString(l.Conn, strings.Repeat("\xff\x1b", 100)) },
			`not a Lockstep server: it says "\xff\x1b`, wire.ErrMismatch},
		{"nothing", func(l *link) {}, "reading the greeting", nil},
		{"other nodes", greetAs(func(h *wire.Hello) { h.Fingerprint++ }), "other nodes", wire.ErrMismatch},
		{"no place", func(l *link) { wire.Refuse(l.Conn, "\x9b31m\x1b[2Jno") }, `by the server: "\x9b31m\x1b[2Jno"`, wire.ErrRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				m := newMemory(t, func(l *link) {
					if l.nth == 3 {
						cancel()
					}
					test.bad(l)
				})
				results, err := m.Do(ctx, insert("k"))
				expect(t, "not run", cmp.Or(test.fits, err))(results, err)
				if final := test.fits == wire.ErrMismatch; errors.Is(err, context.Canceled) == final || errors.Is(err, ErrUnknown) {
					t.Errorf("%v, want not run, and final %v", err, final)
				}
				text := fmt.Sprint(err)
				if !strings.Contains(text, test.says) || len(text) > 300 || strings.ContainsAny(text, "\x1b\x9b") {
					t.Errorf("the error is %q, want %q in it", text, test.says)
				}
				m.redial(honest)
				expect(t, "swapped")(m.Do(t.Context(), insert("k")))
				want := Counts{Dials: 1}
				if test.fits == wire.ErrRefused {
					want.Refused = max(m.Counts().Refused, 2)
				}
				checkCounts(t, m.Client, want)
			})
		})
	}
}

// Whatever a server answers, a write has an outcome that can be true: it was answered, or it is
// unknown whether it was executed, or it was not sent.
func FuzzServer(f *testing.F) {
	for _, r := range []wire.Response{
		{Code: wire.OK, Results: []wire.Result{{Status: wire.Swapped}}},
		{Code: wire.OK, Results: []wire.Result{{Status: wire.Found, Value: []byte("v")}}},
		{Code: wire.OK}, {Code: wire.Goodbye}, {Code: wire.Busy}, {Code: wire.Failed}, {Code: 99},
	} {
		f.Add(append(frame(f, r), frame(f, r)...))
	}
	f.Add(claim(f))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, answers []byte) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m := newMemory(t, func(l *link) {
				if l.nth > 1 { // it is tried again: nothing more to see
					cancel()
				}
				l.greet()
				l.Conn.Write(answers)
			})
			results, err := m.Do(ctx, insert("k"))
			if len(results) != 1 {
				t.Fatalf("%d results", len(results))
			}
			switch s := results[0].Status; {
			case err == nil && wire.Found <= s && s <= wire.TooLarge:
			case err != nil && s == wire.Unknown && errors.Is(err, ErrUnknown):
			case err != nil && s == wire.NotRun && !errors.Is(err, ErrUnknown):
			default:
				t.Errorf("%v, %v", s, err)
			}
		})
	})
}
