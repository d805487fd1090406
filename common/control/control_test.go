package control

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// A port is a listener in memory, so that synctest owns its time.
type port struct {
	net.Listener
	accepts chan net.Conn // nil: there are too many open files
	closed  chan struct{}
}

func newPort() *port { return &port{accepts: make(chan net.Conn), closed: make(chan struct{})} }

func (p *port) Accept() (net.Conn, error) {
	select {
	case nc := <-p.accepts:
		if nc != nil {
			return nc, nil
		}
	case <-p.closed:
	}
	return nil, syscall.EMFILE
}

func (p *port) Close() error { close(p.closed); return nil }

func (p *port) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.accepts <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

const counted = `"counted"` // JSON

// count answers every question but kind 77.
func count(q wire.Control) (wire.Control, bool) {
	return wire.Control{Kind: q.Kind, Payload: []byte(counted)}, q.Kind != 77
}

// start serves ln until the end of the test, or stop.
func start(t *testing.T, ln net.Listener, h wire.Hello) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var server sync.WaitGroup
	server.Go(func() { Serve(ctx, ln, h, MaxStrangers, count) })
	stop = func() { cancel(); server.Wait() }
	t.Cleanup(stop)
	return stop
}

func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "a secret of 24 characters"
		p := newPort()
		stop := start(t, p, Hello("clients", 1, secret))
		ask := func(secret string, kind wire.ControlKind) error {
			_, err := Ask(t.Context(), p.dial, "", Hello("clients", 1, secret), wire.Control{Kind: kind})
			return err
		}
		if err := ask(secret, wire.Stats); err != nil {
			t.Errorf("asked for statistics: %v", err)
		}
		if err := ask("another one, and as long", wire.Stats); !errors.Is(err, wire.ErrMismatch) {
			t.Errorf("asked with another secret: %v, want %v", err, wire.ErrMismatch)
		}
		if err := ask(secret, 77); err == nil || errors.As(err, new(DialError)) {
			t.Errorf("a question without an answer: %v, want that the connection ended", err)
		}
		stop()
		if err := ask(secret, wire.Stats); !errors.As(err, new(DialError)) {
			t.Errorf("asked after the end: %v, want a DialError", err)
		}
	})
}

// A question is asked again when a network has lost the dial or the answer, but three times at
// most, each for a bounded time, and not of a process that has ended.
func TestAskedAgain(t *testing.T) {
	for dials, want := range map[string]struct {
		ok   bool
		took time.Duration
	}{
		"answered":          {true, 0},
		"lost cut answered": {true, dialTime},
		"lost cut lost":     {false, 2 * dialTime},
		"silent mute mute":  {false, 5 * time.Second}, // when its context ends
		"refused":           {false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, hello, meets, begin := newPort(), Hello("nodes", 0, ""), strings.Fields(dials), time.Now()
			start(t, p, hello)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			answer, err := askAgain(ctx, func(ctx context.Context, network, addr string) (net.Conn, error) {
				this := meets[0]
				meets = meets[1:]
				switch this {
				case "refused":
					return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
				case "lost":
					<-ctx.Done()
					return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
				case "silent":
					near, _ := net.Pipe()
					return near, nil
				case "mute": // greets, and does not answer
					near, far := net.Pipe()
					go func() { // ends with the question
						c, _ := wire.Greet(far, hello, limits)
						c.Ready()
					}()
					return near, nil
				}
				nc, err := p.dial(ctx, network, addr)
				if this == "cut" {
					nc.Close()
				}
				return nc, err
			}, "", hello, wire.Control{Kind: wire.Stats})
			ok, took := err == nil && string(answer.Payload) == counted, time.Since(begin)
			if ok != want.ok || took != want.took || len(meets) > 0 {
				t.Errorf("dials are %s: %q, %v, after %v, and %q are left", dials, answer.Payload, err, took, meets)
			}
		})
	}
}

