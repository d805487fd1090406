package client

// Servers that lie, babble or break off. A Client reports a clear error and the right
// outcome at a bounded cost, and goes on with a better server.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// A tape is a connection that plays back what is in it, and records what is written.
type tape struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *tape) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *tape) Close() error                     { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// greeting and frame are the bytes of a server.
func greeting(t testing.TB, h wire.Hello) []byte {
	var c tape
	if _, err := wire.Greet(&c, h, wire.Limits{}); err != nil {
		t.Fatal(err)
	}
	return c.out.Bytes()
}

func frame(t testing.TB, r wire.Response) []byte {
	b, err := wire.AppendResponse(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// claim is an answer that announces more results than there are.
func claim(t testing.TB) []byte {
	good := frame(t, wire.Response{Code: wire.OK, Results: []wire.Result{{Status: wire.Missing}}})
	head, rest, ok := bytes.Cut(good[5:], []byte{1, 3, 1, 2, 0}) // the list, of 3 bytes: 1 element, Missing, without a value
	if !ok {
		t.Fatalf("% x is not an answer as this test knows it", good)
	}
	body := slices.Concat(head, []byte{1, 7, 0xff, 0xff, 0xff, 0xff, 7, 2, 0}, rest)
	return slices.Concat([]byte{0, 0, 0, byte(1 + len(body)), byte(len(body))}, body)
}

// babble writes the same bytes again and again, until the other end hangs up.
func babble(w io.Writer, b []byte) {
	b = bytes.Repeat(b, 1+16<<10/len(b))
	for {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// A bad greeting: nothing was sent, so nothing was applied. A mismatch is final for the
// call, and after anything else it tries again.
func TestHostileGreetings(t *testing.T) {
	for _, test := range []struct {
		name string
		bad  func(l *link)
		says string
		fits error
	}{
		{"garbage", func(l *link) { l.Conn.Write(bytes.Repeat([]byte{0xff, 0x1b}, 100)) }, `not a Lockstep server: it says "\xff\x1b`, wire.ErrMismatch},
		{"nothing", func(l *link) {}, "reading the greeting", nil},
		{"half", func(l *link) { l.Conn.Write(greeting(t, l.hello)[:40]) }, "unexpected EOF", io.ErrUnexpectedEOF},
		{"endless", func(l *link) { babble(l.Conn, []byte("blah ")) }, "not a Lockstep server", wire.ErrMismatch},
		{"a cluster that came back with other nodes", greetAs(func(h *wire.Hello) { h.Fingerprint++ }), "other nodes", wire.ErrMismatch},
		{"no place", func(l *link) { wire.Refuse(l.Conn, "all places are taken") }, "by the server: all places are taken", wire.ErrRefused},
		{"a refusal for the terminal", func(l *link) { wire.Refuse(l.Conn, "\x9b31m\x1b[2Jno") }, `"\x9b31m\x1b[2Jno"`, wire.ErrRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			var good atomic.Bool
			s, cl := alone(t, func(l *link) {
				if good.Load() {
					honest(l)
					return
				}
				test.bad(l)
			})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { // ends with a third try, or the call
				until(t, "a third try", func() bool { _, accepted := s.count(); return accepted >= 3 || ctx.Err() != nil })
				cancel()
			}()
			results, err := cl.Do(ctx, insert("k"))
			cancel()
			if final := test.fits == wire.ErrMismatch; statuses(results) != "not run" || errors.Is(err, context.Canceled) == final || errors.Is(err, ErrUnknown) {
				t.Errorf("%s, %v, want not run, and final %v", statuses(results), err, final)
			}
			text := fmt.Sprint(err)
			if !strings.Contains(text, test.says) || test.fits != nil && !errors.Is(err, test.fits) || len(text) > 300 || strings.ContainsAny(text, "\x1b\x9b") {
				t.Errorf("the error is %q, want %q in it", text, test.says)
			}
			good.Store(true)
			expect(t, "swapped")(cl.Do(t.Context(), insert("k")))
			want := Counts{Dials: 1}
			if test.fits == wire.ErrRefused {
				want.Refused = max(cl.Counts().Refused, 2)
			}
			checkCounts(t, cl, want)
		})
	}
}

// A read whose context ends says so once, and why it was tried again, if it was. Its outcome
// is never unknown.
func TestContextEndsDuringARead(t *testing.T) {
	for tries := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		_, cl := alone(t, func(l *link) {
			if l.greet().next(); l.nth > tries {
				cancel()
				l.next() // until the client hangs up
				return
			}
			l.say(wire.OK, wire.Result{Status: wire.Unknown})
		})
		_, ok, err := cl.Get(ctx, "k")
		if ok || !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) || strings.Count(err.Error(), "canceled") != 1 ||
			strings.Contains(err.Error(), "unknown answered to a get") != (tries > 0) {
			t.Errorf("Get, cut off at try %d: %v, %v, want canceled, once, and what the server did before", tries, ok, err)
		}
		checkCounts(t, cl, Counts{Dials: int64(tries) + 1, Retries: int64(tries)})
	}
}

// A call that breaks a rule is not sent, not even a part of it, and does not wait for a
// connection: these servers never greet. The limits do not depend on the number of nodes,
// and the error counts as the caller does.
func TestInvalidOperations(t *testing.T) {
	for nodes := 1; nodes <= 2; nodes++ {
		cfg := config(t, nodes)
		var servers []*server
		var good []wire.Op // for each node as many
		for i := range nodes {
			servers = append(servers, start(t, cfg, i, silent))
			good = append(good, slices.Repeat([]wire.Op{put(keyOf(cfg.Config, i))}, 4/nodes)...)
		}
		cl := client(t, cfg)
		big := func(op wire.Op) wire.Op { op.Value = make([]byte, wire.MaxValue); return op }
		for want, ops := range map[string][]wire.Op{
			"operation 5 of 5: a key of 0 bytes":       append(slices.Clone(good), get("")),
			"operation 5 of 6: a value of 16385 bytes": append(slices.Clone(good), wire.Op{Kind: wire.Put, Key: "k", Value: make([]byte, wire.MaxValue+1)}, get("k")),
			"operation 5 of 5: operation kind 9":       append(slices.Clone(good), wire.Op{Kind: 9, Key: "k"}),
			"1025 operations":                          append(slices.Repeat(good, wire.MaxOps/4), get("k")),
			"larger than a frame":                      {big(good[0]), big(good[1]), big(good[2]), big(good[3])},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			results, err := cl.Do(ctx, ops...)
			cancel()
			if err == nil || !strings.Contains(err.Error(), want) || len(results) != len(ops) || slices.ContainsFunc(results, func(r wire.Result) bool { return r.Status != wire.NotRun }) {
				t.Fatalf("%d nodes: %s, %v, want not run: %s", nodes, statuses(results), err, want)
			}
		}
		for i, s := range servers {
			if _, accepted := s.count(); accepted > 0 {
				t.Errorf("%d nodes: %d connections to node %d for requests that cannot be sent", nodes, accepted, i)
			}
		}
	}
}

// FuzzServer connects a Client to a server that sends any bytes after its greeting. A
// write gets a status that a server may give, or an error.
func FuzzServer(f *testing.F) {
	cfg := cluster.Default()
	hi := greeting(f, wire.Hello{Purpose: wire.Service, Group: "nodes", Fingerprint: cfg.Fingerprint()})
	for _, r := range []wire.Response{
		{Code: wire.OK, Results: []wire.Result{{Status: wire.Swapped}}},
		{Code: wire.OK, Results: []wire.Result{{Status: wire.Found, Value: []byte("v")}}},
		{Code: wire.OK}, {Code: wire.Goodbye}, {Code: wire.Busy}, {Code: wire.Failed}, {Code: 99},
	} {
		f.Add(append(frame(f, r), frame(f, r)...))
	}
	f.Add(claim(f))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, answers []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cl, dials := New(cfg), 0
		defer cl.Close()
		cl.DialContext = func(context.Context, string, string) (net.Conn, error) {
			if dials++; dials > 1 { // it is tried again: nothing more to see
				cancel()
				return nil, context.Canceled
			}
			return &tape{in: io.MultiReader(bytes.NewReader(hi), bytes.NewReader(answers))}, nil
		}
		results, err := cl.Do(ctx, insert("k"))
		if len(results) != 1 {
			t.Fatalf("%d results", len(results))
		}
		switch s := results[0].Status; {
		case err == nil && wire.Found <= s && s <= wire.TooLarge:
		case err != nil && s == wire.Unknown && errors.Is(err, ErrUnknown):
		case err != nil && s == wire.NotRun && !errors.Is(err, ErrUnknown):
		default:
			t.Errorf("%v, %v", s, err)
		}
	})
}
