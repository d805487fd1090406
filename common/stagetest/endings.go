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
