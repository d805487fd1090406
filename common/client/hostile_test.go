package client

// Servers that lie, babble or break off: what a Client makes of each is a clear
// error and the right outcome, at a bounded price, and it goes on with a better one.

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
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/table"
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
	var nc tape
	c, err := wire.Greet(&nc, wire.Hello{}, wire.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	nc.out.Reset()
	c.WriteResponse(&r)
	c.Flush()
	return nc.out.Bytes()
}

// claim is an answer that announces more results than there are.
func claim(t testing.TB) []byte {
	good := frame(t, wire.Response{Code: wire.OK, Results: []wire.Result{{Status: wire.Missing}}})
	head, rest, ok := bytes.Cut(good[5:], []byte{1, 1, 1, 2}) // the list, of 1, its first field, Missing
	if !ok {
		t.Fatalf("% x is not an answer as this test knows it", good)
	}
	body := slices.Concat(head, []byte{1, 0xfc, 0x7f, 0xff, 0xff, 0xff}, []byte{1, 2}, rest)
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

// What comes in place of a greeting. Nothing was sent, and so nothing was applied.
func TestHostileGreetings(t *testing.T) {
	for _, test := range []struct {
		name string
		bad  func(l *link)
		says string
		fits error
	}{
		{"garbage", func(l *link) { l.Conn.Write(bytes.Repeat([]byte{0xff, 0x1b}, 100)) }, `no lockstep server: it says "\xff\x1b`, wire.ErrMismatch},
		{"another program", func(l *link) {
			io.WriteString(l.Conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html; charset=utf-8\r\n\r\n")
		},
			`no lockstep server: it says "HTTP/1.1 400 Bad"`, wire.ErrMismatch},
		{"nothing", func(l *link) {}, "reading the greeting", nil},
		{"half", func(l *link) { l.Conn.Write(greeting(t, l.hello)[:40]) }, "unexpected EOF", io.ErrUnexpectedEOF},
		{"endless", func(l *link) { babble(l.Conn, []byte("blah ")) }, "no lockstep server", wire.ErrMismatch},
		{"a refusal for the terminal", func(l *link) { wire.Refuse(l.Conn, "\x1b[2Jno") }, `"\x1b[2Jno"`, wire.ErrRefused},
		{"asks for a secret", who(func(h *wire.Hello) { h.Secret = "sixteen bytes or more" }), "asks for a secret", wire.ErrMismatch},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, 1)
			var good atomic.Bool
			s := start(t, cfg, 0, func(l *link) {
				if good.Load() {
					honest(l)
					return
				}
				test.bad(l)
			})
			cl := client(t, cfg)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				until(t, "a third try", func() bool { _, accepted := s.count(); return accepted >= 3 })
				cancel()
			}()
			results, err := cl.Do(ctx, insert("k"))
			if statuses(results) != "not run" || !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
				t.Errorf("%s, %v, want not run, and that the call was cancelled", statuses(results), err)
			}
			text := fmt.Sprint(err)
			if !strings.Contains(text, test.says) || test.fits != nil && !errors.Is(err, test.fits) || len(text) > 300 || strings.Contains(text, "\x1b") {
				t.Errorf("the error is %q, want %q in it", text, test.says)
			}
			good.Store(true)
			if results, err := cl.Do(t.Context(), insert("k")); statuses(results) != "swapped" || err != nil {
				t.Errorf("with a good server: %s, %v", statuses(results), err)
			}
			if got, want := counted(cl), (Counts{Dials: 1}); got != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
		})
	}
}

// A client that has a secret talks to nobody that does not prove the same: nothing
// but nonce and proof is sent, and no call goes on.
func TestServerThatCannotProveItself(t *testing.T) {
	secret := func(h wire.Hello) wire.Hello { h.Secret = "another one, and as long"; return h }
	for _, test := range []struct {
		name string
		bad  func(t *testing.T, l *link)
		sent int // bytes, at most
		says string
	}{
		{"asks for no secret", func(t *testing.T, l *link) { l.Conn.Write(greeting(t, l.hello)) }, 0, "asks for no secret"},
		{"another secret", func(t *testing.T, l *link) { l.Conn.Write(greeting(t, secret(l.hello))) }, 64, "not the same on both sides"},
		{"the client's own proof", func(t *testing.T, l *link) { l.Conn.Write(greeting(t, secret(l.hello))) }, 64, "not the same on both sides"},
		{"answers in place of a proof", func(t *testing.T, l *link) {
			l.Conn.Write(greeting(t, secret(l.hello)))
			l.Conn.Write(bytes.Repeat(frame(t, wire.Response{Code: wire.OK, Results: []wire.Result{{Status: wire.Created}}}), 10))
		}, 64, "not the same on both sides"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, 1)
			cfg.Secret = "sixteen bytes or more"
			sent := make(chan int, 1)
			start(t, cfg, 0, func(l *link) {
				test.bad(t, l)
				proof := make([]byte, 64)
				n, _ := io.ReadFull(l.Conn, proof)
				switch {
				case n == len(proof) && strings.Contains(test.name, "own proof"):
					l.Conn.Write(proof[32:])
				case n == len(proof):
					l.Conn.Write(make([]byte, 32))
				}
				more, _ := io.Copy(io.Discard, l.Conn)
				sent <- n + int(more)
			})
			_, err := Dial(t.Context(), cfg.Config)
			if !errors.Is(err, wire.ErrMismatch) || !strings.Contains(fmt.Sprint(err), test.says) || strings.Contains(fmt.Sprint(err), cfg.Secret) {
				t.Errorf("Dial: %v, want a mismatch: %s", err, test.says)
			}
			if n := <-sent; n > test.sent {
				t.Errorf("the client sent %d bytes, want at most %d", n, test.sent)
			}
		})
	}
}

