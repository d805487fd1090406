package stagetest

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// frame returns the frame of any request, even of one that package wire refuses to send.
func frame(t *testing.T, ops ...wire.Op) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := gob.NewEncoder(&b)
	err := enc.Encode(&wire.Request{}) // the type descriptions, which are not sent
	b.Reset()
	if err := errors.Join(err, enc.Encode(&wire.Request{Ops: ops})); err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(b.Len())), b.Bytes()...)
}

func testAnswersInOrder(t *testing.T, serve node.Serve) {
	c, _ := start(t, serve, nil).dial(0)
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

// To a request beyond the limits, which a client of this project would not send, the server
// answers Invalid and ends the connection.
func testLimits(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	for _, test := range []struct {
		name string
		ops  []wire.Op
		want wire.Code
	}{
		{"the longest key", []wire.Op{get(strings.Repeat("k", wire.MaxKey))}, wire.OK},
		{"a key that is a byte too long", []wire.Op{get(strings.Repeat("k", wire.MaxKey+1))}, wire.Invalid},
		{"the longest value", []wire.Op{put("k", strings.Repeat("v", wire.MaxValue))}, wire.OK},
		{"a value that is a byte too long", []wire.Op{put("k", strings.Repeat("v", wire.MaxValue+1))}, wire.Invalid},
		{"no key", []wire.Op{get("")}, wire.Invalid},
		{"no kind", []wire.Op{{Key: "k"}}, wire.Invalid},
		{"the most operations", slices.Repeat([]wire.Op{get("missing")}, wire.MaxOps), wire.OK},
		{"one operation too many", slices.Repeat([]wire.Op{get("k")}, wire.MaxOps+1), wire.Invalid},
		{"no operation", nil, wire.Invalid},
	} {
		c, nc := s.dial(0)
		nc.Write(frame(t, test.ops...))
		var r wire.Response
		if !c.ReadResponse(&r) || r.Code != test.want {
			t.Errorf("%s: answer %v (%v), want %v", test.name, r.Code, c.Err(), test.want)
		}
		if test.want == wire.Invalid {
			checkGoodbye(t, c, "after "+test.name)
		}
		c.Close()
	}
}

// A client that disagrees with the server learns it before its first request.
func testGreeting(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	for name, edit := range map[string]func(*wire.Hello){
		"number":  func(h *wire.Hello) { h.Number++ },
		"nodes":   func(h *wire.Hello) { h.Fingerprint++ },
		"purpose": func(h *wire.Hello) { h.Purpose = wire.ControlPort },
		"secret":  func(h *wire.Hello) { h.Secret = "a secret of many bytes" },
	} {
		hello := wire.Hello{Purpose: wire.Service, Group: "nodes", Fingerprint: s.cfg.Fingerprint()}
		edit(&hello)
		if _, err := wire.Open(t.Context(), connect(t, s.cfg.Nodes[0].Addr), hello, wire.Limits{}); !errors.Is(err, wire.ErrMismatch) {
			t.Errorf("another %s: %v, want a mismatch", name, err)
		}
	}
}

func testWrongNode(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Nodes = make([]cluster.Node, 2) })
	var keys [2]string // one key of each node
	for i := 0; keys[0] == "" || keys[1] == ""; i++ {
		key := fmt.Sprint("key", i)
		keys[s.cfg.Owner(key)] = key
	}
	for i := range s.nodes {
		c, _ := s.dial(i)
		for _, ops := range [][]wire.Op{{put(keys[1-i], "x")}, {put(keys[i], "x"), put(keys[1-i], "x")}} {
			if r := ask(c, ops...); r.Code != wire.WrongNode {
				t.Errorf("node %d answers %v (%v) to a key of the other node, want wrong node", i, r.Code, c.Err())
			}
		}
		c.Close()
	}
	cl := s.client()
	if got := do(t, cl, get(keys[0]), put(keys[1], "1"), put(keys[0], "0"), get(keys[1])); got != "missing created created found:1" {
		t.Errorf("a batch for both nodes: %s, want missing created created found:1", got)
	}
}

// A request that is answered Busy was not applied.
func testBusy(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Queue, c.Server.Work.Time = 1, 0, 10*time.Millisecond
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
	nc := connect(t, s.cfg.Nodes[0].Addr)
	io.WriteString(nc, "\x00\x00\x00\x10half") // the rest never comes
	if _, err := io.Copy(io.Discard, nc); err != nil {
		t.Errorf("the slow sender reads %v, want its connection closed in order", err)
	}
	nc.Close()
	s.checkHarmless("slow", 1)
}

func testIdle(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Server.IdleTimeout = 30 * time.Millisecond })
	c, _ := s.dial(0)
	checkGoodbye(t, c, "an idle client")
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

// tries returns few, or many if LOCKSTEP_SLOW is set and tests may take longer than seconds.
func tries(few, many int) int {
	if os.Getenv("LOCKSTEP_SLOW") != "" {
		return many
	}
	return few
}
