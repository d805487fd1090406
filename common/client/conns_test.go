package client

// How a Client comes by its connections, and what becomes of them.

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

	"lockstep/common/barrier"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// Two clients of servers that take one client at a time must not each hold the
// node that the other waits for: nodes are dialled in order, one after the other.
func TestDialInOrder(t *testing.T) {
	cfg := config(t, 3)
	var mu sync.Mutex
	var events []string
	note := func(what string, l *link) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprint(what, " ", l.hello.Number))
	}
	for i := range 3 {
		start(t, cfg, i, func(l *link) {
			note("dialled", l)
			// Time for a Client that does not wait for the greeting to dial on.
			l.Conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			l.Conn.Read(make([]byte, 1))
			note("greeted", l)
			honest(l)
		})
	}
	dial(t, cfg)
	mu.Lock()
	defer mu.Unlock()
	if got, want := strings.Join(events, ", "), "dialled 0, greeted 0, dialled 1, greeted 1, dialled 2, greeted 2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// who greets as another than the one expected.
func who(edit func(*wire.Hello)) func(*link) {
	return func(l *link) {
		h := l.hello
		edit(&h)
		c, err := wire.Greet(l.Conn, h, wire.Limits{})
		if err == nil {
			c.Ready()
		}
	}
}

func TestDialMismatch(t *testing.T) {
	for want, edit := range map[string]func(*wire.Hello){
		"this is number 1, not 0":    func(h *wire.Hello) { h.Number = 1 },
		"has other nodes":            func(h *wire.Hello) { h.Fingerprint++ },
		"this is a control port":     func(h *wire.Hello) { h.Purpose = wire.ControlPort },
		"the server asks for a secr": func(h *wire.Hello) { h.Secret = "sixteen bytes or more" },
	} {
		cfg := config(t, 1)
		s := start(t, cfg, 0, who(edit))
		_, err := Dial(t.Context(), cfg.Config)
		if !errors.Is(err, wire.ErrMismatch) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "node 0 (127.0.0.1:") {
			t.Errorf("Dial: %v, want a mismatch that says %q and names the node", err, want)
		}
		if _, accepted := s.count(); accepted != 1 {
			t.Errorf("%q: dialled %d times: trying again does not help", want, accepted)
		}
		noneLeft(t)
	}
}

// Between two calls a server can be started anew and agree again: a call waits.
func TestMismatchMends(t *testing.T) {
	cfg := config(t, 1)
	start(t, cfg, 0, func(l *link) {
		if l.nth < 3 {
			who(func(h *wire.Hello) { h.Fingerprint++ })(l)
			return
		}
		honest(l)
	})
	cl := client(t, cfg)
	if created, err := cl.Put(t.Context(), "k", nil); !created || err != nil {
		t.Errorf("Put: %v, %v, want the third greeting to be trusted", created, err)
	}
	if got, want := counted(cl), (Counts{Dials: 1}); got != want {
		t.Errorf("counted %+v, want %+v: nothing was sent before", got, want)
	}
}

