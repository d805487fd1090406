package stagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// slow reports whether the tests that take longer than seconds run, too.
func slow() bool { return os.Getenv("LOCKSTEP_SLOW") != "" }

// Streams of requests in which something was changed at random, each on a connection of
// its own: it ends, and everybody else is served as before.
func testMutatedStreams(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	tries := 150
	if slow() {
		tries = 5000
	}
	rng := rand.New(rand.NewPCG(5, 6))
	good := frame(t, &wire.Request{Ops: []wire.Op{put("hostile", "x"), get("hostile"), cas("hostile", "x", "y")}})
	for try := range tries {
		stream := bytes.Repeat(good, 1+rng.IntN(3))
		for range 1 + rng.IntN(3) {
			i := rng.IntN(len(stream))
			switch rng.IntN(4) {
			case 0:
				stream[i] ^= 1 << rng.IntN(8)
			case 1:
				stream[i] = 0xf8 + byte(rng.IntN(8))
			case 2:
				stream = slices.Insert(stream, i, byte(rng.Uint32()))
			case 3:
				stream = stream[:i+1]
			}
		}
		nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.Write(stream)
		nc.(*net.TCPConn).CloseWrite()
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, nc); err != nil {
			t.Fatalf("try %d, %x: %v, want the connection closed in order", try, stream, err)
		}
		nc.Close()
		if try%20 == 0 {
			cl := s.client()
			if got := do(t, cl, put("k", "v"), del("k")); got != "created deleted" {
				t.Fatalf("after try %d, %x, another client's put is %s", try, stream, got)
			}
			cl.Close()
		}
	}
	s.stop()
	if got := s.nodes[0].Stats.Snapshot(); got.Panics > 0 || got.Errors["malformed"] < int64(tries/4) {
		t.Errorf("counted %d panics and %v in %d streams, want none, and a good part malformed", got.Panics, got.Errors, tries)
	}
}

// A client that never reads its answers is ended when the write deadline is over, and
// its place is free again.
func testNeverReads(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.WriteTimeout, c.Server.MaxConnections = 50*time.Millisecond, 1
	})
	defer s.neverRead().Close()
	cl := s.client() // waits until the other is gone
	if got := do(t, cl, put("k", "v")); got != "created" {
		t.Errorf("after a client that did not read: %s, want created", got)
	}
	cl.Close()
	s.stop()
	if got := s.nodes[0].Stats.Snapshot().Errors["lost"]; got != 1 {
		t.Errorf("%d lost connections counted, want 1", got)
	}
}

// neverRead is a client that asks for more than any buffer holds, and reads nothing of
// it. It returns when the server takes no more of its requests, or has dropped it.
func (s *stage) neverRead() net.Conn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	nc.Write(frame(s.t, &wire.Request{Ops: []wire.Op{put("large", string(make([]byte, wire.MaxValue)))}}))
	ask := bytes.Repeat(frame(s.t, &wire.Request{Ops: []wire.Op{get("large"), get("large"), get("large")}}), 1000)
	for err == nil {
		nc.SetWriteDeadline(time.Now().Add(time.Second / 5))
		_, err = nc.Write(ask)
	}
	return nc
}

// Attackers holds a stage with a pool to its promise that a client who is slow, idle or
// does not read holds no worker: there are more of each than workers, and somebody
// else is served as if they were not there.
func Attackers(t *testing.T, serve node.Serve) {
	const workers = 2
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Queue, c.Server.WriteTimeout = workers, workers, time.Minute
	})
	var attackers []net.Conn
	for i := range 3 * (workers + 1) {
		if i%3 == 0 {
			attackers = append(attackers, s.neverRead())
			continue
		}
		nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 1 {
			nc.Write(frame(t, &wire.Request{Ops: []wire.Op{get("k")}})[:5]) // and no more
		}
		attackers = append(attackers, nc)
	}
	cl := s.client()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := range 100 {
		if created, err := cl.Put(ctx, fmt.Sprint("key", i), nil); !created || err != nil {
			t.Errorf("put %d beside %d attackers: %v, %v", i, len(attackers), created, err)
			break
		}
	}
	cl.Close()
	for _, nc := range attackers {
		nc.Close()
	}
	s.stop()
}

// What the limits allow, however absurd, works as documented.
func testExtremes(t *testing.T, serve node.Serve) {
	for _, test := range []struct {
		name string
		slow bool
		edit func(*cluster.Server)
	}{
		{"one of each, and no queue", false, func(s *cluster.Server) { s.Workers, s.Queue, s.Buckets = 1, 0, 1 }},
		{"more workers than clients, one bucket", false, func(s *cluster.Server) { s.Workers, s.Queue, s.Buckets = 1000, 1_000_000, 1 }},
		{"the least times", false, func(s *cluster.Server) {
			s.IdleTimeout, s.FrameTimeout, s.WriteTimeout, s.DrainTimeout = time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond
		}},
		{"the most of all", true, func(s *cluster.Server) {
			s.Workers, s.Queue, s.Buckets, s.MaxConnections = 4096, 1_000_000, 1_000_000, 1_000_000
		}},
	} {
		if test.slow && !slow() {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			s := start(t, serve, func(c *cluster.Config) { test.edit(&c.Server) })
			const clients, each = 4, 10
			crowd(clients, func(i int) {
				cl := s.client()
				defer cl.Close()
				for n, lost := 0, 0; n < each; n++ {
					_, err := cl.Put(t.Context(), fmt.Sprint("key", i), []byte("v"))
					if err == nil {
						continue
					}
					n--
					if lost++; !errors.Is(err, client.ErrUnknown) || lost > 100 { // the least write timeout may lose an answer
						t.Errorf("client %d: %v", i, err)
						return
					}
				}
			})
			cl := s.client()
			for i := range clients {
				if value, found, err := cl.Get(t.Context(), fmt.Sprint("key", i)); !found || string(value) != "v" || err != nil {
					t.Errorf("key %d is %q, %v, %v", i, value, found, err)
				}
			}
			cl.Close()
			s.stop()
		})
	}
}

// An operation that takes longer than a drain may does not hold it up: it is cut short.
func testStopInTheMiddle(t *testing.T, serve node.Serve) {
	p := startProcess(t, "-work", "10s", "-drain_timeout", "50ms")
	cl, err := client.Dial(t.Context(), p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	asked := make(chan error)
	go func() {
		_, err := cl.Put(t.Context(), "k", nil)
		asked <- err
	}()
	p.until(func(open, requests int64) bool { return open == 1 })
	began := time.Now()
	p.stdin.Close()
	if err := <-asked; err == nil {
		t.Error("a put of 10 s was answered before it was over")
	}
	if code := p.wait(); code != 1 || time.Since(began) > 9*time.Second {
		t.Errorf("exit code %d after %v, want 1, and not to wait for the put; it said:\n%s", code, time.Since(began), p.said())
	}
}
