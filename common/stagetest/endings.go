package stagetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// The server is stopped under full load. Every acknowledged write was applied, no other
// was, and every client knows the outcome of its writes.
func testDrain(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	w := startWriters(t, s.cfg)
	<-w.loaded
	s.stop()
	if got, want := s.nodes[0].Stats.Requests.Load(), w.stop(); got != want {
		t.Errorf("the server applied %d requests, its clients had %d answers", got, want)
	}
}

// writers are clients that write until the server stops.
type writers struct {
	acked  atomic.Int64  // answers so far
	loaded chan struct{} // closed after 200 answers
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// startWriters starts writers to node 0 of a cluster. The test fails if one of them is
// left without knowing whether a write was applied.
func startWriters(t *testing.T, cfg cluster.Config) *writers {
	ctx, cancel := context.WithCancel(t.Context())
	w := &writers{loaded: make(chan struct{}), cancel: cancel}
	for i := range 4 {
		w.done.Go(func() { // ends at stop
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
				if w.acked.Add(1) == 200 {
					close(w.loaded)
				}
			}
		})
	}
	return w
}

// stop ends the writers, which may still be looking for the server, and returns how many
// answers they had.
func (w *writers) stop() int64 {
	w.cancel()
	w.done.Wait()
	return w.acked.Load()
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
