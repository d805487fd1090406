package client

// The outcome of every request, also where a server lies, babbles or breaks off: a clear
// error at a bounded cost, and a Client that goes on with a better server.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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
// end. They are found by name at each dial, and share a table. Each connection follows its
// node's script.
type memory struct {
	*Client
	conns sync.WaitGroup // scripts; each ends when its connection does
	dials atomic.Int64

	mu      sync.Mutex    // guards what follows
	scripts []func(*link) // by node; nil: dials are refused
	table   *table.Table
}

// A link is a node's end of one connection.
type link struct {
	net.Conn
	m     *memory
	hello wire.Hello
	nth   int        // from 1
	c     *wire.Conn // nil until it is greeted
}

func newMemory(t *testing.T, scripts ...func(*link)) *memory {
	m, cfg := &memory{scripts: scripts, table: table.New(cluster.Work{}, nil)}, cluster.Default()
	cfg.Nodes = nil
	for i := range scripts {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: fmt.Sprint("node:", i)})
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

func (m *memory) dial(_ context.Context, _, addr string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.cfg.Nodes, func(n cluster.Node) bool { return n.Addr == addr })
	script, nth := m.scripts[i], int(m.dials.Add(1))
	if script == nil {
		return nil, dialFails(syscall.ECONNREFUSED)
	}
	near, far := net.Pipe()
	l := &link{Conn: far, m: m, hello: m.cfg.Hello(i), nth: nth}
	m.conns.Go(func() {
		defer far.Close()
		script(l)
	})
	return near, nil
}

func dialFails(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
}

// redial sets the script of the first node, and returns the number of dials so far.
func (m *memory) redial(script func(*link)) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scripts[0] = script
	return m.dials.Load()
}

// next waits for a request, after the greeting; nil at the end of the connection.
func (l *link) next() []wire.Op {
	if l.c == nil {
		l.c, _ = wire.Greet(l.Conn, l.hello, wire.Limits{}) // nil if the client has gone
	}
	var r wire.Request
	if l.c == nil || !l.c.Ready() || !l.c.ReadRequest(&r) {
		return nil
	}
	return r.Ops
}

// each calls do with each request, until the end of the connection.
func (l *link) each(do func([]wire.Op)) {
	for ops := l.next(); ops != nil; ops = l.next() {
		do(ops)
	}
}

func (l *link) apply(ops []wire.Op) []wire.Result {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.m.table.Apply(ops)
}

func (l *link) say(code wire.Code, results ...wire.Result) {
	l.c.WriteResponse(&wire.Response{Code: code, Results: results})
	l.c.Flush()
}

// answer answers a request as a server should.
func (l *link) answer(ops []wire.Op) { l.say(wire.OK, l.apply(ops)...) }

func honest(l *link) { l.each(l.answer) }

// silent never greets.
func silent(l *link) { l.Conn.Read(make([]byte, 1)) }

// greetAs greets as another server than the one expected.
func greetAs(edit func(*wire.Hello)) func(*link) { return func(l *link) { edit(&l.hello); l.next() } }

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

// expect returns a function that checks what Do returns: the statuses, and the error, which is all
// of errs, ErrUnknown if and only if an outcome is unknown, and nil if and only if all were answered.
func expect(t *testing.T, want string, errs ...error) func([]wire.Result, error) {
	return func(results []wire.Result, err error) {
		t.Helper()
		unknown, notRun := strings.Contains(want, "unknown"), strings.Contains(want, "not run")
		different := func(is error) bool { return !errors.Is(err, is) }
		if got := statuses(results); got != want || (err != nil) != (unknown || notRun) || errors.Is(err, ErrUnknown) != unknown ||
			slices.ContainsFunc(errs, different) {
			t.Errorf("%s (%v), want %s (%v)", got, err, want, errs)
		}
	}
}