func TestDialASecret(t *testing.T) {
	for _, secret := range []string{"sixteen bytes or more", "another one, and as long"} {
		cfg := config(t, 1)
		cfg.Secret = "sixteen bytes or more"
		start(t, cfg, 0, func(l *link) {
			h := l.hello
			h.Secret = secret
			l.c, _ = wire.Greet(l.Conn, h, wire.Limits{})
			l.serve()
		})
		cl, err := Dial(t.Context(), cfg.Config)
		if secret != cfg.Secret {
			if !errors.Is(err, wire.ErrMismatch) || !strings.Contains(err.Error(), "secret") {
				t.Errorf("Dial with the wrong secret: %v, want a mismatch", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if created, err := cl.Put(t.Context(), "k", nil); !created || err != nil {
			t.Errorf("Put: %v, %v", created, err)
		}
		cl.Close()
	}
}

func TestDialNeverGreeted(t *testing.T) {
	cfg := config(t, 2)
	start(t, cfg, 0, honest)
	silent := start(t, cfg, 1, func(l *link) { l.Conn.Read(make([]byte, 1)) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		until(t, "the connection", func() bool { _, accepted := silent.count(); return accepted == 1 })
		cancel()
	}()
	cl, err := Dial(ctx, cfg.Config)
	if cl != nil || !errors.Is(err, context.Canceled) || !strings.Contains(fmt.Sprint(err), "node 1 (") || !strings.Contains(fmt.Sprint(err), "not greeted") {
		t.Errorf("Dial: %v, want that node 1 never greeted, and that the call was cancelled", err)
	}
	noneLeft(t)
}

// A place may become free: why there is none is news only for who has no more time.
func TestServerIsFull(t *testing.T) {
	cfg := config(t, 1)
	s := start(t, cfg, 0, func(l *link) {
		if l.nth != 4 {
			wire.Refuse(l.Conn, "all 3 places are taken")
			return
		}
		l.greet().next()
	})
	cl := dial(t, cfg)
	if _, accepted := s.count(); accepted != 4 {
		t.Errorf("greeted on connection %d, want 4", accepted)
	}
	p := cl.peers[0]
	for range 10 { // unless ctx ends between two pauses
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer cancel()
			until(t, "a refusal", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.lastErr != nil
			})
		}()
		results, err := cl.Do(ctx, get("k"))
		if statuses(results) != "not run" || !errors.Is(err, context.Canceled) {
			t.Fatalf("%s, %v, want not run, and that the call was cancelled", statuses(results), err)
		}
		if errors.Is(err, wire.ErrRefused) && strings.Contains(err.Error(), "all 3 places") {
			return
		}
	}
	t.Error("the error never says that the server was full")
}

func TestDialInvalidConfig(t *testing.T) {
	cfg := config(t, 1)
	cfg.Nodes[0].Addr = "127.0.0.1:0"
	if _, err := Dial(t.Context(), cfg.Config); err == nil || !strings.Contains(err.Error(), "nodes[0].addr") {
		t.Errorf("Dial: %v, want what is wrong with port 0", err)
	}
}

func TestDialOneOfThreeDown(t *testing.T) {
	cfg := config(t, 3)
	cfg.refuse(t, 1)
	start(t, cfg, 0, honest)
	start(t, cfg, 2, honest)
	cl := dial(t, cfg)
	for i, want := range []error{nil, ErrDown, nil} {
		if _, err := cl.Put(t.Context(), keyOf(cfg, i), nil); !errors.Is(err, want) {
			t.Errorf("Put on node %d: %v, want %v", i, err, want)
		}
	}
}

func TestDialAllDown(t *testing.T) {
	cfg := config(t, 1)
	cfg.refuse(t, 0)
	cl, err := Dial(t.Context(), cfg.Config)
	if cl != nil || !errors.Is(err, ErrDown) || !strings.Contains(fmt.Sprint(err), "node 0 ("+cfg.Nodes[0].Addr) {
		t.Errorf("Dial: %v, want down", err)
	}
	noneLeft(t)
}

// A node refuses connections: its calls wait for a second and then fail, later
// ones at once, those of other nodes never; and when it is back it is found.
func TestDownAndBack(t *testing.T) {
	cfg := config(t, 2)
	cfg.refuse(t, 0)
	start(t, cfg, 1, honest)
	cl := client(t, cfg)
	down, up := keyOf(cfg, 0), keyOf(cfg, 1)

	begin := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			results, err := cl.Do(t.Context(), put(down))
			if statuses(results) != "not run" || !errors.Is(err, ErrDown) || !strings.Contains(fmt.Sprint(err), "refused") {
				t.Errorf("%s, %v, want not run, down, and why", statuses(results), err)
			}
			if waited := time.Since(begin); waited < downAfter {
				t.Errorf("down after %v, want %v: it may have been about to start", waited, downAfter)
			}
		})
	}
	for range 8 {
		wg.Go(func() {
			if _, err := cl.Put(t.Context(), up, nil); err != nil {
				t.Errorf("Put on the other node: %v", err)
			}
		})
	}
	wg.Wait()

	p := cl.peers[0]
	until(t, "all goroutines that dial to end, but for one probe", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.dialing == 1
	})
	if cl.Counts().Retries > 0 {
		t.Errorf("counted %+v: nothing was sent", cl.Counts())
	}
	// At once, and for longer than a goroutine that is no probe would go on.
	calls := 0
	for begin = time.Now(); time.Since(begin) < lastPause+probeEvery; calls++ {
		if _, _, err := cl.Get(t.Context(), down); !errors.Is(err, ErrDown) {
			t.Fatalf("Get: %v, want down", err)
		}
	}
	if calls < 10 {
		t.Errorf("%d calls to a node that is down in %v, want each to fail at once", calls, time.Since(begin))
	}

	s := start(t, cfg, 0, honest)
	until(t, "the node to be found", func() bool {
		_, err := cl.Put(t.Context(), down, nil)
		if err != nil && !errors.Is(err, ErrDown) {
			t.Errorf("Put: %v, want down, or nothing", err)
		}
		return err == nil
	})
	if _, accepted := s.count(); accepted != 1 {
		t.Errorf("%d connections, want the probe's alone", accepted)
	}
}

