package client

// How a Client gets its connections, and what becomes of them. Nodes that are full, silent or
// out of reach, other clients that hold what is wanted, and trouble of the client's own.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

func TestDialFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	for _, test := range []struct {
		script func(*link)
		is     error
		says   string
	}{
		{greetAs(func(h *wire.Hello) { h.Secret = "sixteen bytes or more" }), wire.ErrMismatch, "secret"},
		{func(l *link) { cancel(); silent(l) }, context.Canceled, "not greeted"},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := cluster.Default()
		cfg.Nodes[0].Addr = ln.Addr().String()
		var server sync.WaitGroup
		server.Go(func() { // ends when ln is closed
			for nc, err := ln.Accept(); err == nil; nc, err = ln.Accept() {
				test.script(&link{Conn: nc, hello: cfg.Hello(0)})
				nc.Close()
			}
		})
		cl, err := Dial(ctx, cfg)
		ln.Close()
		server.Wait()
		text := fmt.Sprint(err)
		if !errors.Is(err, test.is) || !strings.Contains(text, test.says) || !strings.Contains(text, "(node 0, 127") {
			t.Errorf("Dial: %v, want %v, with %q and the node", err, test.is, test.says)
		}
		if dials := cl.Counts().FailedDials; cl.ctx.Err() == nil || dials.Sum() != 1 {
			t.Errorf("a Client that ended with %v after these dials: %v, want it closed, after one", cl.ctx.Err(), dials)
		}
	}
	if _, err := Dial(t.Context(), cluster.Config{}); err == nil {
		t.Error("Dial with an invalid configuration: no error")
	}
}

// A node that refuses connections is down after a second. Its calls then fail at once,
// while one probe dials every 250 ms. When the node is back the probe finds it, and
// when it is gone again, all of that repeats. A node that accepts connections is not down,
// even if it does not greet them.
func TestDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, nil)
		for range 2 {
			m.redial(nil)
			begin := time.Now()
			var calls sync.WaitGroup
			for range 8 {
				calls.Go(func() {
					expect(t, "not run", ErrDown, syscall.ECONNREFUSED)(m.Do(t.Context(), put("k")))
					if waited := time.Since(begin); waited < DownAfter || waited > DownAfter+lastPause {
						t.Errorf("down after %v, want after a second", waited)
					}
				})
			}
			calls.Wait()
			<-time.After(probeEvery - time.Millisecond) // the other dials end
			before := m.redial(nil)
			<-time.After(20 * probeEvery)
			if n := m.redial(nil) - before; n != 20 {
				t.Errorf("%d dials in %v, want one every %v", n, 20*probeEvery, probeEvery)
			}
			begin = time.Now()
			if expect(t, "not run", ErrDown)(m.Do(t.Context(), get("k"))); time.Since(begin) > 0 {
				t.Errorf("down after %v, want at once", time.Since(begin))
			}
			before = m.redial(func(l *link) { l.answer(l.next()) }) // one request, then the end
			<-time.After(probeEvery)
			if _, _, err := m.Get(t.Context(), "k"); err != nil || m.dials.Load() != before+2 {
				t.Errorf("Get after the node is back: %v, %d dials, want the probe's and its own", err, m.dials.Load()-before)
			}
		}

		m.redial(nil)
		expect(t, "not run", ErrDown)(m.Do(t.Context(), get("k")))
		m.redial(silent)
		<-time.After(2 * probeEvery)
		expect(t, "not run", context.DeadlineExceeded, ErrNotGreeted)(m.Do(within(t, time.Minute), get("k"))) // it waited
		if failed := m.Counts().FailedDials; len(failed) != 2 || failed["connection refused"] == 0 || failed["not greeted"] == 0 {
			t.Errorf("these dials failed: %v, want them refused or not greeted", failed)
		}
	})
}

// A node is down when dials have been refused for a second without a break, and a call
// waited for them. One refused dial, and an hour later another, is not that.
func TestRefusedLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dials := newMemory(t, func(l *link) { l.next() }), 0 // takes a request and ends
		m.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials++; dials == 2 || dials%2 == 1 {
				return nil, dialFails(syscall.ECONNREFUSED)
			}
			return m.dial(ctx, network, addr)
		}
		m.Do(within(t, time.Millisecond/4), put("k")) // gives up in the first pause, before the second dial
		for range 3 {
			<-time.After(time.Hour)
			expect(t, "unknown")(m.Do(within(t, time.Minute), put("k")))
		}
	})
}

