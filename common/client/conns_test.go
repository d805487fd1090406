package client

// How a Client gets its connections, and what becomes of them.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A memory is nodes on net.Pipe, so that synctest owns their time. Dials of a node are refused
// while its script is nil.
type memory struct {
	*Client
	mu      sync.Mutex // guards what follows
	dials   int
	scripts []func(*link)
}

func newMemory(t *testing.T, scripts ...func(*link)) *memory {
	cfg := cluster.Default()
	cfg.Nodes = make([]cluster.Node, len(scripts))
	for i := range cfg.Nodes {
		cfg.Nodes[i].Addr = fmt.Sprint("node:", i)
	}
	m := &memory{Client: New(cfg), scripts: scripts}
	servers := make(map[string]*server)
	for i, n := range cfg.Nodes {
		servers[n.Addr] = newServer(cfg, i)
	}
	m.DialContext = func(_ context.Context, network, addr string) (net.Conn, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.dials++
		s := servers[addr]
		script := m.scripts[s.hello.Number]
		if script == nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return s.pipe(m.dials, script), nil
	}
	t.Cleanup(func() { // or a deadlock: Close ends all connections
		m.Close()
		for _, s := range servers {
			s.conns.Wait()
		}
	})
	return m
}

// redial sets the script of the first node, and returns the number of dials so far.
func (m *memory) redial(script func(*link)) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scripts[0] = script
	return m.dials
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dials
}

// silent never greets.
func silent(l *link) { l.Conn.Read(make([]byte, 1)) }

// greetAs greets as another server than the one expected.
func greetAs(edit func(*wire.Hello)) func(*link) {
	return func(l *link) {
		h := l.hello
		edit(&h)
		c, err := wire.Greet(l.Conn, h, wire.Limits{})
		if err == nil {
			c.Ready()
		}
	}
}

func TestDialFails(t *testing.T) {
	serve := func(edit func(*wire.Hello)) func(*testbed, func()) {
		return func(cfg *testbed, _ func()) {
			start(t, cfg, 0, func(l *link) {
				if l.nth > 1 {
					t.Error("dialled twice: trying again does not help")
				}
				greetAs(edit)(l)
			})
		}
	}
	for says, test := range map[string]struct {
		prepare func(cfg *testbed, cancel func())
		is      error
	}{
		"number":      {serve(func(h *wire.Hello) { h.Number = 1 }), wire.ErrMismatch},
		"fingerprint": {serve(func(h *wire.Hello) { h.Fingerprint++ }), wire.ErrMismatch},
		"secret":      {serve(func(h *wire.Hello) { h.Secret = "sixteen bytes or more" }), wire.ErrMismatch},
		"not greeted": {func(cfg *testbed, cancel func()) { start(t, cfg, 0, func(l *link) { cancel(); silent(l) }) }, context.Canceled},
	} {
		cfg := config(t, 1)
		ctx, cancel := context.WithCancel(t.Context())
		test.prepare(cfg, cancel)
		cl, err := Dial(ctx, cfg.Config)
		cancel()
		if cl.ctx.Err() == nil || !errors.Is(err, test.is) || !strings.Contains(err.Error(), says) || !strings.HasSuffix(err.Error(), " (node 0, "+cfg.Nodes[0].Addr+")") {
			t.Errorf("Dial: %v, want a closed Client and %v, with the node and %q", err, test.is, says)
		}
		noneLeft(t)
	}
	if _, err := Dial(t.Context(), cluster.Config{}); err == nil {
		t.Error("Dial with an invalid configuration: no error")
	}
}

// A node that refuses connections is down after a second. Its calls then fail at once,
// while one probe dials every 250 ms. When the node is back the probe finds it, and
// when it is gone again, all of that repeats.
func TestDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, nil)
		for range 2 {
			m.redial(nil)
			begin := time.Now()
			var calls sync.WaitGroup
			for range 8 {
				calls.Go(func() {
					results, err := m.Do(t.Context(), put("k"))
					waited := time.Since(begin)
					if statuses(results) != "not run" || !errors.Is(err, ErrDown) || !errors.Is(err, syscall.ECONNREFUSED) || waited < DownAfter || waited > DownAfter+lastPause {
						t.Errorf("%s, %v after %v, want not run, down and refused, after a second", statuses(results), err, waited)
					}
				})
			}
			calls.Wait()
			<-time.After(probeEvery - time.Millisecond) // the other dials end
			before := m.count()
			<-time.After(20 * probeEvery)
			if n := m.count() - before; n != 20 {
				t.Errorf("%d dials in %v, want one every %v", n, 20*probeEvery, probeEvery)
			}
			begin = time.Now()
			if _, _, err := m.Get(t.Context(), "k"); !errors.Is(err, ErrDown) || time.Since(begin) > 0 {
				t.Errorf("Get: %v after %v, want down at once", err, time.Since(begin))
			}
			before = m.redial(func(l *link) { l.say(wire.OK, l.apply(l.greet().next())...) }) // one request, then the end
			<-time.After(probeEvery)
			if _, _, err := m.Get(t.Context(), "k"); err != nil || m.count() != before+2 {
				t.Errorf("Get after the node is back: %v, %d dials, want the probe's and its own", err, m.count()-before)
			}
		}
	})
}

