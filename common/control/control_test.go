package control

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/wire"
)

// A port is a listener in memory, so that synctest owns its time.
type port struct {
	conns  chan net.Conn
	errors chan error // returned by Accept
	closed <-chan struct{}
	close  context.CancelFunc
}

func newPort() *port {
	ctx, cancel := context.WithCancel(context.Background())
	return &port{make(chan net.Conn), make(chan error, 100), ctx.Done(), cancel}
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case err := <-p.errors:
		return nil, err
	default:
	}
	select {
	case nc := <-p.conns:
		return nc, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error   { p.close(); return nil }
func (p *port) Addr() net.Addr { return nil }

func (p *port) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// counted answers every question but kind 77.
func counted(q wire.Control) (wire.Control, bool) {
	return wire.Control{Kind: q.Kind, Payload: []byte("counted")}, q.Kind != 77
}

// start serves ln until the end of the test, or stop.
func start(t *testing.T, ln net.Listener, h wire.Hello) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var server sync.WaitGroup
	server.Go(func() { Serve(ctx, ln, h, MaxStrangers, counted) })
	stop = func() { cancel(); server.Wait() }
	t.Cleanup(stop)
	return stop
}

func TestStats(t *testing.T) {
	for _, secret := range []string{"", "a secret of 24 characters"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		stop := start(t, ln, Hello("clients", 1, secret))
		ask := func(number int, secret string, kind wire.ControlKind) (string, error) {
			answer, err := Ask(t.Context(), new(net.Dialer).DialContext, addr, Hello("clients", number, secret), wire.Control{Kind: kind})
			return string(answer.Payload), err
		}
		if got, err := ask(1, secret, wire.Stats); got != "counted" || err != nil {
			t.Errorf("asked for statistics: %q, %v", got, err)
		}
		if _, err := ask(2, secret, wire.Stats); !errors.Is(err, wire.ErrMismatch) {
			t.Errorf("number 2 asked at the address of number 1: %v, want %v", err, wire.ErrMismatch)
		}
		if _, err := ask(1, "another one, and as long", wire.Stats); !errors.Is(err, wire.ErrMismatch) {
			t.Errorf("asked with another secret: %v, want %v", err, wire.ErrMismatch)
		}
		if _, err := ask(1, secret, 77); err == nil || errors.As(err, new(DialError)) {
			t.Errorf("a question without an answer: %v, want that the connection ended", err)
		}
		stop()
		if _, err := ask(1, secret, wire.Stats); !errors.As(err, new(DialError)) {
			t.Errorf("asked after the end: %v, want a DialError", err)
		}
	}
}

// A question is asked again when a network has lost the dial or the answer, but three times at
// most, and not of a process that has ended.
func TestAskedAgain(t *testing.T) {
	for _, c := range []struct {
		losses, dials int // the first dials, in turn without an end and cut off; then all
		refused       bool
	}{{0, 1, false}, {1, 2, false}, {2, 3, false}, {3, 3, false}, {0, 1, true}} {
		synctest.Test(t, func(t *testing.T) {
			p, dials := newPort(), 0
			stop := start(t, p, Hello("nodes", 0, ""))
			answer, err := askAgain(t.Context(), func(ctx context.Context, network, addr string) (net.Conn, error) {
				switch dials++; {
				case c.refused:
					return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
				case dials > c.losses:
					return p.dial(ctx, network, addr)
				case dials%2 == 1:
					<-ctx.Done()
					return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
				}
				near, far := net.Pipe()
				far.Close()
				return near, nil
			}, "", Hello("nodes", 0, ""), wire.Control{Kind: wire.Stats})
			if ok := !c.refused && c.losses < 3; string(answer.Payload) == "counted" != ok || err == nil != ok || dials != c.dials {
				t.Errorf("%+v: %q, %v after %d dials", c, answer.Payload, err, dials)
			}
			stop()
		})
	}
}

// again asks for statistics on a connection that stays open.
func again(c *wire.Conn) (answer wire.Control, err error) {
	c.WriteControl(&wire.Control{Kind: wire.Stats})
	if c.Flush() && c.Ready() {
		c.ReadControl(&answer)
	}
	return answer, c.Err()
}

