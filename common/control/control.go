// Package control asks and answers questions at a process's control port: how far
// it is in a barrier, and what it has counted. The message is wire.Control; package
// barrier says what its fields mean.
//
// A control port is served by its own goroutines, so that a process whose service
// is busy or stalled still answers. What strangers can cost it is bounded: 256
// connections, each open for at most 5 seconds; where there is a secret, connections
// that prove it do not count.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

const (
	dialTime   = time.Second     // limit of a dial
	answerTime = 2 * time.Second // limit of waiting for an answer, and of each step of giving one
	serveTime  = 5 * time.Second // limit of an accepted connection, whatever it asks

	strangerTime = time.Second / 5 // how long a stranger is safe from newer ones
)

// MaxStrangers is the usual number of Strangers.
const MaxStrangers = 256

// Strangers are open connections whose other ends have not proved that they know the secret:
// at most Most at a time. One more ends the oldest, since an honest one is done within
// milliseconds, and a silent one is in the way. But each has strangerTime first, so that many
// honest ones at once do not end each other. Safe for concurrent use.
type Strangers struct {
	Most int

	mu    sync.Mutex // guards conns
	left  sync.Cond  // one has been removed or has had its time, or the context of an Add has ended
	conns []stranger // the oldest first
}

type stranger struct {
	net.Conn
	ends time.Time // when it has had its time
}

// Add puts an accepted connection among the strangers. While there are Most of them and none has
// had its time, it waits, but not beyond the end of ctx.
func (s *Strangers) Add(ctx context.Context, nc net.Conn) {
	wake := func() {
		s.mu.Lock()
		s.left.Broadcast()
		s.mu.Unlock()
	}
	defer context.AfterFunc(ctx, wake)()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.left.L = &s.mu; len(s.conns) >= max(s.Most, 1) && ctx.Err() == nil; {
		if wait := time.Until(s.conns[0].ends); wait > 0 {
			due := time.AfterFunc(wait, wake)
			s.left.Wait()
			due.Stop()
			continue
		}
		s.conns[0].Close() // does not wait
		s.conns = s.conns[1:]
	}
	s.conns = append(s.conns, stranger{nc, time.Now().Add(strangerTime)})
}

// Remove takes a connection away, because it has proved itself or has ended.
func (s *Strangers) Remove(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(c stranger) bool { return c.Conn == nc })
	s.left.Broadcast()
}

// Hello is the greeting of a control port. It has no fingerprint: the questions
// carry that as text, so that a mismatch can say what differs.
func Hello(group string, number int, secret string) wire.Hello {
	return wire.Hello{Purpose: wire.ControlPort, Group: group, Number: number, Secret: secret}
}

var limits = wire.Limits{Idle: answerTime, Frame: answerTime, Write: answerTime}

// Serve answers the questions that arrive on ln with what answer returns; where
// that is not ok, the connection ends. It returns when ctx has ended, ln and all
// connections are closed, and no call of answer is in progress. Calls of answer
// can overlap. At most the given number of strangers is connected at a time.
func Serve(ctx context.Context, ln net.Listener, hello wire.Hello, strangers int, answer func(question wire.Control) (_ wire.Control, ok bool)) {
	var ends sync.WaitGroup
	ends.Go(func() { <-ctx.Done(); ln.Close() })
	unproved, pause := &Strangers{Most: strangers}, time.Duration(0)
	for ctx.Err() == nil {
		nc, err := ln.Accept()
		if err != nil { // ctx has ended, or there are too many open files
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			Pause(ctx, pause)
			continue
		}
		pause = 0
		unproved.Add(ctx, nc)
		ends.Go(func() { serve(ctx, nc, hello, unproved, answer) }) // until the connection ends, is closed here, or ctx ends
	}
	ends.Wait()
}

