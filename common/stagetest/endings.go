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
	"lockstep/common/node"
	"lockstep/common/wire"
)

// The server is stopped under full load. Every acknowledged write was applied, no other
// was, and every client knows the outcome of its writes.
func testDrain(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var acked atomic.Int64
	var clients sync.WaitGroup
	loaded := make(chan struct{})
	for i := range 4 {
		clients.Go(func() { // ends when the server does, or with ctx
			cl := client.New(s.cfg)
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
	s.stop()
	cancel() // some clients may still be looking for the server
	clients.Wait()
	if got, want := s.node.Stats.Requests.Load(), acked.Load(); got != want {
		t.Errorf("the server applied %d requests, its clients had %d answers", got, want)
	}
}

func testStopIdle(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	c := s.dial()
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
	c := s.dial()
	ask(c, put("k", "v"))
	c.Close() // a stage that serves one client at a time does not accept before
	s.listener.Close()
	if err := <-s.served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve returned %v, want the listener's error", err)
	}
}