// A call that gives up leaves its dial to the next call. If there is none, the
// connection is not kept: a server of one connection would have no other client.
func TestAbandonedDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		greet, ended := make(chan struct{}), make(chan struct{})
		m := newMemory(t, func(l *link) { <-greet; honest(l); ended <- struct{}{} })
		giveUp := func() { expect(t, "not run", context.DeadlineExceeded)(m.Do(within(t, time.Second), put("k"))) }
		giveUp()
		time.AfterFunc(time.Second/2, func() { greet <- struct{}{} })
		_, err := m.Put(t.Context(), "k", nil)
		if err != nil || m.dials.Load() != 1 {
			t.Errorf("Put: %v after %d dials, want one dial for both calls", err, m.dials.Load())
		}
		m.peers[0].drop(0)
		<-ended
		giveUp()
		greet <- struct{}{}
		<-ended // or a deadlock
	})
}

// A call takes the first connection that is greeted or freed, and the call that has waited longest
// comes first. When the other dials are greeted after all, their connections are kept. A connection
// that is handed over at the moment at which its call gives up is not lost.
func TestWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served, greet := "", make(chan struct{})
		m := newMemory(t, func(l *link) {
			if l.nth > 1 {
				<-greet
			}
			l.each(func(ops []wire.Op) { served += ops[0].Key; l.answer(ops) })
		})
		p := m.peers[0]
		c := p.get(t.Context(), false).c
		var calls sync.WaitGroup
		for _, key := range []string{"a", "b", "c"} {
			calls.Go(func() { expect(t, "created")(m.Do(t.Context(), put(key))) })
			synctest.Wait() // it has dialled, and waits
		}
		p.put(c, true)
		if calls.Wait(); served != "abc" {
			t.Errorf("the calls are served in the order %s, want abc", served)
		}
		close(greet)
		synctest.Wait()
		if len(p.idle) != 4 {
			t.Errorf("%d connections are kept, want 4", len(p.idle))
		}

		c = p.get(t.Context(), false).c
		wait := make(chan gotten, 1)
		p.waiting = append(p.waiting, wait)
		p.put(c, true)
		if err := p.giveUp(context.Canceled, wait).err; !errors.Is(err, context.Canceled) || len(p.idle) != 4 || p.idle[3] != c {
			t.Errorf("giveUp: %v, and %d idle connections, want canceled, and the one beside three", err, len(p.idle))
		}
	})
}

// An answer may take any time to begin, but is then limited to frame_timeout.
func TestSlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, func(l *link) {
			ops := l.next()
			<-time.After(time.Hour)
			l.answer(ops)
			l.next()
			l.Conn.Write([]byte("\x00\x00\x00\x09half"))
			l.next()
		})
		expect(t, "swapped")(m.Do(t.Context(), insert("a")))
		expect(t, "unknown", wire.ErrSlow)(m.Do(t.Context(), insert("b")))
	})
}

// A server that has gone is noticed before a write is sent to it, if the connection has
// been idle for a second. Before that the write is not sent whole, and so it is sent again.
func TestIdleConnection(t *testing.T) {
	for _, test := range []struct {
		idle  time.Duration
		after func(*link)
		want  Counts
	}{
		{checkAfter, honest, Counts{Dials: 1}},
		{checkAfter, func(l *link) { l.say(wire.Goodbye); l.next() }, Counts{Dials: 2}},
		{time.Millisecond, func(*link) {}, Counts{Dials: 2, Retries: 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, func(l *link) {
				if l.nth == 1 {
					l.answer(l.next())
					test.after(l)
				} else {
					honest(l)
				}
			})
			expect(t, "created")(m.Do(t.Context(), put("a")))
			<-time.After(test.idle)
			expect(t, "swapped")(m.Do(t.Context(), insert("b")))
			checkCounts(t, m.Client, test.want)
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
		expect(t, "created")(m.Do(t.Context(), put("k")))
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
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, func(l *link) { l.next(); l.next() }, silent, func(l *link) {
			l.each(func([]wire.Op) { l.say(wire.Busy) })
		})
		var calls sync.WaitGroup
		call := func(op wire.Op, want string) {
			calls.Go(func() { expect(t, want, ErrClosed)(m.Do(t.Context(), op)) })
		}
		call(put(keyOf(m.cfg, 0)), "unknown")
		call(get(keyOf(m.cfg, 0)), "not run")
		call(put(keyOf(m.cfg, 1)), "not run")
		call(get(keyOf(m.cfg, 2)), "not run")
		<-time.After(lastPause)
		m.Close()
		calls.Wait()
		expect(t, "not run", ErrClosed)(m.Do(t.Context(), put("k")))
	})
}

