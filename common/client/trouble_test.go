package client

// Nodes that are full, silent or out of reach, other clients that hold what is wanted,
// and trouble of the client's own.

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// turnstiles returns a maker of Clients of two nodes over net.Pipe. A node greets a
// client when it can put something into its place, and takes that out at the end.
func turnstiles(t *testing.T) (places [2]chan struct{}, dial func() *Client) {
	cfg := cluster.Default()
	cfg.Nodes = []cluster.Node{{Addr: "127.0.0.1:1"}, {Addr: "127.0.0.1:2"}}
	servers := make(map[string]*server)
	for i, n := range cfg.Nodes {
		places[i], servers[n.Addr] = make(chan struct{}, 1), newServer(cfg, i)
	}
	return places, func() *Client {
		cl := New(cfg)
		cl.DialContext = func(_ context.Context, _, addr string) (net.Conn, error) {
			<-time.After(rand.N(time.Millisecond)) // so that the order is not always the same
			return servers[addr].pipe(1, func(l *link) {
				place := places[l.hello.Number]
				place <- struct{}{}
				honest(l)
				<-place
			}), nil
		}
		t.Cleanup(func() { cl.Close() })
		return cl
	}
}

// Two clients of two nodes that serve one client at a time do not each hold the node that
// the other waits for.
func TestClientsDoNotDeadlock(t *testing.T) {
	for name, test := range map[string]struct {
		kept  bool // each client has a connection to another node before
		both  bool // and wants both nodes, or only the other one
		limit time.Duration
	}{
		"from nothing":                       {false, true, 10 * time.Millisecond},
		"each has kept one":                  {true, true, 2 * yieldAfter},
		"each has kept what the other wants": {true, false, 2 * yieldAfter},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				synctest.Test(t, func(t *testing.T) {
					_, dial := turnstiles(t)
					clients := []*Client{dial(), dial()}
					both := []wire.Op{put(keyOf(clients[0].cfg, 0)), put(keyOf(clients[0].cfg, 1))}
					for i, cl := range clients {
						if test.kept {
							expect(t, "created")(cl.Do(t.Context(), both[i]))
						}
					}
					begin := time.Now()
					var calls sync.WaitGroup
					for i, cl := range clients {
						ops := both
						if !test.both {
							ops = both[1-i : 2-i]
						}
						calls.Go(func() {
							if results, err := cl.Do(t.Context(), ops...); err != nil {
								t.Errorf("%s, %v", statuses(results), err)
							}
							cl.Close()
						})
					}
					calls.Wait()
					if took := time.Since(begin); took > test.limit {
						t.Fatalf("the two took %v, want at most %v", took, test.limit)
					}
				})
			}
		})
	}
}

// A batch that waits for a silent node keeps the other node from nobody for longer than
// a second, and is executed when the silent node greets.
func TestBatchGivesBackWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places, dial := turnstiles(t)
		places[1] <- struct{}{}
		batch := make(chan error)
		cl, other := dial(), dial()
		zero, one := keyOf(cl.cfg, 0), keyOf(cl.cfg, 1)
		go func() {
			_, err := cl.Do(t.Context(), put(one), put(zero))
			cl.Close()
			batch <- err
		}()
		<-time.After(yieldAfter / 2) // the batch holds node 0
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		other.Do(ctx, put(zero))
		if took := time.Since(begin); took > 2*yieldAfter {
			t.Errorf("node 0 was held for %v", took)
		}
		other.Close()
		<-places[1]
		if err := <-batch; err != nil {
			t.Errorf("the batch: %v, want it executed when node 1 greets", err)
		}
	})
}