// serve answers questions until the connection ends, breaks a rule, is silent for
// answerTime, or has been open for serveTime.
func serve(ctx context.Context, nc net.Conn, hello wire.Hello, unproved *Strangers, answer func(wire.Control) (wire.Control, bool)) {
	ctx, cancel := context.WithTimeout(ctx, serveTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	defer unproved.Remove(nc)
	c, err := wire.Greet(nc, hello, limits)
	if err != nil {
		return
	}
	defer c.Close()
	if hello.Secret != "" && c.Prove() {
		unproved.Remove(nc)
	}
	var question wire.Control
	for c.Ready() && c.ReadControl(&question) {
		reply, ok := answer(question)
		if !ok {
			return
		}
		c.WriteControl(&reply)
		c.Flush()
	}
}

// Pause returns after d or at the end of ctx.
func Pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// A DialFunc connects to an address, as the method DialContext of a net.Dialer does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// A DialError says why a dial failed: the question was not received.
type DialError struct{ error }

func (e DialError) Unwrap() error { return e.error }

var errSilent = fmt.Errorf("no answer within %v: %w", answerTime, context.DeadlineExceeded)

// Ask dials the control port at addr, asks one question, and closes the connection.
// It takes at most 3 seconds. A question without a Kind is not asked: Ask finds out only
// whether the port, of whichever purpose, greets as hello expects.
func Ask(ctx context.Context, dial DialFunc, addr string, hello wire.Hello, question wire.Control) (answer wire.Control, err error) {
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	nc, err := dial(dialing, "tcp", addr)
	cancel()
	if err != nil {
		return answer, DialError{err}
	}
	ctx, cancel = context.WithTimeoutCause(ctx, answerTime, errSilent)
	defer cancel()
	c, err := wire.Open(ctx, nc, hello, limits)
	if err != nil {
		return answer, err
	}
	defer c.Close()
	if question.Kind == 0 {
		return answer, nil
	}
	release := c.Bind(ctx)
	c.WriteControl(&question)
	if c.Flush() && c.Ready() {
		c.ReadControl(&answer)
	}
	if !release() {
		return wire.Control{}, context.Cause(ctx)
	}
	if c.Err() == io.EOF {
		return answer, io.ErrUnexpectedEOF
	}
	return answer, c.Err()
}

// askAgain is Ask for a question that does no harm when it is asked twice.
func askAgain(ctx context.Context, dial DialFunc, addr string, hello wire.Hello, question wire.Control) (wire.Control, error) {
	for again := 2; ; again-- {
		answer, err := Ask(ctx, dial, addr, hello, question)
		if err == nil || again == 0 || Refused(err) || errors.Is(err, wire.ErrMismatch) || ctx.Err() != nil {
			return answer, err
		}
	}
}

// Refused reports whether a dial was answered, with a refusal: no process listens there.
func Refused(err error) bool {
	var timeout net.Error
	return errors.As(err, new(DialError)) && !(errors.As(err, &timeout) && timeout.Timeout())
}

// AskNode asks a node of the cluster for its Stats or Lanes, which the node answers in JSON. If
// a network may have lost the question or the answer, it asks again, twice at most: it takes
// up to 9 seconds. The error names the node.
func AskNode[T any](ctx context.Context, cfg cluster.Config, node int, kind wire.ControlKind) (answer T, err error) {
	if node < 0 || node >= len(cfg.Nodes) {
		return answer, fmt.Errorf("no node %d: the nodes are 0 to %d", node, len(cfg.Nodes)-1)
	}
	addr := cfg.Nodes[node].Control
	reply, err := askAgain(ctx, new(net.Dialer).DialContext, addr, Hello("nodes", node, cfg.Secret), wire.Control{Kind: kind})
	if err == nil {
		err = json.Unmarshal(reply.Payload, &answer)
	}
	if err != nil {
		err = fmt.Errorf("%w (asking node %d, %s, for its %s)", err, node, addr, map[wire.ControlKind]string{wire.Stats: "statistics", wire.Lanes: "lanes"}[kind])
	}
	return answer, err
}
