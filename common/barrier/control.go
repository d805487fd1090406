package barrier

import (
	"context"
	"net"
	"time"

	"lockstep/common/wire"
)

const (
	dialTime   = time.Second     // at most, for a dial
	answerTime = 2 * time.Second // for the answer, and for each step of giving one
	serveTime  = 5 * time.Second // for an accepted connection, whatever it asks
	maxConns   = 256             // accepted ones that are open at once
)

// listen accepts connections until Close closes the listener, and then ends
// those that are open. When a new one would be too many it ends the oldest: an
// honest one is done within milliseconds, and one that is silent is in the way.
func (b *Barrier) listen() {
	var open [maxConns]net.Conn
	next, pause := 0, time.Duration(0)
	for b.ctx.Err() == nil {
		nc, err := b.ln.Accept()
		if err != nil { // too many open files, if it is not the end
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-b.ctx.Done():
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		if oldest := open[next]; oldest != nil {
			oldest.Close()
		}
		open[next], next = nc, (next+1)%maxConns
		b.goroutines.Go(func() { b.serve(nc) }) // until the connection ends, or is ended here
	}
	for _, nc := range open {
		if nc != nil {
			nc.Close()
		}
	}
}

// serve answers questions until the connection ends, breaks a rule, is silent for
// answerTime, or has had serveTime: who dials here has one question.
func (b *Barrier) serve(nc net.Conn) {
	end := time.AfterFunc(serveTime, func() { nc.Close() })
	defer end.Stop()
	c, err := wire.Greet(nc, b.hello(b.cfg.Self), limits)
	if err != nil {
		return
	}
	defer c.Close()
	var question wire.Control
	for c.Ready() && c.ReadControl(&question) {
		var answer wire.Control
		switch question.Kind {
		case wire.Barrier:
			b.mu.Lock()
			answer = b.core.answer(question)
			b.mu.Unlock()
		case wire.Stats:
			answer = wire.Control{Kind: wire.Stats, Group: b.cfg.Group, From: b.cfg.Self}
			if b.cfg.Stats != nil {
				answer.Payload = b.cfg.Stats()
			}
		default:
			return
		}
		c.WriteControl(&answer)
		c.Flush()
	}
}

// AskStats asks the process with this number in group, whose control port is at
// addr, what its Config.Stats says.
func AskStats(ctx context.Context, addr, group string, number int, secret string) ([]byte, error) {
	answer, err := ask(ctx, dialTCP, addr, hello(group, number, secret), wire.Control{Kind: wire.Stats})
	return answer.Payload, err
}

func (b *Barrier) hello(number int) wire.Hello { return hello(b.cfg.Group, number, b.cfg.Secret) }

// hello is the greeting of a control port. It leaves the fingerprint to the
// questions, which have room to say what differs.
func hello(group string, number int, secret string) wire.Hello {
	return wire.Hello{Purpose: wire.ControlPort, Group: group, Number: number, Secret: secret}
}

var limits = wire.Limits{Idle: answerTime, Frame: answerTime, Write: answerTime}

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// A dialError is why a dial came to nothing: nobody heard the question.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// ask dials a control port, asks one question, and hangs up.
func ask(ctx context.Context, dial func(context.Context, string) (net.Conn, error), addr string,
	h wire.Hello, question wire.Control) (wire.Control, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	nc, err := dial(dialing, addr)
	cancel()
	if err != nil {
		return wire.Control{}, dialError{err}
	}
	ctx, cancel = context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := wire.Open(ctx, nc, h, limits)
	if err != nil {
		return wire.Control{}, err
	}
	defer c.Close()
	return c.Ask(ctx, &question)
}