// Strangers hold a bounded number of connections for a bounded time, and keep no one else from an
// answer: one that comes when there are too many waits until the oldest has had its time. A
// connection that has proved the secret gives way to none of them.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hello := newPort(), Hello("nodes", 0, "a secret of 24 characters")
		stop := start(t, p, hello)
		connect := func(p *port) net.Conn {
			nc, _ := p.dial(t.Context(), "", "")
			return nc
		}
		// holds does something every 900 ms until it fails, and returns when that was.
		holds := func(do func() error) time.Duration {
			begin := time.Now()
			for do() == nil && time.Since(begin) < 2*serveTime {
				<-time.After(900 * time.Millisecond) // the clock is synctest's
			}
			return time.Since(begin)
		}

		question := wire.Control{Kind: wire.Stats}
		member, err := wire.Open(t.Context(), connect(p), hello, limits)
		if err != nil {
			t.Fatal(err)
		}
		var open []net.Conn
		for range 2 * MaxStrangers {
			open = append(open, connect(p))
		}
		begin := time.Now()
		_, err = Ask(t.Context(), p.dial, "", hello, question)
		if took := time.Since(begin); err != nil || took > strangerTime {
			t.Errorf("asked beside many silent connections: %v, after %v; want an answer at once, or almost", err, took)
		}
		alive := 0
		for _, nc := range open {
			nc.SetReadDeadline(time.Now().Add(time.Nanosecond))
			n, _ := nc.Read(make([]byte, 1)) // of the greeting, which a net.Pipe keeps until it is read
			alive += n
		}
		if alive > MaxStrangers {
			t.Errorf("%d connections are open, want at most %d", alive, MaxStrangers)
		}
		served := holds(func() error {
			member.WriteControl(&question)
			if member.Flush() && member.Ready() {
				member.ReadControl(new(wire.Control))
			}
			return member.Err()
		})
		if served < 5*time.Second || served >= 6*time.Second {
			t.Errorf("a connection that goes on asking is served for %v, want 5 s, and until it asks again", served)
		}

		free := newPort() // without a secret
		start(t, free, Hello("nodes", 0, ""))
		for name, junk := range map[string][]byte{"half a frame": {0, 0, 0, 100, 99, 1}, "no proof": make([]byte, 60_000)} {
			for _, to := range []*port{p, free} {
				nc := connect(to)
				go io.Copy(io.Discard, nc) // ends with the connection
				nc.Write(junk)
				held := holds(func() error { _, err := nc.Write([]byte{0}); return err })
				if held > 2*answerTime {
					t.Errorf("%s and then a byte now and then held a connection for %v, want at most %v", name, held, 2*answerTime)
				}
			}
		}

		last := connect(p)
		begin = time.Now()
		stop()
		if _, err := io.Copy(io.Discard, last); err != nil || time.Since(begin) > 0 {
			t.Errorf("at the end a silent connection: %v after %v, want it closed at once", err, time.Since(begin))
		}
	})
}

func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPort()
		start(t, p, Hello("nodes", 0, ""))
		for failures, want := range map[int]time.Duration{1: 5, 2: 5 + 10, 20: 5 + 10 + 20 + 40 + 80 + 160 + 320 + 640 + 12_000} {
			begin := time.Now()
			for range failures {
				p.accepts <- nil
			}
			nc, _ := p.dial(t.Context(), "", "")
			nc.Close()
			if got := time.Since(begin); got != want*time.Millisecond {
				t.Errorf("%d failures to accept delay a connection by %v, want %v", failures, got, want*time.Millisecond)
			}
		}
	})
}

// An answer that is not JSON of the type, like a node that there is not, is named in the error.
func TestAskNode(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	start(t, ln, Hello("nodes", 0, ""))
	addr := ln.Addr().String()
	cfg := cluster.Config{Nodes: []cluster.Node{{Control: addr}}} // no service port is needed
	if got, err := AskNode[string](t.Context(), cfg, 0, wire.Stats); got != "counted" || err != nil {
		t.Errorf("asked for a string: %q, %v", got, err)
	}
	for node, says := range map[int]string{0: "node 0, " + addr + ", for its lanes", -1: "node -1", 1: "node 1"} {
		if _, err := AskNode[int](t.Context(), cfg, node, wire.Lanes); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("asked node %d for a number: %v, want an error that says %s", node, err, says)
		}
	}
}

// Honest connections do not end each other, however many come at once: each has its time.
func TestHonestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, each, all = 4, strangerTime / 2, 100
		s, began := Strangers{Most: most}, time.Now()
		var proofs sync.WaitGroup
		for i := range all {
			nc, _ := net.Pipe()
			s.Add(t.Context(), nc)
			proofs.Go(func() {
				<-time.After(each)
				s.Remove(nc)
				if nc.SetDeadline(time.Time{}) != nil {
					t.Errorf("number %d was ended", i)
				}
			})
		}
		proofs.Wait()
		if took := time.Since(began); took != all/most*each || len(s.conns) != 0 {
			t.Errorf("%d of %d at a time took %v, and %d are left, want %v, and none", all, most, took, len(s.conns), all/most*each)
		}
	})
}
