package stagetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A node that refuses connections is down, for its own keys alone, and calls say so
// at once.
func testDown(t *testing.T, serve node.Serve) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // nobody listens here any more
	fronts := []string{"", ln.Addr().String()}
	s := startBehind(t, serve, func(c *cluster.Config) { c.Nodes = make([]cluster.Node, 2) }, func(addr string) string {
		front := cmp.Or(fronts[0], addr)
		fronts = fronts[1:]
		return front
	})
	cl := s.client() // though node 1 is down
	defer cl.Close()
	for i := range 20 {
		key := fmt.Sprint("key", i)
		began := time.Now()
		results, err := cl.Do(t.Context(), put(key, "v"))
		took := time.Since(began)
		if s.cfg.Owner(key) == 0 {
			if err != nil {
				t.Errorf("a put to the node that is up: %v", err)
			}
		} else if !errors.Is(err, client.ErrDown) || results[0].Status != wire.NotRun || took > time.Second/2 {
			t.Errorf("a put to the node that is down: %v, %v after %v, want NotRun and ErrDown at once", results[0].Status, err, took)
		}
	}
}

// Clients write under full load while the server is stopped: what was
// acknowledged was applied, and nobody is left in doubt.
func testDrain(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	const clients = 4
	var acked [clients]int
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done sync.WaitGroup
	var once sync.Once
	loaded := make(chan struct{})
	for i := range clients {
		done.Go(func() {
			cl, err := client.Dial(ctx, s.cfg)
			if err != nil {
				return // one that was never served
			}
			defer cl.Close()
			for n := 0; ; n++ {
				results, err := cl.Do(ctx, put(fmt.Sprint("client", i), fmt.Sprint(n)))
				switch {
				case errors.Is(err, client.ErrUnknown):
					t.Errorf("client %d: %v: a drain must leave nobody in doubt", i, err)
					return
				case err != nil:
					if results[0].Status != wire.NotRun {
						t.Errorf("client %d: %v, status %v, want not run", i, err, results[0].Status)
					}
					return
				}
				if acked[i]++; acked[i] == 200 {
					once.Do(func() { close(loaded) })
				}
			}
		})
	}
	<-loaded
	s.stop()
	var total int
	cancel() // clients that look for the server
	done.Wait()
	for _, n := range acked {
		total += n
	}
	if got := s.nodes[0].Stats.Requests.Load(); got != int64(total) {
		t.Errorf("the server applied %d requests, its clients had %d answers", got, total)
	}
}

func testStopIdle(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	c := s.dial(0)
	defer c.Close()
	var r wire.Response
	c.WriteRequest(&wire.Request{Ops: []wire.Op{put("k", "v")}})
	if c.Flush(); !c.ReadResponse(&r) || r.Code != wire.OK {
		t.Fatalf("answer %v (%v), want ok", r.Code, c.Err())
	}
	s.cancel()
	if !c.ReadResponse(&r) || r.Code != wire.Goodbye {
		t.Errorf("an idle client is told %v (%v), want goodbye", r.Code, c.Err())
	}
	if c.ReadResponse(&r) || c.Err() != io.EOF {
		t.Errorf("after the goodbye: %v, want EOF", c.Err())
	}
	c.Close()
	s.stop()
}

// A listener that fails ends serve with its error, and the clients with it.
func testListenerFails(t *testing.T, serve node.Serve) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Default()
	cfg.Nodes[0].Addr = ln.Addr().String()
	n := node.New(cfg, 0, slog.New(slog.NewTextHandler(t.Output(), nil)))
	broken := errors.New("broken")
	failing := &failingListener{Listener: ln, fail: make(chan struct{}), err: broken}
	served := make(chan error)
	go func() { served <- serve(t.Context(), failing, n) }()
	cl, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	do(t, cl, put("k", "v"))
	cl.Close()
	close(failing.fail)
	ln.Close()
	if err := <-served; !errors.Is(err, broken) {
		t.Errorf("serve returned %v, want the listener's error", err)
	}
	noneLeft(t, serve)
}

// A failingListener fails, with err, once fail is closed.
type failingListener struct {
	net.Listener
	fail chan struct{}
	err  error
}

func (l *failingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	select {
	case <-l.fail:
		return nil, l.err
	default:
		return nc, err
	}
}