// The same on a clock that can be read: down after a second, a probe every 250 ms,
// and when the node is gone again, all of it again.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		var dials atomic.Int64
		cfg := cluster.Default()
		s := &server{hello: wire.Hello{Purpose: wire.Service, Group: "nodes", Fingerprint: cfg.Fingerprint()},
			table: table.New(cluster.Work{}, new(metrics.Timer))}
		cl := New(cfg)
		cl.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			if !up.Load() {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			}
			near, far := net.Pipe()
			s.conns.Go(func() { // ends at the first request
				l := link{Conn: far, server: s}
				l.say(wire.OK, l.apply(l.greet().next())...)
				far.Close()
			})
			return near, nil
		}
		for range 2 {
			up.Store(false)
			begin := time.Now()
			_, _, err := cl.Get(t.Context(), "k")
			if waited := time.Since(begin); !errors.Is(err, ErrDown) || waited < downAfter || waited > downAfter+lastPause {
				t.Errorf("%v after %v, want down after a second", err, waited)
			}
			dials.Store(0)
			<-time.After(20*probeEvery + probeEvery/2)
			if n := dials.Load(); n != 20 {
				t.Errorf("%d dials in %v, want one every %v", n, 20*probeEvery, probeEvery)
			}
			if _, _, err := cl.Get(t.Context(), "k"); !errors.Is(err, ErrDown) {
				t.Errorf("%v before the node is found, want down", err)
			}
			up.Store(true)
			<-time.After(probeEvery)
			if _, _, err := cl.Get(t.Context(), "k"); err != nil {
				t.Errorf("%v after the node is found", err)
			}
		}
		cl.Close()
		s.conns.Wait()
	})
}

// What proves that a node is there: a connection, though nobody greets it yet, or
// one that has just been used.
func TestNotDown(t *testing.T) {
	cfg := config(t, 2)
	start(t, cfg, 0, func(l *link) { l.Conn.Read(make([]byte, 1)) }) // never greets
	start(t, cfg, 1, honest)
	cl := client(t, cfg)
	c, err := cl.peers[1].get(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range cl.peers {
		p.mu.Lock()
		p.down, p.refused, p.lastErr = true, time.Now().Add(-time.Hour), errors.New("refused")
		p.dialing++
		p.mu.Unlock()
	}
	cl.work.Go(cl.peers[0].dial)
	cl.peers[1].put(c)
	for _, p := range cl.peers {
		until(t, fmt.Sprintf("node %d not to be down", p.number), func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return !p.down && p.refused.IsZero() && p.lastErr == nil
		})
	}
}

// A node that is started again within a second has never been down.
func TestRestart(t *testing.T) {
	cfg := config(t, 1)
	cfg.refuse(t, 0)
	start(t, cfg, 0, func(l *link) {
		l.greet().next()
		l.ln.Close()
		l.say(wire.Goodbye)
	})
	cl := client(t, cfg)
	tcp, refusals := cl.DialContext, 0
	cl.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := tcp(ctx, network, addr)
		if err != nil {
			if refusals++; refusals == 3 {
				start(t, cfg, 0, honest)
			}
		}
		return nc, err
	}
	if _, err := cl.Do(t.Context(), insert("k")); err != nil || refusals != 3 {
		t.Errorf("a write that was met with a goodbye: %v after %d refusals, want it applied after 3", err, refusals)
	}
}