// Many calls share a node that has few places, and refuses the other connections or lets
// them wait. The node serves as if there were only as many calls as it has places, and is
// hardly dialled.
func TestFullNode(t *testing.T) {
	const places, calls, each, limit = 4, 200, time.Millisecond, time.Second
	for _, refuses := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var greeted atomic.Int64
			m := newMemory(t, func(l *link) {
				if greeted.Add(1) > places {
					if refuses {
						wire.Refuse(l.Conn, "all places are taken")
					}
					l.Conn.Read(make([]byte, 1))
					return
				}
				l.greet()
				for ops := l.next(); ops != nil; ops = l.next() {
					<-time.After(each)
					l.say(wire.OK, l.apply(ops)...)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
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
			if dials, most := m.count(), maxDials+places+int(limit/(lastPause/2))+10; dials > most {
				t.Errorf("%d dials of a full node, want at most %d", dials, most)
			}
		})
	}
}

func TestDialsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, silent)
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		for range 10 * maxDials {
			calls.Go(func() { m.Put(ctx, "k", nil) })
		}
		synctest.Wait()
		if n := m.redial(honest); n != maxDials {
			t.Errorf("%d dials in flight, want %d", n, maxDials)
		}
		cancel()
		calls.Wait()
	})
}

// A greeting that is lost does not block a client whose calls come one after the other.
func TestLostGreeting(t *testing.T) {
	for _, limit := range []time.Duration{time.Second, time.Minute} { // of a call
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, func(l *link) {
				if l.nth <= 2 {
					silent(l)
				}
				honest(l)
			})
			begin := time.Now()
			for served := false; !served; {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				_, err := m.Put(ctx, "k", nil)
				cancel()
				served = err == nil
				if took := time.Since(begin); took > 4*firstPatience {
					t.Fatalf("calls of %v: none is served within %v", limit, took)
				}
			}
		})
	}
}

// Only a node that refuses or cannot be reached is down. The client's own trouble is
// named when the call ends, and the call is executed if it passes.
func TestOwnTroubleIsNotTheNodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		down bool
	}{
		{syscall.ECONNREFUSED, true},
		{syscall.EHOSTUNREACH, true},
		{syscall.ENETUNREACH, true},
		{syscall.Errno(10061), true}, // refused, on Windows
		{os.ErrDeadlineExceeded, true},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, true},
		{&net.DNSError{Err: "server misbehaving", IsTemporary: true}, false},
		{syscall.EMFILE, false},
		{syscall.ENFILE, false},
		{syscall.ENOBUFS, false},
		{syscall.ENOMEM, false},
		{syscall.EADDRNOTAVAIL, false},
		{syscall.EPERM, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, honest)
			open := m.DialContext
			begin := time.Now()
			m.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if time.Since(begin) < 5*time.Second {
					return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", test.err)}
				}
				return open(ctx, network, addr)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := m.Put(ctx, "k", nil)
			if errors.Is(err, ErrDown) != test.down || !errors.Is(err, test.err) {
				t.Errorf("Put while dialling fails with %v: %v, want down %v, and the reason", test.err, err, test.down)
			}
			if !test.down {
				if _, err := m.Put(t.Context(), "k", nil); err != nil {
					t.Errorf("Put after %v has passed: %v", test.err, err)
				}
			}
		})
	}
}

// The pauses between tries double from 1 ms to 100 ms, each shorter by chance, by up to a
// half. They are those of a busy server's requests, and of a full one's dials.
func TestRetriesBackOff(t *testing.T) {
	for _, full := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var tries []time.Time
			m := newMemory(t, func(l *link) {
				if full {
					tries = append(tries, time.Now())
					wire.Refuse(l.Conn, "full")
					return
				}
				for l.greet(); l.next() != nil; l.say(wire.Busy) {
					tries = append(tries, time.Now())
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			m.Put(ctx, "k", nil)
			lengths := make(map[time.Duration]bool)
			most := firstPause
			for i := range len(tries) - 1 {
				got := tries[i+1].Sub(tries[i])
				if got < most/2 || got > most {
					t.Errorf("full %v: pause %d was %v, want %v to %v", full, i, got, most/2, most)
				}
				lengths[got] = true
				most = min(2*most, lastPause)
			}
			if len(tries) < 30 || len(lengths) < 20 {
				t.Errorf("full %v: %d tries, %d different pauses, want at least 30 and 20", full, len(tries), len(lengths))
			}
		})
	}
}