// A name is resolved again at each dial: a node may have moved.
func TestNameIsResolvedAtEachDial(t *testing.T) {
	cfg, other := config(t, 1), config(t, 1)
	cfg.Nodes[0].Addr = "node.example:7001"
	other.Nodes = cfg.Nodes // so that both have the same fingerprint
	var at atomic.Value
	at.Store(cfg.lns[0].Addr().String())
	cl := client(t, cfg)
	cl.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != "node.example:7001" {
			t.Errorf("dials %s, want the name", addr)
		}
		return new(net.Dialer).DialContext(ctx, network, at.Load().(string))
	}
	first, second := start(t, cfg, 0, honest), start(t, other, 0, honest)
	for _, s := range []*server{first, second} {
		at.Store(s.ln.Addr().String())
		expect(t, "missing")(cl.Do(t.Context(), get("k")))
		if _, accepted := s.count(); accepted == 0 {
			t.Errorf("no connection to %s, where the node is now", s.ln.Addr())
		}
		s.stop()
	}
}

// A node that accepts connections is not down, even if it does not greet them.
func TestNotGreetedIsNotDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, nil)
		if _, _, err := m.Get(t.Context(), "k"); !errors.Is(err, ErrDown) {
			t.Fatalf("Get: %v, want down", err)
		}
		m.redial(silent)
		<-time.After(2 * probeEvery)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, _, err := m.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "not greeted") {
			t.Errorf("Get: %v, want that it waited for a greeting", err)
		}
		if failed := m.Counts().FailedDials; len(failed) != 2 || failed["connection refused"] == 0 || failed["not greeted"] == 0 || failed.Sum() > int64(m.count()) {
			t.Errorf("of %d dials these failed: %v", m.count(), failed)
		}
	})
}

// A node is down when dials have been refused for a second without a break, and a call
// waited for them. One refused dial, and an hour later another, is not that.
func TestRefusedLongAgo(t *testing.T) {
	for refused, patient := range map[int]time.Duration{ // the first dial, and those of this parity; the first call
		0: time.Millisecond / 4, // gives up in the first pause
		1: time.Minute,          // finds the node after that
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, nil)
			open := m.DialContext
			m.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if n := m.count() + 1; n > 1 && n%2 != refused {
					m.redial(func(l *link) { l.greet().next() }) // takes a request and ends
				} else {
					m.redial(nil)
				}
				return open(ctx, network, addr)
			}
			call := func(limit time.Duration) ([]wire.Result, error) {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				return m.Do(ctx, put("k"))
			}
			call(patient)
			for range 3 {
				<-time.After(time.Hour)
				if results, err := call(time.Minute); errors.Is(err, ErrDown) || statuses(results) != "unknown" {
					t.Errorf("%s, %v, want unknown, and not down", statuses(results), err)
				}
			}
		})
	}
}

// The dial of a call is not greeted, and the call is served by a connection that another
// call has finished with. When the dial is greeted after all, its connection is kept.
func TestLeftoverConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		greet, answer := make(chan struct{}), make(chan struct{})
		m := newMemory(t, func(l *link) {
			if l.nth == 2 {
				<-greet
			}
			l.greet()
			for ops := l.next(); ops != nil; ops = l.next() {
				<-answer
				l.say(wire.OK, l.apply(ops)...)
			}
		})
		var calls sync.WaitGroup
		for round := range 2 {
			for i := range 2 {
				calls.Go(func() {
					expect(t, "swapped")(m.Do(t.Context(), insert(fmt.Sprint(round, i))))
				})
				synctest.Wait() // the first has its connection, the second has dialled
			}
			for range 2 {
				answer <- struct{}{}
			}
			calls.Wait()
			if round == 0 {
				close(greet)
				synctest.Wait()
			}
		}
		checkCounts(t, m.Client, Counts{Dials: 2})
		if n := m.count(); n != 2 {
			t.Errorf("%d dials, want 2", n)
		}
	})
}

