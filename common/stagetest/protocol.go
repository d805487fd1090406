package stagetest

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// frame is the frame of a request that package wire would refuse to send.
func frame(t *testing.T, r *wire.Request) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := gob.NewEncoder(&b)
	err := enc.Encode(&wire.Request{}) // the descriptions, which do not travel
	b.Reset()
	if err := errors.Join(err, enc.Encode(r)); err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(b.Len())), b.Bytes()...)
}

func testAnswersInOrder(t *testing.T, serve node.Serve) {
	c := start(t, serve, nil).dial(0)
	defer c.Close()
	const n = 300
	for i := range n { // all in one write: many turns' worth
		if err := c.WriteRequest(&wire.Request{Ops: []wire.Op{put("k", fmt.Sprint(i)), get("k")}}); err != nil {
			t.Fatal(err)
		}
	}
	c.Flush()
	for i := range n {
		var r wire.Response
		if !c.ReadResponse(&r) {
			t.Fatalf("answer %d of %d: %v", i, n, c.Err())
		}
		if r.Code != wire.OK || string(r.Results[1].Value) != fmt.Sprint(i) {
			t.Fatalf("answer %d of %d is %v %v", i, n, r.Code, r.Results)
		}
	}
}

func testLimits(t *testing.T, serve node.Serve) {
	cl := start(t, serve, nil).client()
	defer cl.Close()
	for _, test := range []struct {
		name string
		ops  []wire.Op
	}{
		{"key of 0 bytes", []wire.Op{get("")}},
		{"key of 251 bytes", []wire.Op{get(strings.Repeat("k", wire.MaxKey+1))}},
		{"value of 16 KiB + 1", []wire.Op{put("k", strings.Repeat("v", wire.MaxValue+1))}},
		{"1025 operations", make([]wire.Op, wire.MaxOps+1)},
		{"operation of no kind", []wire.Op{{Key: "k"}}},
		{"more than a frame", []wire.Op{put("a", strings.Repeat("v", wire.MaxValue)), put("b", strings.Repeat("v", wire.MaxValue)),
			put("c", strings.Repeat("v", wire.MaxValue)), put("d", strings.Repeat("v", wire.MaxValue))}},
	} {
		results, err := cl.Do(t.Context(), test.ops...)
		if err == nil || len(results) != len(test.ops) || results[0].Status != wire.NotRun {
			t.Errorf("%s: %d results, %v, want an error and nothing run", test.name, len(results), err)
		}
	}
	if got := do(t, cl, put("k", "v"), get("k")); got != "created found:v" {
		t.Errorf("after refused requests: %s, want created found:v", got)
	}
}

// What a client would not send is refused by the server: answered Invalid, or not at
// all where it is no request, and the connection ends.
func testLimitsAtServer(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	for _, test := range []struct {
		name   string
		key    int // bytes
		value  int
		copies int
		want   wire.Code
	}{
		{"the longest key", wire.MaxKey, 1, 1, wire.OK},
		{"a key of one byte more", wire.MaxKey + 1, 1, 1, wire.Invalid},
		{"the longest value", 1, wire.MaxValue, 1, wire.OK},
		{"a value of one byte more", 1, wire.MaxValue + 1, 1, wire.Invalid},
		{"no key", 0, 1, 1, wire.Invalid},
		{"the most operations", 1, 1, wire.MaxOps, wire.OK},
		{"one operation more", 1, 1, wire.MaxOps + 1, wire.Invalid},
		{"no operation", 1, 1, 0, wire.Invalid},
	} {
		ops := make([]wire.Op, test.copies)
		for i := range ops {
			ops[i] = put(strings.Repeat("k", test.key), strings.Repeat("v", test.value))
		}
		nc, c := s.dialBoth(0)
		nc.Write(frame(t, &wire.Request{Ops: ops}))
		var r wire.Response
		if !c.ReadResponse(&r) || r.Code != test.want {
			t.Errorf("%s: answer %v (%v), want %v", test.name, r.Code, c.Err(), test.want)
		}
		if test.want == wire.Invalid {
			if !c.ReadResponse(&r) || r.Code != wire.Goodbye || c.ReadResponse(&r) || c.Err() != io.EOF {
				t.Errorf("%s: after that %v (%v), want a goodbye and the end", test.name, r.Code, c.Err())
			}
		}
		c.Close()
	}
}

// Two ends that disagree find out before the first request.
func testGreeting(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	for _, test := range []struct {
		name string
		edit func(*wire.Hello)
	}{
		{"number", func(h *wire.Hello) { h.Number++ }},
		{"nodes", func(h *wire.Hello) { h.Fingerprint++ }},
		{"purpose", func(h *wire.Hello) { h.Purpose = wire.ControlPort }},
		{"secret", func(h *wire.Hello) { h.Secret = "a secret of many bytes" }},
	} {
		nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
		if err != nil {
			t.Fatal(err)
		}
		hello := wire.Hello{Purpose: wire.Service, Group: "nodes", Fingerprint: s.cfg.Fingerprint()}
		test.edit(&hello)
		if _, err := wire.Open(t.Context(), nc, hello, wire.Limits{}); !errors.Is(err, wire.ErrMismatch) {
			t.Errorf("another %s: %v, want a mismatch", test.name, err)
		}
	}
}

