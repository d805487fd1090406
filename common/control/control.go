// Package control asks and answers questions at a process's control port: how far
// it is in a barrier, and what it has counted. The message is wire.Control; package
// barrier says what its fields mean.
//
// A control port is served by its own goroutines, so that a process whose service
// is busy or stalled still answers. What strangers can cost it is bounded: 256
// connections, each open for at most 5 seconds.
package control

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"lockstep/common/wire"
)

const (
	dialTime   = time.Second     // limit of a dial
	answerTime = 2 * time.Second // limit of waiting for an answer, and of each step of giving one
	serveTime  = 5 * time.Second // limit of an accepted connection, whatever it asks
	maxConns   = 256             // accepted connections that are open at the same time
)

// Hello is the greeting of a control port. It has no fingerprint: the questions
// carry that as text, so that a mismatch can say what differs.
func Hello(group string, number int, secret string) wire.Hello {
	return wire.Hello{Purpose: wire.ControlPort, Group: group, Number: number, Secret: secret}
}

var limits = wire.Limits{Idle: answerTime, Frame: answerTime, Write: answerTime}

// Serve answers the questions that arrive on ln with what answer returns; where
// that is not ok, the connection ends. It returns when ctx has ended, ln and all
// connections are closed, and no call of answer is in progress. Calls of answer
// can overlap.
//
// A connection beyond maxConns ends the oldest: an honest one is done within
// milliseconds, and a silent one is in the way.
func Serve(ctx context.Context, ln net.Listener, hello wire.Hello, answer func(question wire.Control) (_ wire.Control, ok bool)) {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var conns sync.WaitGroup
	var open [maxConns]net.Conn
	next, pause := 0, time.Duration(0)
	for ctx.Err() == nil {
		nc, err := ln.Accept()
		if err != nil { // ctx has ended, or there are too many open files
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			Pause(ctx, pause)
			continue
		}
		pause = 0
		if oldest := open[next]; oldest != nil {
			oldest.Close()
		}
		open[next], next = nc, (next+1)%maxConns
		conns.Go(func() { serve(ctx, nc, hello, answer) }) // until the connection ends, is closed here, or ctx ends
	}
	conns.Wait()
}

// serve answers questions until the connection ends, breaks a rule, is silent for
// answerTime, or has been open for serveTime.
func serve(ctx context.Context, nc net.Conn, hello wire.Hello, answer func(wire.Control) (wire.Control, bool)) {
	ctx, cancel := context.WithTimeout(ctx, serveTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	c, err := wire.Greet(nc, hello, limits)
	if err != nil {
		return
	}
	defer c.Close()
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

// A DialFunc connects to an address.
type DialFunc func(ctx context.Context, addr string) (net.Conn, error)

// DialTCP is the DialFunc of TCP.
func DialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// A DialError says why a dial failed: the question was not received.
type DialError struct{ error }

func (e DialError) Unwrap() error { return e.error }

var errSilent = fmt.Errorf("no answer within %v: %w", answerTime, context.DeadlineExceeded)

// Ask dials the control port at addr, asks one question, and closes the connection.
// It takes at most 3 seconds.
func Ask(ctx context.Context, dial DialFunc, addr string, hello wire.Hello, question wire.Control) (wire.Control, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	nc, err := dial(dialing, addr)
	cancel()
	if err != nil {
		return wire.Control{}, DialError{err}
	}
	ctx, cancel = context.WithTimeoutCause(ctx, answerTime, errSilent)
	defer cancel()
	c, err := wire.Open(ctx, nc, hello, limits)
	if err != nil {
		return wire.Control{}, err
	}
	defer c.Close()
	return c.Ask(ctx, &question)
}

// AskStats asks a process of a group for its statistics, at the control port addr.
func AskStats(ctx context.Context, addr, group string, number int, secret string) ([]byte, error) {
	return AskFor(ctx, wire.Stats, addr, group, number, secret)
}

// AskFor is AskStats for any kind of question that is answered with a payload.
func AskFor(ctx context.Context, kind wire.ControlKind, addr, group string, number int, secret string) ([]byte, error) {
	answer, err := Ask(ctx, DialTCP, addr, Hello(group, number, secret), wire.Control{Kind: kind})
	return answer.Payload, err
}