// A call that gives up leaves its dial to the next call. If there is none, the
// connection is not kept: a server of one connection would have no other client.
func TestAbandonedDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		greet, ended := make(chan struct{}), make(chan struct{})
		m := newMemory(t, func(l *link) { <-greet; honest(l); ended <- struct{}{} })
		giveUp := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			expect(t, "not run", context.DeadlineExceeded)(m.Do(ctx, put("k")))
		}
		giveUp()
		time.AfterFunc(time.Second/2, func() { greet <- struct{}{} })
		if _, err := m.Put(t.Context(), "k", nil); err != nil || m.count() != 1 {
			t.Errorf("Put: %v after %d dials, want one dial for both calls", err, m.count())
		}
		m.peers[0].drop(0)
		<-ended
		giveUp()
		greet <- struct{}{}
		<-ended // or a deadlock
	})
}

// The call that has waited longest is served first. A connection that is handed over at the
// moment at which its call gives up is not lost.
func TestWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, func(l *link) {
			if l.nth == 1 {
				honest(l)
			}
			silent(l)
		})
		p := m.peers[0]
		c := p.get(t.Context(), false).c
		served := make(chan int, 3)
		for i := range 3 {
			go func() { // ends when it is served
				if got := p.get(t.Context(), false); got.c != c {
					t.Errorf("call %d got %v, want the freed connection", i, got)
				}
				served <- i
			}()
			synctest.Wait()
		}
		for want := range 3 {
			p.put(c, true)
			if got := <-served; got != want {
				t.Errorf("call %d is served, want %d", got, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wait := make(chan gotten, 1)
		p.mu.Lock()
		p.waiting = append(p.waiting, wait)
		p.mu.Unlock()
		p.put(c, true)
		if err := p.giveUp(ctx.Err(), wait).err; !errors.Is(err, context.Canceled) || len(p.idle) != 1 || p.idle[0] != c {
			t.Errorf("giveUp: %v, and %d idle connections, want canceled, and the one", err, len(p.idle))
		}
	})
}

// An answer may take any time to begin, but is then limited to frame_timeout.
func TestSlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, func(l *link) {
			l.greet()
			ops := l.next()
			<-time.After(time.Hour)
			l.say(wire.OK, l.apply(ops)...)
			l.next()
			l.Conn.Write([]byte("\x00\x00\x00\x09half"))
			l.next()
		})
		expect(t, "swapped")(m.Do(t.Context(), insert("a")))
		expect(t, "unknown", ErrUnknown, wire.ErrSlow)(m.Do(t.Context(), insert("b")))
	})
}

// A server that has gone is noticed before a write is sent to it, if the connection has
// been idle for a second.
func TestIdleConnection(t *testing.T) {
	for dials, after := range map[int64]func(*link){1: (*link).serve, 2: func(l *link) { l.say(wire.Goodbye) }} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, func(l *link) {
				if l.greet(); l.nth == 1 {
					l.say(wire.OK, l.apply(l.next())...)
					after(l)
				}
				l.serve()
			})
			expect(t, "created")(m.Do(t.Context(), put("a")))
			<-time.After(checkAfter)
			expect(t, "swapped")(m.Do(t.Context(), insert("b")))
			checkCounts(t, m.Client, Counts{Dials: dials})
		})
	}
}

// Connections that have been idle for half the server's idle timeout are dropped, before
// the server does it; those in use are not.
func TestStaleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Time, 2)
		m := newMemory(t, func(l *link) { honest(l); ended <- time.Now() })
		half := m.cfg.Server.IdleTimeout / 2
		used := m.peers[0].get(t.Context(), false).c
		if _, err := m.Put(t.Context(), "k", nil); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if got := (<-ended).Sub(start); got != half {
			t.Errorf("the idle connection ended after %v, want %v", got, half)
		}
		<-time.After(time.Second)
		m.peers[0].put(used, true)
		if got, want := (<-ended).Sub(start), 2*half+time.Second; got != want {
			t.Errorf("the used connection ended after %v, want %v", got, want)
		}
	})
}