// A server that takes one connection at a time greets the second when the first
// is closed. Calls that share the first one go on.
func TestServerOfOneConnection(t *testing.T) {
	cfg := config(t, 1)
	var one sync.Mutex
	s := start(t, cfg, 0, func(l *link) {
		one.Lock()
		defer one.Unlock()
		honest(l)
	})
	cl := dial(t, cfg)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 25 {
				if _, err := cl.Do(t.Context(), insert(fmt.Sprint(i, "-", n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	applied, accepted := s.count()
	if got := cl.Counts(); applied != 100 || got.Dials != 1 || got.Unknown != 0 {
		t.Errorf("%d requests applied, counted %+v, want 100 on the one connection that is served", applied, got)
	}
	if accepted > 4 {
		t.Errorf("%d connections for four calls at a time", accepted)
	}
	cl.Close() // and so the script of the first, which lets the others go on
}

// As many calls at once as there are callers: each has a connection of its own.
func TestCallsAtOnce(t *testing.T) {
	const calls = 4
	cfg := config(t, 1)
	var all sync.WaitGroup
	all.Add(calls)
	s := start(t, cfg, 0, func(l *link) {
		ops := l.greet().next()
		all.Done()
		all.Wait()
		l.say(wire.OK, l.apply(ops)...)
		l.serve()
	})
	cl := client(t, cfg)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			if _, err := cl.Do(t.Context(), insert(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, accepted := s.count(); accepted != calls {
		t.Errorf("%d connections for %d calls at once", accepted, calls)
	}
}

// A call's own dial is not greeted, and it is served by a connection that another
// call is done with. When the dial is greeted after all, that connection is kept,
// and used.
func TestLeftoverConnection(t *testing.T) {
	cfg := config(t, 1)
	asked, answer, greet := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := start(t, cfg, 0, func(l *link) {
		if l.nth == 2 {
			<-greet
		}
		l.greet()
		for ops := l.next(); ops != nil; ops = l.next() {
			asked <- struct{}{}
			<-answer
			l.say(wire.OK, l.apply(ops)...)
		}
	})
	cl := dial(t, cfg)
	var wg sync.WaitGroup
	call := func(key string) {
		wg.Go(func() {
			if _, err := cl.Do(t.Context(), insert(key)); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		})
	}
	call("first")
	<-asked
	call("second") // dials
	until(t, "the second dial", func() bool { _, accepted := s.count(); return accepted == 2 })
	answer <- struct{}{}
	<-asked // for the second, on the first connection: the other is not greeted
	close(greet)
	until(t, "the greeting", func() bool { return cl.Counts().Dials == 2 })
	answer <- struct{}{}
	wg.Wait()
	p := cl.peers[0]
	until(t, "two idle connections", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.idle) == 2 && p.dialing == 0
	})

	call("third")
	call("fourth")
	<-asked
	<-asked
	answer <- struct{}{}
	answer <- struct{}{}
	wg.Wait()
	if applied, accepted := s.count(); applied != 4 || accepted != 2 {
		t.Errorf("%d requests on %d connections, want 4 on 2", applied, accepted)
	}
}

// A caller that gives up takes its place in the line with it.
func TestWaiterGivesUp(t *testing.T) {
	cfg := config(t, 1)
	greet := make(chan struct{})
	s := start(t, cfg, 0, func(l *link) { <-greet; honest(l) })
	cl := client(t, cfg)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			until(t, "the call to wait", func() bool {
				cl.peers[0].mu.Lock()
				defer cl.peers[0].mu.Unlock()
				return len(cl.peers[0].waiting) == 1
			})
			cancel()
		}()
		results, err := cl.Do(ctx, put("k"))
		if statuses(results) != "not run" || !errors.Is(err, context.Canceled) {
			t.Fatalf("%s, %v, want not run, canceled", statuses(results), err)
		}
	}
	close(greet)
	if _, err := cl.Put(t.Context(), "k", nil); err != nil {
		t.Error(err)
	}
	if applied, accepted := s.count(); applied != 1 || accepted != 1 {
		t.Errorf("%d requests on %d connections, want 1 on 1: a call that gives up leaves its dial to the next", applied, accepted)
	}
}

// Whoever waits longest is served first.
func TestWaitersInOrder(t *testing.T) {
	cfg := config(t, 1)
	start(t, cfg, 0, honest)
	cl := client(t, cfg)
	p := cl.peers[0]
	c, err := p.get(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	first, second := &waiter{got: make(chan gotten, 1)}, &waiter{got: make(chan gotten, 1)}
	p.mu.Lock()
	p.waiting = append(p.waiting, first, second)
	p.mu.Unlock()
	p.put(c)
	if len(first.got) != 1 || len(second.got) != 0 {
		t.Errorf("the connection went to the second call")
	}
	got, err := p.wait(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	p.put(got)
	if got, err = p.wait(t.Context(), second); got != c || err != nil {
		t.Errorf("the second call got %v, %v, want the connection that the first was done with", got, err)
	}
	p.put(c)
}

// A connection can come at the moment at which its caller gives up.
func TestConnectionThatComesTooLate(t *testing.T) {
	cfg := config(t, 1)
	start(t, cfg, 0, honest)
	cl := client(t, cfg)
	p := cl.peers[0]
	c, err := p.get(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		w := &waiter{got: make(chan gotten, 1)}
		p.mu.Lock()
		p.waiting = append(p.waiting, w)
		p.mu.Unlock()
		p.put(c)
		got, err := p.wait(ctx, w)
		if err == nil {
			p.put(got)
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if len(p.idle) != 1 || p.idle[0] != c {
			t.Fatalf("%d connections are left after %v, want 1", len(p.idle), err)
		}
		p.idle = nil
	}
	c.close()
}

// An answer may take as long as it likes to begin, and then no longer than
// frame_timeout.
func TestSlowAnswer(t *testing.T) {
	cfg := config(t, 1)
	cfg.Server.IdleTimeout, cfg.Server.FrameTimeout = 20*time.Millisecond, 20*time.Millisecond
	start(t, cfg, 0, func(l *link) {
		ops := l.greet().next()
		l.Conn.SetReadDeadline(time.Now().Add(3 * cfg.Server.FrameTimeout)) // nothing comes
		l.Conn.Read(make([]byte, 1))
		if l.nth == 1 {
			l.say(wire.OK, l.apply(ops)...)
		} else {
			l.Conn.Write([]byte("\x00\x00\x00\x09half"))
		}
		l.next() // until the client hangs up
	})
	cl := client(t, cfg)
	if _, err := cl.Do(t.Context(), insert("a")); err != nil {
		t.Errorf("an answer that was slow to begin: %v", err)
	}
	until(t, "the connection to be dropped", func() bool {
		cl.peers[0].mu.Lock()
		defer cl.peers[0].mu.Unlock()
		return len(cl.peers[0].idle) == 0
	})
	results, err := cl.Do(t.Context(), insert("b"))
	if statuses(results) != "unknown" || !errors.Is(err, ErrUnknown) || !errors.Is(err, wire.ErrSlow) {
		t.Errorf("half an answer: %s, %v, want unknown, and that it took too long", statuses(results), err)
	}
}

// A server that has gone without a word is noticed before a write is sent to it,
// if the connection has been idle for a second.
func TestIdleConnection(t *testing.T) {
	for _, test := range []struct {
		name  string
		after func(l *link) // of the first answer
		dials int64
	}{
		{"stays", func(l *link) {}, 1},
		{"has gone", func(l *link) { l.Conn.Close() }, 2},
		{"has reset it", func(l *link) { l.reset() }, 2},
		{"has said goodbye", func(l *link) { l.say(wire.Goodbye) }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, 1)
			leave, gone := make(chan struct{}), make(chan struct{})
			s := start(t, cfg, 0, func(l *link) {
				if l.greet(); l.nth == 1 {
					l.say(wire.OK, l.apply(l.next())...)
					<-leave
					test.after(l)
					close(gone)
				}
				l.serve()
			})
			cl := dial(t, cfg)
			if _, err := cl.Do(t.Context(), put("a")); err != nil {
				t.Fatal(err)
			}
			close(leave)
			<-gone
			cl.peers[0].idle[0].since = time.Now().Add(-listenAfter)
			results, err := cl.Do(t.Context(), insert("b"))
			if statuses(results) != "swapped" || err != nil {
				t.Errorf("%s, %v, want swapped", statuses(results), err)
			}
			if got, want := counted(cl), (Counts{Dials: test.dials}); got != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
			if applied, _ := s.count(); applied != 2 {
				t.Errorf("%d requests applied, want 2", applied)
			}
		})
	}
}

// Connections that have been idle for half the server's idle timeout are dropped,
// before the server does it; others are not.
func TestStaleConnections(t *testing.T) {
	cfg := config(t, 1)
	ended := make(chan int, 2)
	start(t, cfg, 0, func(l *link) { honest(l); ended <- l.nth })
	cl := client(t, cfg)
	p := cl.peers[0]
	first, err := p.get(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.get(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	p.put(first)
	p.put(second)
	p.mu.Lock()
	first.since = first.since.Add(-cfg.Server.IdleTimeout / 2)
	p.mu.Unlock()
	p.dropStale()
	if nth := <-ended; nth != 1 {
		t.Errorf("connection %d was dropped, want the first", nth)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) != 1 || p.idle[0] != second || p.sweep == nil {
		t.Errorf("%d connections left, to be looked at again %v, want the second, true", len(p.idle), p.sweep != nil)
	}
}

func TestStaleConnectionsAreDroppedInTime(t *testing.T) {
	cfg := config(t, 1)
	cfg.Server.IdleTimeout = 20 * time.Millisecond
	ended := make(chan struct{})
	start(t, cfg, 0, func(l *link) {
		honest(l)
		if l.nth == 1 {
			close(ended)
		}
	})
	cl := dial(t, cfg)
	<-ended
	if _, err := cl.Put(t.Context(), "k", nil); err != nil || cl.Counts().Dials != 2 {
		t.Errorf("Put: %v, counted %+v, want a second connection", err, cl.Counts())
	}
}

// Close ends every kind of call, and says of each what became of it.
func TestClose(t *testing.T) {
	cfg := config(t, 3)
	written, waiting := make(chan struct{}), make(chan struct{}, 8)
	start(t, cfg, 0, func(l *link) { // asks, and never answers
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
	call(put(keyOf(cfg, 0)), wire.Unknown, true)
	<-written
	call(get(keyOf(cfg, 0)), wire.NotRun, false)
	<-written
	call(put(keyOf(cfg, 1)), wire.NotRun, false)
	<-waiting
	call(get(keyOf(cfg, 2)), wire.NotRun, false)
	until(t, "refusals", func() bool { return cl.Counts().Refusals >= 3 })
	cl.Close()
	for _, p := range cl.peers {
		if p.dialing != 0 || len(p.idle) != 0 || len(p.waiting) != 0 {
			t.Errorf("after Close node %d has %d dials, %d connections and %d calls", p.number, p.dialing, len(p.idle), len(p.waiting))
		}
	}
	wg.Wait()
	noneLeft(t)

	results, err := cl.Do(t.Context(), put("k"))
	if statuses(results) != "not run" || !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %s, %v, want not run, closed", statuses(results), err)
	}
	if err := cl.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestCloseEndsIdleConnections(t *testing.T) {
	cfg := config(t, 1)
	ended := make(chan error)
	start(t, cfg, 0, func(l *link) { honest(l); ended <- l.c.Err() })
	cl := dial(t, cfg)
	cl.Close()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("the server reads %v, want EOF", err)
	}
}

// Many calls on one Client, and a server that keeps saying no and goodbye: every
// write is applied, and once.
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
				if results, err := cl.Do(t.Context(), insert(a), insert(b)); statuses(results) != "swapped, swapped" || err != nil {
					t.Errorf("%s, %v, want both swapped", statuses(results), err)
				}
			}
		})
	}
	wg.Wait()
	if got := cl.Counts(); got.Unknown != 0 || got.Refusals == 0 || got.Retries <= got.Refusals || got.Dials < 3 {
		t.Errorf("counted %+v, want refusals, more retries than that, and no doubt", got)
	}
}

func TestStats(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t, 1)
	cfg.refuse(t, 0) // a server that is busy, or stuck, answers this all the same
	cfg.Nodes[0].Control = ln.Addr().String()
	var answer []byte
	b := barrier.New(ln, barrier.Config{Group: "nodes", Peers: []string{cfg.Nodes[0].Control}, Stats: func() []byte { return answer }})
	cl := client(t, cfg)

	want := metrics.Snapshot{Stage: "stage9", Serving: true, Requests: 7, Errors: map[string]int64{"slow": 2}}
	answer, err = json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cl.Stats(t.Context(), 0)
	if fmt.Sprint(got) != fmt.Sprint(want) || got.Stage != want.Stage || got.Errors["slow"] != 2 || err != nil {
		t.Errorf("Stats: %+v, %v, want %+v", got, err, want)
	}
	answer = []byte("{")
	if _, err := cl.Stats(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "node 0 ("+cfg.Nodes[0].Control+")") {
		t.Errorf("Stats that are no JSON: %v, want whose they are", err)
	}
	b.Close()
	if _, err := cl.Stats(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Stats of a server that has gone: %v, want refused", err)
	}
	for _, i := range []int{-1, 1} {
		if _, err := cl.Stats(t.Context(), i); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("no node %d", i)) {
			t.Errorf("Stats(%d): %v, want that there is no such node", i, err)
		}
	}
}

// A connection that is greeted when all who waited for it have given up is not kept:
// a server of one connection would have no other client.
func TestConnectionThatNobodyWantsAnyMore(t *testing.T) {
	cfg := config(t, 1)
	connected, greet, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	start(t, cfg, 0, func(l *link) {
		close(connected)
		<-greet
		l.greet()
		if l.next() == nil {
			close(left)
		}
	})
	cl := client(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error)
	go func() {
		_, _, err := cl.Get(ctx, "key")
		asked <- err
	}()
	<-connected
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want %v", err, context.Canceled)
	}
	close(greet)
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the client keeps a connection that nobody wants")
	}
}