func testWrongNode(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Nodes = make([]cluster.Node, 2) })
	var keys [2]string // one of each node
	for i := 0; keys[0] == "" || keys[1] == ""; i++ {
		key := fmt.Sprint("key", i)
		keys[s.cfg.Owner(key)] = key
	}
	for i := range s.nodes {
		c := s.dial(i)
		for _, ops := range [][]wire.Op{{put(keys[1-i], "x")}, {put(keys[i], "x"), put(keys[1-i], "x")}} {
			var r wire.Response
			c.WriteRequest(&wire.Request{Ops: ops})
			if c.Flush(); !c.ReadResponse(&r) || r.Code != wire.WrongNode {
				t.Errorf("node %d answers %v (%v) for a key of the other, want wrong node", i, r.Code, c.Err())
			}
		}
		c.Close()
	}
	cl := s.client()
	defer cl.Close()
	if got := do(t, cl, get(keys[0]), put(keys[1], "1"), put(keys[0], "0"), get(keys[1])); got != "missing created created found:1" {
		t.Errorf("a batch over both nodes: %s, want missing created created found:1", got)
	}
}

// A server may say Busy, and then it has not done what it was asked.
func testBusy(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Queue, c.Server.Work.Time = 1, 0, 2*time.Millisecond
	})
	const clients, each = 8, 10
	var refused [clients][each]bool
	crowd(clients, func(i int) {
		cl := s.client()
		defer cl.Close()
		for n := range each {
			results, err := cl.Once(t.Context(), insert(fmt.Sprint(i, "-", n), "x"))
			refused[i][n] = errors.Is(err, client.ErrBusy)
			if err != nil && (!refused[i][n] || results[0].Status != wire.NotRun) {
				t.Errorf("Once: %v %v, want an answer, or NotRun and ErrBusy", results, err)
			}
		}
	})
	cl := s.client()
	defer cl.Close()
	for i := range clients {
		for n := range each {
			_, found, err := cl.Get(t.Context(), fmt.Sprint(i, "-", n))
			if found == refused[i][n] || err != nil {
				t.Errorf("request %d of client %d: refused %v, and then found %v (%v)", n, i, refused[i][n], found, err)
			}
		}
	}
}

func testGarbage(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	for _, garbage := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"\x00\x00\x00\x00",
		"\x00\x01\x00\x01",
		"\x00\x00\x00\x05\x04\xff\x82\x01\x00",
		"\xff\xff\xff\xff\xff\xff\xff\xff",
		strings.Repeat("\x00\x00\x00\x01\x00", 100),
	} {
		nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, garbage)
		nc.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, nc); err != nil {
			t.Errorf("%.20q: %v, want the connection closed in order", garbage, err)
		}
		nc.Close()
		cl := s.client()
		if got := do(t, cl, put("k", "v"), del("k")); got != "created deleted" {
			t.Errorf("after %.20q another client's put is %s", garbage, got)
		}
		cl.Close()
	}
	s.stop()
	if got := s.nodes[0].Stats.Snapshot().Errors["malformed"]; got != 7 {
		t.Errorf("%d malformed connections counted, want 7", got)
	}
}

func testSlowSender(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Server.FrameTimeout = 30 * time.Millisecond })
	nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "\x00\x00\x00\x10half") // and no more
	cl := s.client()                           // which may have to wait until the server gives up
	if got := do(t, cl, put("k", "v")); got != "created" {
		t.Errorf("beside a slow sender: %s, want created", got)
	}
	cl.Close()
	if _, err := io.Copy(io.Discard, nc); err != nil {
		t.Errorf("the slow sender reads %v, want its connection closed in order", err)
	}
	nc.Close()
	s.stop()
	if got := s.nodes[0].Stats.Snapshot().Errors["slow"]; got != 1 {
		t.Errorf("%d slow connections counted, want 1", got)
	}
}

func testIdle(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Server.IdleTimeout = 30 * time.Millisecond })
	c := s.dial(0)
	defer c.Close()
	var r wire.Response
	if !c.ReadResponse(&r) || r.Code != wire.Goodbye || c.ReadResponse(&r) || c.Err() != io.EOF {
		t.Errorf("an idle client is told %v (%v), want goodbye and the end", r.Code, c.Err())
	}
}

func testMaxConnections(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Server.MaxConnections = 1 })
	cl := s.client()
	second, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	do(t, cl, put("k", "v"))
	cl.Close() // a stage that serves one client at a time takes the second only now
	greeting, err := io.ReadAll(io.LimitReader(second, 40))
	if !strings.HasPrefix(string(greeting), "lockstep: all 1 places") && !strings.HasPrefix(string(greeting), "lockstep\x00\x01") {
		t.Errorf("a client too many is told %q (%v), want why it is refused, or a greeting", greeting, err)
	}
	second.Close()
	cl = s.client() // tries again until the place is free
	defer cl.Close()
	if got := do(t, cl, get("k")); got != "found:v" {
		t.Errorf("in the freed place: %s, want found:v", got)
	}
}