// Close ends every kind of call, and reports the outcome of each.
func TestClose(t *testing.T) {
	cfg := config(t, 3)
	written, waiting := make(chan struct{}), make(chan struct{}, 8)
	start(t, cfg, 0, func(l *link) { // never answers
		if l.greet().next() != nil {
			written <- struct{}{}
			l.next()
		}
	})
	start(t, cfg, 1, func(l *link) { waiting <- struct{}{}; l.Conn.Read(make([]byte, 1)) }) // never greets
	start(t, cfg, 2, func(l *link) {                                                        // is always busy
		for l.greet(); l.next() != nil; {
			l.say(wire.Busy)
		}
	})
	cl := client(t, cfg)
	var wg sync.WaitGroup
	call := func(op wire.Op, want wire.Status, unknown bool) {
		wg.Go(func() {
			results, err := cl.Do(t.Context(), op)
			if results[0].Status != want || !errors.Is(err, ErrClosed) || errors.Is(err, ErrUnknown) != unknown {
				t.Errorf("%v: %s, %v, want %v and closed", op, statuses(results), err, want)
			}
		})
	}
	call(put(keyOf(cfg.Config, 0)), wire.Unknown, true)
	<-written
	call(get(keyOf(cfg.Config, 0)), wire.NotRun, false)
	<-written
	call(put(keyOf(cfg.Config, 1)), wire.NotRun, false)
	<-waiting
	call(get(keyOf(cfg.Config, 2)), wire.NotRun, false)
	until(t, "refusals", func() bool { return cl.Counts().Refusals >= 3 })
	cl.Close()
	wg.Wait()
	for _, p := range cl.peers {
		if p.dials != 0 || len(p.idle) != 0 || len(p.waiting) != 0 {
			t.Errorf("after Close node %d has %d dials, %d idle connections and %d waiting calls", p.number, p.dials, len(p.idle), len(p.waiting))
		}
	}
	noneLeft(t)
	expect(t, "not run", ErrClosed)(cl.Do(t.Context(), put("k")))
	if err := cl.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

// Many calls on one Client, and servers that often answer Busy and Goodbye: each write
// is applied exactly once.
func TestManyCalls(t *testing.T) {
	cfg := config(t, 2)
	for i := range 2 {
		start(t, cfg, i, func(l *link) {
			l.greet()
			for n := l.nth; ; n++ {
				ops := l.next()
				switch {
				case ops == nil:
					return
				case n%5 == 0:
					l.say(wire.Busy)
				case n%17 == 0:
					l.say(wire.Goodbye)
					return
				default:
					l.say(wire.OK, l.apply(ops)...)
				}
			}
		})
	}
	cl := dial(t, cfg)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				a, b := fmt.Sprint("a", i, "-", n), fmt.Sprint("b", i, "-", n)
				expect(t, "swapped, swapped")(cl.Do(t.Context(), insert(a), insert(b)))
			}
		})
	}
	wg.Wait()
	if got := cl.Counts(); got.Unknown != 0 || got.Refusals == 0 || got.Retries <= got.Refusals || got.Dials < 3 {
		t.Errorf("counted %+v, want refusals, more retries than refusals, and nothing unknown", got)
	}
}

func TestStats(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Default() // Stats needs no service port
	cfg.Nodes[0].Control = ln.Addr().String()
	want := metrics.Snapshot{Stage: "stage9", Serving: true, Requests: 7, Errors: map[string]int64{"slow": 2}}
	answer, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var server sync.WaitGroup
	server.Go(func() {
		control.Serve(ctx, ln, control.Hello("nodes", 0, ""), 1, func(wire.Control) (wire.Control, bool) {
			return wire.Control{Kind: wire.Stats, Payload: answer}, true
		})
	})
	if got, err := Stats(t.Context(), cfg, 0); fmt.Sprint(got) != fmt.Sprint(want) || err != nil {
		t.Errorf("Stats: %+v, %v, want %+v", got, err, want)
	}
	answer = []byte("{") // not JSON
	fails := func(node int, says string) {
		t.Helper()
		if _, err := Stats(t.Context(), cfg, node); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Stats of node %d: %v, want an error that says %s", node, err, says)
		}
	}
	fails(0, "node 0, "+cfg.Nodes[0].Control)
	cancel()
	server.Wait()
	fails(-1, "node -1")
	fails(0, "node 0")
	fails(1, "node 1")
}