// checkCounts checks what a client has counted, without the time of dialling and the dials that failed.
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
	says := func(code wire.Code, results ...wire.Result) func(*link, []wire.Op) {
		return func(l *link, ops []wire.Op) { l.say(code, results...) }
	}
	const swapped, missing, unknown, notRun = "swapped", "missing", "unknown", "not run"
	for _, test := range []struct {
		name        string
		first       func(l *link, ops []wire.Op)
		write, read string // the outcome
		err         error  // the error is this one, if not nil
		says        string // and says this
		dials       int64  // with those of the next call: 1 if the connection is used again
	}{
		{"ok", (*link).answer, swapped, missing, nil, "", 1},
		{"a status that does not suit", says(wire.OK, wire.Result{Status: wire.Deleted}), "deleted", "deleted", nil, "", 1},
		{"ok, and an answer to no request", func(l *link, ops []wire.Op) {
			l.c.WriteResponse(&wire.Response{Code: wire.OK, Results: l.apply(ops)})
			l.say(wire.OK, wire.Result{Status: wire.Found, Value: []byte("nobody's")})
		}, swapped, missing, nil, "", 2},
		{"busy", says(wire.Busy), swapped, missing, nil, "", 1},
		{"goodbye", says(wire.Goodbye), swapped, missing, nil, "", 2},
		{"wrong node", says(wire.WrongNode), notRun, notRun, ErrWrongNode, "wrong node", 1},
		{"invalid", says(wire.Invalid), notRun, notRun, nil, "invalid", 2},
		{"failed", says(wire.Failed), unknown, notRun, ErrFailed, "server failed", 1},
		{"no code", says(0), unknown, missing, nil, "no code", 2},
		{"too few results", says(wire.OK), unknown, missing, wire.ErrMalformed, "0 results for 1 operation", 2},
		{"unknown", says(wire.OK, wire.Result{Status: wire.Unknown}), unknown, missing, wire.ErrMalformed, "unknown answered", 2},
		{"status 0", says(wire.OK, wire.Result{}), unknown, missing, wire.ErrMalformed, "invalid answered", 2},
		{"answer lost", raw(""), unknown, missing, io.ErrUnexpectedEOF, "", 2},
		{"garbage", raw("\x00\x00\x00\x04\x03\xff\x82\x00"), unknown, missing, wire.ErrMalformed, "", 2},
	} {
		for _, op := range []wire.Op{insert("k"), get("k")} {
			t.Run(test.name+"/"+op.Kind.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var requests atomic.Int64
					m := newMemory(t, func(l *link) {
						l.each(func(ops []wire.Op) {
							if requests.Add(1) == 1 {
								test.first(l, ops)
							} else {
								l.answer(ops)
							}
						})
					})
					ctx, cancel := context.WithCancel(t.Context())
					results, err := m.Do(ctx, op)
					cancel() // ends no connection: the call is over
					synctest.Wait()

					want := test.read
					if op.Kind.Writes() {
						want = test.write
					}
					expect(t, want)(results, err)
					if got := fmt.Sprint(err); err != nil && (!errors.Is(err, cmp.Or(test.err, err)) ||
						strings.Count(got, "(node 0, node:0)") != 1 || !strings.Contains(got, test.says) || len(got) > 300) {
						t.Errorf("the error is %q, want %v, short, with the node once, and %q", got, test.err, test.says)
					}

					// The next call is served, on a new connection if the old one is not to be trusted.
					counts := Counts{Dials: test.dials, Retries: requests.Load() - 1, Unknown: int64(strings.Count(want, unknown))}
					counts.Refusals = int64(strings.Count(test.name, "busy"))
					expect(t, "created")(m.Do(t.Context(), put("after")))
					checkCounts(t, m.Client, counts)
				})
			})
		}
	}
}

func TestOnceReturnsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, func(l *link) {
			l.next()
			l.say(wire.Busy)
			honest(l)
		})
		expect(t, "not run", ErrBusy)(m.Once(t.Context(), insert("k")))
		expect(t, "swapped")(m.Once(t.Context(), insert("k")))
		checkCounts(t, m.Client, Counts{Dials: 1, Refusals: 1})
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
	})
}

// Each part of a batch has an outcome of its own.
func TestBatchOverTwoNodes(t *testing.T) {
	wrong := func(l *link) { l.next(); l.say(wire.WrongNode) }
	lose := func(l *link) { l.apply(l.next()) }
	for _, test := range []struct {
		zero, one func(l *link) // what the nodes do with their parts; nil: the node is down
		want      string
		errs      []error
	}{
		{honest, honest, "created, swapped, replaced, found", nil},
		{honest, lose, "created, unknown, replaced, unknown", []error{ErrUnknown}},
		{nil, honest, "not run, swapped, not run, found", []error{ErrDown}},
		{wrong, lose, "not run, unknown, not run, unknown", []error{ErrWrongNode, ErrUnknown}},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, test.zero, test.one)
			zero, one := keyOf(m.cfg, 0), keyOf(m.cfg, 1)
			expect(t, test.want, test.errs...)(m.Do(t.Context(), put(zero), insert(one), put(zero), get(one)))
		})
	}
}

