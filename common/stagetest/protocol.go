package stagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// client returns a new client of the stage. The test closes it early where another client
// may be waiting.
func (s *stage) client() *client.Client {
	cl := client.New(s.cfg)
	s.t.Cleanup(func() { cl.Close() })
	return cl
}

// checkHarmless checks that the stage serves a new client after what another one did to it, stops
// it, and checks that the node has counted that kind of error once.
func (s *stage) checkHarmless(kind string) {
	s.t.Helper()
	s.putBeside("a "+kind+" client", "does it keep its place?")
	s.stop()
	if got := s.node.Stats.Snapshot().Errors[kind]; got != 1 {
		s.t.Errorf("%d %s connections counted, want 1", got, kind)
	}
}

// connect returns a connection without a greeting.
func (s *stage) connect() *net.TCPConn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn)
}

// dial returns a connection to the stage for a test that speaks the protocol itself.
func (s *stage) dial() *wire.Conn {
	s.t.Helper()
	c, err := wire.Open(s.t.Context(), s.connect(), s.cfg.Hello(0), wire.Limits{})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// ask sends a request and waits for its answer.
func ask(c *wire.Conn, ops ...wire.Op) {
	c.WriteRequest(&wire.Request{Ops: ops})
	c.Flush()
	c.ReadResponse(new(wire.Response))
}

// checkGoodbye checks that the server says Goodbye on c and then closes it.
func checkGoodbye(t *testing.T, c *wire.Conn, when string) {
	t.Helper()
	var r wire.Response
	if !c.ReadResponse(&r) || r.Code != wire.Goodbye || c.ReadResponse(&r) || c.Err() != io.EOF {
		t.Errorf("%s: %v (%v), want goodbye and the end of the connection", when, r.Code, c.Err())
	}
}

// crowd runs f for n clients at once and waits for all of them.
func (s *stage) crowd(n int, f func(i int, cl *client.Client)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			cl := s.client()
			defer cl.Close()
			f(i, cl)
		})
	}
	wg.Wait()
}

// frame returns the frame of a request.
func frame(t *testing.T, ops ...wire.Op) []byte {
	t.Helper()
	data, err := wire.AppendRequest(nil, &wire.Request{Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func testAnswersInOrder(t *testing.T, serve node.Serve) {
	c := start(t, serve, nil).dial()
	const n = 300
	for i := range n { // all in one write, enough for many turns
		c.WriteRequest(&wire.Request{Ops: []wire.Op{put("k", fmt.Sprint(i)), get("k")}})
	}
	c.Flush()
	for i := range n {
		var r wire.Response
		if !c.ReadResponse(&r) || r.Code != wire.OK || string(r.Results[1].Value) != fmt.Sprint(i) {
			t.Fatalf("answer %d of %d: %v %v (%v), want the value %d", i, n, r.Code, r.Results, c.Err(), i)
		}
	}
}

// A request that is answered Busy was not applied.
func testBusy(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Queue, c.Server.Work.Time = 1, 0, 5*time.Millisecond
	})
	s.crowd(8, func(i int, cl *client.Client) {
		var refused [5]bool
		for n := range refused {
			key := fmt.Sprint(i, "-", n)
			results, err := cl.Once(t.Context(), insert(key, "x"), get(key)) // the get does the work
			refused[n] = errors.Is(err, client.ErrBusy)
			if err != nil && (!refused[n] || results[0].Status != wire.NotRun) {
				t.Errorf("Once: %v, %v, want an answer, or NotRun and ErrBusy", results, err)
			}
		}
		for n, busy := range refused {
			_, found, err := cl.Get(t.Context(), fmt.Sprint(i, "-", n))
			if found == busy || err != nil {
				t.Errorf("insert %d of client %d: refused %v, found %v (%v)", n, i, busy, found, err)
			}
		}
	})
}

func testSlowSender(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Server.FrameTimeout = 30 * time.Millisecond })
	nc := s.connect()
	io.WriteString(nc, "\x00\x00\x00\x10half") // the rest never comes
	if _, err := io.Copy(io.Discard, nc); err != nil {
		t.Errorf("the slow sender reads %v, want its connection closed in order", err)
	}
	nc.Close()
	s.checkHarmless("slow")
}

func testIdle(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Server.IdleTimeout = 30 * time.Millisecond })
	checkGoodbye(t, s.dial(), "an idle client")
}

// The write deadline ends a client that never reads its answers, and frees its place.
func testNeverReads(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.WriteTimeout, c.Server.MaxConnections = 50*time.Millisecond, 1
	})
	s.neverRead()
	s.checkHarmless("lost") // waits until that client's place is free
}

// neverRead asks for more than any buffer holds, on a connection of its own, and reads
// none of the answers. It returns when the server takes no more requests and has answered none
// since the last look, or has ended the connection: a busy machine also takes none for a while.
func (s *stage) neverRead() {
	nc := s.connect()
	nc.SetReadBuffer(4 << 10)
	nc.Write(frame(s.t, put("large", string(make([]byte, wire.MaxValue)))))
	gets := bytes.Repeat(frame(s.t, get("large"), get("large"), get("large")), 1000)
	for rest, before := gets, int64(-1); ; {
		nc.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
		n, err := nc.Write(rest)
		if rest = rest[n:]; len(rest) == 0 {
			rest = gets
		}
		answered := s.node.Stats.Requests.Load()
		if err != nil && answered == before {
			return
		}
		before = answered
	}
}

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
	ask(c, put("k", "v"))
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

// The least and the greatest limits that are allowed work as documented.
func testExtremes(t *testing.T, serve node.Serve) {
	for name, edit := range map[string]func(*cluster.Server){
		"one worker, one bucket, no queue": func(s *cluster.Server) { s.Workers, s.Queue, s.Buckets = 1, 0, 1 },
		"the least timeouts": func(s *cluster.Server) {
			s.IdleTimeout, s.FrameTimeout, s.WriteTimeout, s.DrainTimeout = time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond
		},
		"the greatest values": func(s *cluster.Server) {
			s.Workers, s.Queue, s.Buckets, s.MaxConnections = 4096, 1_000_000, 1_000_000, 1_000_000
			if os.Getenv("LOCKSTEP_SLOW") == "" { // this many take seconds
				s.Workers, s.Buckets = manyWorkers, manyBuckets
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, serve, func(c *cluster.Config) { edit(&c.Server) })
			s.crowd(4, func(i int, cl *client.Client) {
				for answers := 0; answers < 10; {
					if _, err := cl.Put(t.Context(), fmt.Sprint("key", i), []byte("v")); err == nil {
						answers++
					} else if !errors.Is(err, client.ErrUnknown) { // the least write timeout may lose an answer
						t.Errorf("client %d: %v", i, err)
						return
					}
				}
			})
			if got := do(t, s.client(), get("key0"), get("key1"), get("key2"), get("key3")); got != "found:v found:v found:v found:v" {
				t.Errorf("the keys of 4 clients: %s, want v for each", got)
			}
		})
	}
}
