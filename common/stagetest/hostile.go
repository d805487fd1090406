package stagetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// tries returns few, or many if LOCKSTEP_SLOW is set and tests may take longer than seconds.
func tries(few, many int) int {
	if os.Getenv("LOCKSTEP_SLOW") != "" {
		return many
	}
	return few
}

// Bytes that are no requests. Each connection ends, and other clients are still served.
func testGarbage(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	streams := []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"\x00\x00\x00\x00",
		"\x00\x01\x00\x01",
		"\x00\x00\x00\x05\x04\xff\x82\x01\x00",
		"\xff\xff\xff\xff\xff\xff\xff\xff",
		strings.Repeat("\x00\x00\x00\x01\x00", 100),
	}
	for _, garbage := range streams {
		if err := feed(t, s.cfg.Nodes[0].Addr, garbage); err != nil {
			t.Errorf("%.20q: %v, want the connection closed in order", garbage, err)
		}
	}
	s.checkHarmless("malformed", int64(len(streams)))
}

// The write deadline ends a client that never reads its answers, and frees its place.
func testNeverReads(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.WriteTimeout, c.Server.MaxConnections = 50*time.Millisecond, 1
	})
	s.neverRead()
	s.checkHarmless("lost", 1) // waits until that client's place is free
}

// neverRead asks for more than any buffer holds, on a connection of its own, and reads
// nothing of it. It returns when the server takes no more requests and has answered none
// since the last look, or has ended the connection: a busy machine also takes none for a while.
func (s *stage) neverRead() {
	s.t.Helper()
	nc := connect(s.t, s.cfg.Nodes[0].Addr)
	nc.SetReadBuffer(4 << 10)
	nc.Write(frame(s.t, put("large", string(make([]byte, wire.MaxValue)))))
	gets := bytes.Repeat(frame(s.t, get("large"), get("large"), get("large")), 1000)
	for rest, before := gets, int64(-1); ; {
		nc.SetWriteDeadline(time.Now().Add(time.Second / 10))
		n, err := nc.Write(rest)
		if rest = rest[n:]; len(rest) == 0 {
			rest = gets
		}
		answered := s.nodes[0].Stats.Requests.Load()
		if err != nil && answered == before {
			return
		}
		before = answered
	}
}

// The least and the greatest limits that are allowed work as documented.
func testExtremes(t *testing.T, serve node.Serve) {
	for name, edit := range map[string]func(*cluster.Server){
		"one worker, one bucket, no queue":      func(s *cluster.Server) { s.Workers, s.Queue, s.Buckets = 1, 0, 1 },
		"more workers than clients, one bucket": func(s *cluster.Server) { s.Workers, s.Queue, s.Buckets = 1000, 1_000_000, 1 },
		"the least timeouts": func(s *cluster.Server) {
			s.IdleTimeout, s.FrameTimeout, s.WriteTimeout, s.DrainTimeout = time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond
		},
		"the greatest values": func(s *cluster.Server) {
			s.Workers, s.Queue, s.Buckets, s.MaxConnections = 4096, 1_000_000, tries(10_000, 1_000_000), 1_000_000
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

// While an operation takes long, the control port answers. A drain ends at its timeout, even
// if the operation does not.
func testStopInTheMiddle(t *testing.T, serve node.Serve) {
	p := startProcess(t, "-work", "10s", "-drain_timeout", "50ms")
	cl := client.New(p.cfg)
	defer cl.Close()
	asked := make(chan error)
	go func() {
		_, err := cl.Delete(t.Context(), "k")
		asked <- err
	}()
	p.await(func(s metrics.Snapshot) bool { return s.QueueWait.Count == 1 && s.Requests == 0 })
	began := time.Now()
	p.stdin.Close()
	if err := <-asked; err == nil {
		t.Error("a delete that takes 10 s was answered before")
	}
	if code := p.wait(); code != 1 || time.Since(began) > 9*time.Second {
		t.Errorf("exit code %d after %v, want 1 before the end of the delete; its log:\n%s", code, time.Since(began), p.said())
	}
}