// turnstiles returns two nodes that serve one client at a time. A node greets a client when it
// can put something into its place, and takes that out at the end.
func turnstiles(t *testing.T) (places [2]chan struct{}, m *memory) {
	var scripts []func(*link)
	for i := range places {
		place := make(chan struct{}, 1)
		places[i] = place
		scripts = append(scripts, func(l *link) {
			<-time.After(rand.N(time.Millisecond)) // so that the order is not always the same
			place <- struct{}{}
			honest(l)
			<-place
		})
	}
	return places, newMemory(t, scripts...)
}

// Two nodes serve one client at a time, as stage 1 does, so a connection to one is a lock. Two
// clients want both nodes. Nothing in one process shows the deadlock: each node is fine, and
// each client waits for a greeting.
//
//	go test ./common/client -run Specimen -v
func TestSpecimenTwoNodes(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		orders           [2][2]int // the nodes, in the order in which each client connects to them
		want             int64     // clients that are served
	}{
		{"in the order of the operations", "each holds the node that the other waits for: a deadlock", [2][2]int{{0, 1}, {1, 0}}, 0},
		{"in ascending order", "who has node 0 need not wait for node 1: both are served", [2][2]int{{0, 1}, {0, 1}}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Log("prediction:", c.prediction)
				_, m := turnstiles(t)
				ctx := within(t, time.Minute)
				var served atomic.Int64
				var all sync.WaitGroup
				for i, order := range c.orders {
					all.Go(func() { // ends when it is served or ctx ends
						cl := m.join(t, m.cfg)
						defer cl.Close()
						for _, number := range order {
							<-time.After(time.Duration(5+i) * time.Millisecond) // by now the other has what it could get
							g := cl.peers[number].get(ctx, false)
							if g.err != nil {
								t.Logf("a minute later, client %d still waits for node %d", i, number)
								return
							}
							t.Logf("client %d has node %d", i, number)
							defer cl.peers[number].put(g.c, true)
						}
						t.Logf("client %d is served, and leaves", i)
						served.Add(1)
					})
				}
				all.Wait()
				t.Logf("found: %d of 2 clients are served", served.Load())
				if served.Load() != c.want {
					t.Errorf("%d of 2 clients are served, want %d", served.Load(), c.want)
				}
			})
		})
	}
}

// Two clients of two nodes that serve one client at a time do not each hold the node that
// the other waits for.
func TestClientsDoNotDeadlock(t *testing.T) {
	const connects = 10 * time.Millisecond // as many as there can be, of up to 1 ms each
	alone, both, crosswise := [2][]int{{0}, {1}}, [2][]int{{0, 1}, {0, 1}}, [2][]int{{1}, {0}}
	for name, test := range map[string]struct {
		kept, wanted [2][]int // nodes, by client: those it has connections to, and those it then wants
		limit        time.Duration
	}{
		"from nothing":                       {[2][]int{}, both, connects},
		"each has kept one":                  {alone, both, 2*yieldAfter + connects},
		"each has kept what the other wants": {alone, crosswise, 2*yieldAfter + connects},
	} {
		for range 10 {
			synctest.Test(t, func(t *testing.T) {
				_, m := turnstiles(t)
				do := func(cl *Client, nodes []int) {
					var ops []wire.Op
					for _, node := range nodes {
						ops = append(ops, put(keyOf(m.cfg, node)))
					}
					if _, err := cl.Do(t.Context(), ops...); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				clients := []*Client{m.Client, m.join(t, m.cfg)}
				for i, cl := range clients {
					do(cl, test.kept[i])
				}
				begin := time.Now()
				var calls sync.WaitGroup
				for i, cl := range clients {
					calls.Go(func() { do(cl, test.wanted[i]); cl.Close() })
				}
				calls.Wait()
				if took := time.Since(begin); took > test.limit {
					t.Fatalf("%s: the two took %v, want at most %v", name, took, test.limit)
				}
			})
		}
	}
}

// A batch that waits for a silent node keeps the other node from nobody for longer than
// a second, and is executed when the silent node greets.
func TestBatchGivesBackWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places, m := turnstiles(t)
		places[1] <- struct{}{}
		other, zero, one := m.join(t, m.cfg), keyOf(m.cfg, 0), keyOf(m.cfg, 1)
		var batch sync.WaitGroup
		batch.Go(func() {
			expect(t, "created, replaced")(m.Do(t.Context(), put(one), put(zero)))
			m.Close()
		})
		<-time.After(yieldAfter / 2) // the batch holds node 0
		begin := time.Now()
		other.Do(within(t, time.Minute), put(zero))
		if took := time.Since(begin); took > 2*yieldAfter {
			t.Errorf("node 0 was held for %v", took)
		}
		other.Close()
		<-places[1] // node 1 greets
		batch.Wait()
	})
}