// What comes in place of an answer: an unknown outcome for a write, another try for
// a read, and never an answer.
func TestHostileAnswers(t *testing.T) {
	missing := wire.Response{Code: wire.OK, Results: []wire.Result{{Status: wire.Missing}}}
	say := func(r wire.Response) func(*testing.T, *link) {
		return func(t *testing.T, l *link) { l.Conn.Write(frame(t, r)) }
	}
	status := func(all ...wire.Status) func(*testing.T, *link) {
		r := wire.Response{Code: wire.OK}
		for _, s := range all {
			r.Results = append(r.Results, wire.Result{Status: s})
		}
		return say(r)
	}
	for _, test := range []struct {
		name string
		op   wire.Op
		bad  func(*testing.T, *link)
		says string
	}{
		{"a get is unknown", get("k"), status(wire.Unknown), "unknown answered to a get"},
		{"a cas is not run", insert("k"), status(wire.NotRun), "not run answered to a cas"},
		{"a status of 0", put("k"), status(0), "invalid answered to a put"},
		{"a status of 200", put("k"), status(200), "Status(200) answered to a put"},
		{"two results for one", put("k"), status(wire.Created, wire.Created), "malformed: 2 results for 1 operations"},
		{"none", put("k"), status(), "malformed: 0 results for 1 operations"},
		{"a thousand", put("k"), status(slices.Repeat([]wire.Status{wire.Created}, wire.MaxOps)...), "1024 results for 1"},
		{"two billion", put("k"), func(t *testing.T, l *link) { l.Conn.Write(claim(t)) }, "malformed: more than 1024"},
		{"zeros without end", put("k"), func(t *testing.T, l *link) { babble(l.Conn, []byte{0}) }, "malformed"},
		{"a frame's length without end", put("k"), func(t *testing.T, l *link) { babble(l.Conn, []byte{0, 1, 0, 0}) }, "malformed"},
		{"half an answer", put("k"), func(t *testing.T, l *link) { l.Conn.Write(frame(t, missing)[:9]) }, "unexpected EOF"},
		{"half an answer, and a goodbye", put("k"), func(t *testing.T, l *link) {
			l.Conn.Write(append(frame(t, missing)[:9], frame(t, wire.Response{Code: wire.Goodbye})...))
		}, "malformed"},
		{"a question", put("k"), func(t *testing.T, l *link) {
			request, _ := wire.AppendRequest(nil, &wire.Request{Ops: []wire.Op{get("k")}})
			l.Conn.Write(request)
		}, "not a message of the expected kind"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config(t, 1)
			s := start(t, cfg, 0, func(l *link) {
				if l.greet(); l.nth == 1 {
					l.next()
					test.bad(t, l)
					return
				}
				l.serve()
			})
			cl := dial(t, cfg)
			results, err := cl.Do(t.Context(), test.op)
			want := Counts{Dials: 1, Unknown: 1}
			if test.op.Kind.Writes() {
				if statuses(results) != "unknown" || !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), test.says) || len(err.Error()) > 300 {
					t.Errorf("%s, %v, want unknown, and %q", statuses(results), err, test.says)
				}
			} else if want = (Counts{Dials: 2, Retries: 1}); statuses(results) != "missing" || err != nil {
				t.Errorf("%s, %v, want missing, from the second connection", statuses(results), err)
			}
			if got := counted(cl); got != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
			if _, err := cl.Do(t.Context(), test.op); err != nil {
				t.Errorf("the next call: %v", err)
			}
			if _, accepted := s.count(); accepted != 2 {
				t.Errorf("%d connections, want the first to be dropped, and a second", accepted)
			}
		})
	}
}

// A server that is mistaken about an operation has answered: the caller sees how.
func TestMistakenAnswer(t *testing.T) {
	cfg := config(t, 1)
	start(t, cfg, 0, func(l *link) {
		for l.greet(); l.next() != nil; {
			l.say(wire.OK, wire.Result{Status: wire.Missing})
		}
	})
	if results, err := dial(t, cfg).Do(t.Context(), put("k")); statuses(results) != "missing" || err != nil {
		t.Errorf("%s, %v, want missing, as the server says", statuses(results), err)
	}
}

