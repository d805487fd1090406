package stagetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/faults"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// faulty returns a client whose first connection has a fault.
func (s *stage) faulty(f faults.Fault) *client.Client {
	s.t.Helper()
	proxy, err := faults.NewProxy(s.cfg.Nodes[0].Addr, func(n int) faults.Fault {
		if n > 0 {
			return faults.Fault{}
		}
		return f
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { proxy.Close() })
	cl := client.New(s.cfg)
	cl.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, proxy.Addr())
	}
	return cl
}

// A request and its answer are cut at every byte. An acknowledged write was applied, a
// write that was NotRun was not, no write is applied twice, and the client can be used
// again at once.
func testCuts(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	request := frame(t, insert("key0000", "value"))
	const greeting, answer = 64, 16 // bytes; the answer has fewer
	fates := make(map[wire.Status]int)
	for n := range len(request) + greeting + answer {
		f := faults.Fault{Kind: faults.Cut, Way: faults.Requests, After: n}
		if n >= len(request) {
			f.Way, f.After = faults.Answers, n-len(request)
		}
		cl, key := s.faulty(f), fmt.Sprintf("key%04d", n)
		results, err := cl.Do(t.Context(), insert(key, "value"))
		status := results[0].Status
		fates[status]++
		if unknown := errors.Is(err, client.ErrUnknown); unknown != (status == wire.Unknown) || (err == nil) != (status == wire.Swapped) {
			t.Errorf("%+v: the insert is %v, with the error %v", f, status, err)
		}
		value, found, err := cl.Get(t.Context(), key)
		if err != nil || found && string(value) != "value" || status == wire.Swapped && !found || status == wire.NotRun && found {
			t.Errorf("%+v: the insert was %v, get returns %q, %v, %v", f, status, value, found, err)
		}
		cl.Close()

		cl = s.faulty(f)
		if _, again, err := cl.Get(t.Context(), key); err != nil || again != found {
			t.Errorf("%+v: a get that is cut returns %v (%v), want %v: reads are repeated", f, again, err, found)
		}
		cl.Close()
	}
	// Until the greeting is complete nothing has been sent, and it is safe to retry. After
	// that, a client cannot tell a lost request from a lost answer.
	if fates[wire.Swapped] < greeting || fates[wire.Unknown] < len(request)-1 || len(fates) != 2 {
		t.Errorf("the cut inserts were %v, want %d or more swapped, whose greeting was cut, and the others unknown", fates, greeting)
	}
}

// A write whose answer is lost is Unknown when its context ends, and not before. It may
// have been applied, and is not applied later.
func testHole(t *testing.T, serve node.Serve) {
	cl := start(t, serve, nil).faulty(faults.Fault{Kind: faults.Hole, Way: faults.Answers, After: 64})
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	results, err := cl.Do(ctx, put("k", "v"))
	if results[0].Status != wire.Unknown || !errors.Is(err, client.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a put whose answer is lost is %v, with the error %v, want unknown and the deadline", results[0].Status, err)
	}
	if value, found, err := cl.Get(t.Context(), "k"); !found || string(value) != "v" || err != nil {
		t.Errorf("the put was applied, but get returns %q, %v, %v", value, found, err)
	}
}

// The server is stopped under full load. Every acknowledged write was applied, no other
// was, and every client knows the outcome of its writes.
func testDrain(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	stopWriters := startWriters(t, s.cfg)
	s.stop()
	if got, want := s.nodes[0].Stats.Requests.Load(), stopWriters(); got != want {
		t.Errorf("the server applied %d requests, its clients had %d answers", got, want)
	}
}

// startWriters starts clients that write to node 0 of a cluster until it stops, and returns
// after 200 answers. The test fails if a client is left without knowing whether a write was
// applied. stop ends those that may still be looking for the server, and returns how many
// answers all had.
func startWriters(t *testing.T, cfg cluster.Config) (stop func() int64) {
	ctx, cancel := context.WithCancel(t.Context())
	var acked atomic.Int64
	var done sync.WaitGroup
	loaded := make(chan struct{})
	for i := range 4 {
		done.Go(func() { // ends when the server does, or at stop
			cl := client.New(cfg)
			defer cl.Close()
			for {
				results, err := cl.Do(ctx, put(fmt.Sprint("client", i), "v"))
				if errors.Is(err, client.ErrUnknown) || err != nil && results[0].Status != wire.NotRun {
					t.Errorf("client %d: %v, %v: a drain must leave no client in doubt", i, results[0].Status, err)
				}
				if err != nil {
					return
				}
				if acked.Add(1) == 200 {
					close(loaded)
				}
			}
		})
	}
	<-loaded
	return func() int64 {
		cancel()
		done.Wait()
		return acked.Load()
	}
}

func testStopIdle(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	c, _ := s.dial(0)
	if r := ask(c, put("k", "v")); r.Code != wire.OK {
		t.Fatalf("answer %v (%v), want ok", r.Code, c.Err())
	}
	s.cancel()
	checkGoodbye(t, c, "an idle client of a server that stops")
	c.Close()
	s.stop()
}

// A listener that fails ends serve with its error, and ends the clients.
func testListenerFails(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	c, _ := s.dial(0)
	ask(c, put("k", "v"))
	c.Close() // a stage that serves one client at a time does not accept before
	s.listeners[0].Close()
	if err := <-s.served[0]; !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve returned %v, want the listener's error", err)
	}
}