// Strangers hold a bounded number of connections for a bounded time, and keep no one
// else from an answer.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPort()
		stop := start(t, p, Hello("nodes", 0, ""))
		connect := func() net.Conn {
			nc, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			return nc
		}
		asked := func(when string) {
			t.Helper()
			begin := time.Now()
			answer, err := Ask(t.Context(), p.dial, "", Hello("nodes", 0, ""), wire.Control{Kind: wire.Stats})
			if string(answer.Payload) != "counted" || err != nil || time.Since(begin) > 0 {
				t.Errorf("%s: %q, %v, after %v; want an answer at once", when, answer.Payload, err, time.Since(begin))
			}
		}

		var open []net.Conn
		for range 4 * MaxStrangers {
			open = append(open, connect())
		}
		asked("beside a thousand silent connections")
		alive := 0
		for _, nc := range open {
			nc.SetReadDeadline(time.Now().Add(time.Nanosecond))
			if n, _ := nc.Read(make([]byte, 1)); n > 0 { // of the greeting, which a net.Pipe keeps until it is read
				alive++
			}
		}
		if alive > MaxStrangers {
			t.Errorf("%d connections are open, want at most %d", alive, MaxStrangers)
		}

		for name, junk := range map[string][]byte{
			"silence":          nil,
			"http":             []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
			"half a frame":     {0, 0, 0, 100, 99, 1},
			"the largest half": append([]byte{0, 1, 0, 0}, make([]byte, 60_000)...),
		} {
			nc := connect()
			go io.Copy(io.Discard, nc) // ends with the connection
			nc.Write(junk)
			begin := time.Now()
			for err := error(nil); err == nil && time.Since(begin) < serveTime; {
				<-time.After(time.Second) // the clock is synctest's
				_, err = nc.Write([]byte{0})
			}
			if took := time.Since(begin); took > 2*answerTime {
				t.Errorf("%s and then a byte a second held a connection for %v, want at most %v", name, took, 2*answerTime)
			}
			asked("after " + name)
		}

		c, err := wire.Open(t.Context(), connect(), Hello("nodes", 0, ""), limits)
		begin := time.Now()
		for err == nil && time.Since(begin) < time.Minute {
			<-time.After(time.Second) // the clock is synctest's
			_, err = again(c)
		}
		if took := time.Since(begin); took != serveTime && took != serveTime+time.Second {
			t.Errorf("a stranger that asks every second is served for %v, want %v", took, serveTime)
		}

		last := connect()
		begin = time.Now()
		stop()
		if _, err := io.Copy(io.Discard, last); err != nil || time.Since(begin) > 0 {
			t.Errorf("at the end a silent connection: %v after %v, want it closed at once", err, time.Since(begin))
		}
	})
}

// A connection that has proved the secret gives way to no stranger.
func TestMemberAmongStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPort()
		hello := Hello("nodes", 0, "a secret of 24 characters")
		start(t, p, hello)
		nc, _ := p.dial(t.Context(), "", "")
		c, err := wire.Open(t.Context(), nc, hello, limits)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 2 * MaxStrangers {
			nc, _ := p.dial(t.Context(), "", "")
			defer nc.Close()
		}
		if answer, err := again(c); string(answer.Payload) != "counted" || err != nil {
			t.Errorf("after many strangers: %q, %v, want an answer", answer.Payload, err)
		}
	})
}

func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPort()
		for range 20 {
			p.errors <- syscall.EMFILE
		}
		start(t, p, Hello("nodes", 0, ""))
		connected := func() time.Duration {
			begin := time.Now()
			nc, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			nc.Close()
			return time.Since(begin)
		}
		if got, want := connected(), (5+10+20+40+80+160+320+640+12*1000)*time.Millisecond; got != want {
			t.Errorf("20 failures to accept delay a connection by %v, want %v", got, want)
		}
		synctest.Wait() // in Accept
		p.errors <- syscall.EMFILE
		connected() // Accept has not seen the error yet
		if got, want := connected(), 5*time.Millisecond; got != want {
			t.Errorf("one more failure later delays a connection by %v, want %v", got, want)
		}
	})
}

// Ask gives up on an address that does not accept, and on a server that is silent; and at the end of its context.
func TestAskGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPort()
		begin := time.Now()
		_, err := Ask(t.Context(), p.dial, "", Hello("nodes", 0, ""), wire.Control{Kind: wire.Stats})
		if !errors.As(err, new(DialError)) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != dialTime {
			t.Errorf("%v after %v, want a DialError after %v", err, time.Since(begin), dialTime)
		}
		begin = time.Now()
		go func() { <-p.conns }()
		_, err = Ask(t.Context(), p.dial, "", Hello("nodes", 0, ""), wire.Control{Kind: wire.Stats})
		if errors.As(err, new(DialError)) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != answerTime {
			t.Errorf("%v after %v, want no answer after %v", err, time.Since(begin), answerTime)
		}
		begin = time.Now()
		go func() {
			c, _ := wire.Greet(<-p.conns, Hello("nodes", 0, ""), limits)
			c.Ready() // and does not answer
		}()
		ctx, cancel := context.WithTimeout(t.Context(), answerTime/2)
		defer cancel()
		_, err = Ask(ctx, p.dial, "", Hello("nodes", 0, ""), wire.Control{Kind: wire.Stats})
		if err != context.DeadlineExceeded || time.Since(begin) != answerTime/2 {
			t.Errorf("%v after %v, want %v after %v", err, time.Since(begin), context.DeadlineExceeded, answerTime/2)
		}
	})
}