// A read that only ever meets a broken server says so when its time is over.
func TestReadSaysWhyItWasTriedAgain(t *testing.T) {
	cfg := config(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	start(t, cfg, 0, func(l *link) {
		l.greet().next()
		if l.nth == 3 {
			cancel()
			l.next() // until the client hangs up
			return
		}
		l.say(wire.OK, wire.Result{Status: wire.Unknown})
	})
	_, _, err := dial(t, cfg).Get(ctx, "k")
	if !errors.Is(err, context.Canceled) || !errors.Is(err, wire.ErrMalformed) || !strings.Contains(fmt.Sprint(err), "unknown answered to a get") {
		t.Errorf("Get: %v, want that it was cancelled, and what the server did", err)
	}
}

// Answers without end, and all of them good: one is taken, and the connection is not
// used again.
func TestEndlessAnswers(t *testing.T) {
	cfg := config(t, 1)
	start(t, cfg, 0, func(l *link) {
		if l.greet(); l.nth == 1 {
			l.next()
			babble(l.Conn, frame(t, wire.Response{Code: wire.OK, Results: []wire.Result{{Status: wire.Created}}}))
			return
		}
		l.serve()
	})
	cl := dial(t, cfg)
	for range 2 {
		if created, err := cl.Put(t.Context(), "k", nil); !created || err != nil {
			t.Errorf("Put: %v, %v", created, err)
		}
	}
	if got, want := counted(cl), (Counts{Dials: 2}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// What breaks a rule waits for no connection: here nobody ever greets.
func TestInvalidOperationsDoNotWait(t *testing.T) {
	cfg := config(t, 1)
	s := start(t, cfg, 0, func(l *link) { l.Conn.Read(make([]byte, 1)) })
	cl := client(t, cfg)
	for want, ops := range map[string][]wire.Op{
		"a key of 251 bytes is not in 1..250":         {put(strings.Repeat("k", wire.MaxKey+1))},
		"a key of 0 bytes is not in 1..250":           {put("a"), get("")},
		"a value of 16385 bytes is not in 0..16384":   {{Kind: wire.Put, Key: "k", Value: make([]byte, wire.MaxValue+1)}},
		"there is no operation of kind 9":             {{Kind: 9, Key: "k"}},
		"1025 operations are not in 1..1024":          slices.Repeat([]wire.Op{get("k")}, wire.MaxOps+1),
		"message is larger than a frame (65536 bytes": slices.Repeat([]wire.Op{{Kind: wire.Put, Key: "k", Value: make([]byte, wire.MaxValue)}}, 4),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		results, err := cl.Do(ctx, ops...)
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) || slices.ContainsFunc(results, func(r wire.Result) bool { return r.Status != wire.NotRun }) {
			t.Errorf("%s, %v, want not run: %s", statuses(results), err, want)
		}
	}
	if _, accepted := s.count(); accepted > 0 {
		t.Errorf("%d connections for requests that cannot be sent", accepted)
	}
}

// One refused dial says nothing about the next: a node is down when it has refused
// for a second on end, and somebody was there to see it.
func TestRefusedLongAgo(t *testing.T) {
	for _, test := range []struct {
		name    string
		refused int                                   // the first dial, and those of which this is the rest modulo 2
		first   func(ctx context.Context, cl *Client) // leaves the node refused, once
	}{
		{"and the caller gave up", 0, func(ctx context.Context, cl *Client) {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond) // in the midst of the dial
			defer cancel()
			cl.Get(ctx, "k")
		}},
		{"and then it was there", 1, func(ctx context.Context, cl *Client) { cl.Do(ctx, put("k")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := cluster.Default()
				s := &server{hello: wire.Hello{Purpose: wire.Service, Group: "nodes", Fingerprint: cfg.Fingerprint()},
					table: table.New(cluster.Work{}, new(metrics.Timer))}
				cl := New(cfg)
				dials := 0
				cl.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					<-time.After(10 * time.Millisecond)
					if dials++; dials == 1 || dials%2 == test.refused {
						return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
					}
					near, far := net.Pipe()
					s.conns.Go(func() { // ends at the first request, without an answer
						l := link{Conn: far, server: s}
						l.greet().next()
						far.Close()
					})
					return near, nil
				}
				test.first(t.Context(), cl)
				synctest.Wait()
				for range 3 {
					<-time.After(time.Hour)
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					results, err := cl.Do(ctx, put("k"))
					cancel()
					if errors.Is(err, ErrDown) || statuses(results) != "unknown" {
						t.Errorf("%s, %v: one refused dial, and an hour later another, is not a second of them", statuses(results), err)
					}
				}
				cl.Close()
				s.conns.Wait()
			})
		})
	}
}

// FuzzServer has a Client meet a server that sends any bytes after its greeting.
// A write is answered by a result that a server may give, or by an error.
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
			if dials++; dials > 1 { // it is tried again: that says all
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