// The error of a call whose context ends says so once, and why it was tried again, if it was. The
// outcome of a read is never unknown. A late answer is not taken for the next request's.
func TestContextEnds(t *testing.T) {
	for _, test := range []struct {
		op    wire.Op
		tries int // that are badly answered before
		want  string
		count Counts // in the end
	}{
		{insert("k"), 0, "unknown", Counts{Dials: 2, Unknown: 1}},
		{get("k"), 0, "not run", Counts{Dials: 2}},
		{get("k"), 2, "not run", Counts{Dials: 4, Retries: 2}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			returned := make(chan struct{})
			m := newMemory(t, func(l *link) {
				switch ops := l.next(); {
				case l.nth <= test.tries:
					l.say(wire.OK, wire.Result{Status: wire.Unknown})
				case l.nth == test.tries+1:
					cancel()
					<-returned
					l.say(wire.OK, wire.Result{Status: wire.Found, Value: []byte("late")})
				default:
					l.answer(ops)
				}
			})
			results, err := m.Do(ctx, test.op)
			expect(t, test.want, context.Canceled)(results, err)
			again := strings.Contains(fmt.Sprint(err), "unknown answered to a get")
			if strings.Count(fmt.Sprint(err), "canceled") != 1 || again != (test.tries > 0) {
				t.Errorf("cut off after %d tries: %v, want canceled, once, and what the server did before", test.tries, err)
			}
			close(returned)
			expect(t, "missing")(m.Do(t.Context(), get("k"))) // its own answer
			checkCounts(t, m.Client, test.count)
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
			puts := func(n, size int) (ops []wire.Op) { // to each node in turn
				for i := range n {
					ops = append(ops, wire.Op{Kind: wire.Put, Key: keyOf(m.cfg, i%nodes), Value: make([]byte, size)})
				}
				return ops
			}
			for want, ops := range map[string][]wire.Op{
				"operation 5 of 5: a key of 0 bytes": append(puts(4, 1), get("")),
				"1025 operations":                    puts(wire.MaxOps+1, 1),
				"larger than a frame":                puts(4, wire.MaxValue),
			} {
				results, err := m.Do(within(t, 2*time.Second), ops...)
				notRun := slices.Repeat([]wire.Result{{Status: wire.NotRun}}, len(ops))
				if err == nil || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(results, notRun) {
					t.Errorf("%d nodes: %s, %v, want not run: %s", nodes, statuses(results), err, want)
				}
			}
			if m.dials.Load() > 0 {
				t.Errorf("%d nodes: %d connections for requests that cannot be sent", nodes, m.dials.Load())
			}
		})
	}
}

// A bad greeting: nothing was sent, so nothing was applied. A mismatch is final for the
// call, and after anything else it tries again.
func TestHostileGreetings(t *testing.T) {
	for _, test := range []struct {
		bad  func(l *link)
		says string
		fits error
	}{
		{func(l *link) { io.WriteString(l.Conn, strings.Repeat("\xff\x1b", 100)) },
			`not a Lockstep server: it says "\xff\x1b`, wire.ErrMismatch},
		{func(l *link) {}, "reading the greeting", nil},
		{greetAs(func(h *wire.Hello) { h.Fingerprint++ }), "other nodes", wire.ErrMismatch},
		{func(l *link) { wire.Refuse(l.Conn, "\x9b31m\x1b[2Jno") }, `by the server: "\x9b31m\x1b[2Jno"`, wire.ErrRefused},
	} {
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
			if final := test.fits == wire.ErrMismatch; errors.Is(err, context.Canceled) == final {
				t.Errorf("%v, want not run, and final %v", err, final)
			}
			text := fmt.Sprint(err)
			if !strings.Contains(text, test.says) || len(text) > 300 || strings.ContainsAny(text, "\x1b\x9b") {
				t.Errorf("the error is %q, want %q in it", text, test.says)
			}
			m.redial(honest)
			expect(t, "swapped")(m.Do(t.Context(), insert("k")))
			if refused := m.Counts().Refused > 0; refused != (test.fits == wire.ErrRefused) {
				t.Errorf("after %q a refusal is counted: %v", text, refused)
			}
		})
	}
}

// Whatever a server answers, a write has an outcome that can be true: it was answered, or it is
// unknown whether it was executed, or it was not sent.
func FuzzServer(f *testing.F) {
	for _, r := range []wire.Response{
		{Number: 1, Code: wire.OK, Results: []wire.Result{{Status: wire.Swapped}}},
		{Number: 1, Code: wire.OK, Results: []wire.Result{{Status: wire.Found, Value: []byte("v")}}},
		{Number: 1, Code: wire.OK}, {Number: 1, Code: wire.Busy}, {Number: 1, Code: wire.Failed}, {Number: 1, Code: 99},
		{Code: wire.Goodbye}, // answers no request
	} {
		answer, _ := wire.AppendResponse(nil, &r)
		f.Add(append(answer, answer...))
	}
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, answers []byte) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m := newMemory(t, func(l *link) {
				if l.nth > 1 { // it is tried again: nothing more to see
					cancel()
				}
				l.next()
				l.Conn.Write(answers)
			})
			results, err := m.Do(ctx, insert("k"))
			if expect(t, statuses(results))(results, err); len(results) != 1 || results[0].Status == 0 {
				t.Errorf("%v, %v, want one result", results, err)
			}
		})
	})
}