// Many calls share a node that has few places, and refuses the other connections or lets
// them wait. The node serves as if there were only as many calls as it has places, and is
// hardly dialled: at most maxDials wait for a greeting, and one tries again after a refusal.
func TestFullNode(t *testing.T) {
	const places, calls, each, limit = 4, 100, time.Millisecond, time.Second / 8
	for _, refuses := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, func(l *link) {
				switch {
				case l.nth <= places:
					l.each(func(ops []wire.Op) { <-time.After(each); l.answer(ops) })
				case refuses:
					wire.Refuse(l.Conn, "all places are taken")
				}
				silent(l)
			})
			ctx := within(t, limit)
			var puts atomic.Int64
			var workers sync.WaitGroup
			for range calls {
				workers.Go(func() {
					for ctx.Err() == nil {
						if _, err := m.Put(ctx, "k", nil); err == nil {
							puts.Add(1)
						}
					}
				})
			}
			workers.Wait()
			if most := int64(places * limit / each); puts.Load() < most*9/10 {
				t.Errorf("refuses %v: %d puts, want about %d", refuses, puts.Load(), most)
			}
			if most := maxDials + places + int64(limit/(lastPause/2)) + 10; m.dials.Load() > most {
				t.Errorf("%d dials of a full node, want at most %d", m.dials.Load(), most)
			}
		})
	}
}

// A greeting that is lost does not block a client whose calls come one after the other.
func TestLostGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, func(l *link) {
			if l.nth <= 2 {
				silent(l)
			}
			honest(l)
		})
		begin := time.Now()
		for err := ErrNotGreeted; err != nil; {
			if _, err = m.Put(within(t, time.Second), "k", nil); time.Since(begin) > 4*firstPatience {
				t.Fatalf("none is served within %v", time.Since(begin))
			}
		}
	})
}

// Only a node that refuses or cannot be reached is down. The client's own trouble is
// named when the call ends, and the call is executed if it passes.
func TestOwnTroubleIsNotTheNodes(t *testing.T) {
	for trouble, isDown := range map[error]bool{
		syscall.ECONNREFUSED:   true,
		syscall.EHOSTUNREACH:   true,
		syscall.Errno(10061):   true, // refused, on Windows
		os.ErrDeadlineExceeded: true,
		&net.DNSError{Err: "no such host", IsNotFound: true}:        true,
		&net.DNSError{Err: "server misbehaving", IsTemporary: true}: false,
		syscall.EMFILE: false,
		syscall.EPERM:  false,
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, honest)
			begin := time.Now()
			m.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if time.Since(begin) < 5*time.Second {
					return nil, dialFails(trouble)
				}
				return m.dial(ctx, network, addr)
			}
			_, err := m.Put(within(t, 3*time.Second), "k", nil)
			if errors.Is(err, ErrDown) != isDown || !errors.Is(err, trouble) {
				t.Errorf("Put while dialling fails with %v: %v, want down %v, and the reason", trouble, err, isDown)
			}
			if !isDown {
				expect(t, "created")(m.Do(t.Context(), put("k"))) // when it has passed
			}
		})
	}
}

// The pauses between tries double from 1 ms to 100 ms, each shorter by chance, by up to a
// half.
func TestRetriesBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		m := newMemory(t, func(l *link) {
			l.each(func([]wire.Op) { tries = append(tries, time.Now()); l.say(wire.Busy) })
		})
		m.Put(within(t, 3*time.Second), "k", nil)
		lengths := make(map[time.Duration]bool)
		most := firstPause
		for i := range len(tries) - 1 {
			got := tries[i+1].Sub(tries[i])
			if got < most/2 || got > most {
				t.Errorf("pause %d was %v, want %v to %v", i, got, most/2, most)
			}
			lengths[got] = true
			most = min(2*most, lastPause)
		}
		if len(tries) < 30 || len(lengths) < 20 {
			t.Errorf("%d tries, %d different pauses, want at least 30 and 20", len(tries), len(lengths))
		}
	})
}
