package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"syscall"
	"time"

	"lockstep/common/wire"
)

const (
	dialTimeout   = 3 * time.Second
	firstPatience = 2 * time.Second        // for a greeting, doubling
	lastPatience  = 16 * time.Second       // up to this
	maxDials      = 32                     // to one node at the same time
	downAfter     = time.Second            // of refused connections
	probeEvery    = 250 * time.Millisecond // while a node is down
	firstPause    = time.Millisecond       // before a retry, doubling
	lastPause     = 100 * time.Millisecond // up to this
)

// dialMore starts the dials that are needed. After a failure one dial tries again, for all
// calls, or as the probe of a node that is down; dials that wait for a greeting do not
// count then. The caller holds p.mu.
func (p *peer) dialMore() {
	start := func(retry bool, pause time.Duration) {
		p.dials++
		p.retrying = retry
		p.cl.work.Go(func() { p.dial(retry, pause) }) // one try, or until the Client is closed
	}
	switch {
	case p.cl.ctx.Err() != nil || p.retrying || len(p.waiting) == 0 && p.down == nil:
	case p.down != nil:
		start(true, probeEvery)
	case p.failures > 0:
		start(true, time.Until(p.nextTry))
	default:
		for p.dials < min(len(p.waiting), maxDials) {
			start(false, 0)
		}
	}
}

// dial tries once to make a connection, after a pause. An abandoned dial does not keep its
// connection: that could take a server's only place from other clients.
func (p *peer) dial(retry bool, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-p.cl.ctx.Done():
	}
	c, err := p.connect()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials--
	p.retrying = p.retrying && !retry
	if err == nil {
		p.open++
		p.failures = 0
		p.release(c, !p.abandoned)
	} else {
		p.failed(err)
	}
	if p.dialMore(); p.dials == 0 {
		p.found()
	}
}

// failed notes why a dial failed. The caller holds p.mu.
func (p *peer) failed(err error) {
	p.lastErr = err
	if !p.retrying {
		p.nextTry = time.Now().Add(jitter(backoff(firstPause, lastPause, p.failures)))
		p.failures++
	}
	switch {
	case errors.Is(err, wire.ErrMismatch): // trying again does not help the calls that wait
		p.fail(err)
		fallthrough
	case !unreachable(err):
		p.refused = time.Time{}
	case p.refused.IsZero():
		p.refused = time.Now()
	case p.down == nil && time.Since(p.refused) >= downAfter:
		p.down = fmt.Errorf("%w: %w", ErrDown, err)
		p.fail(p.down)
	}
}

// unreachable reports whether err, of a dial, proves that the node refuses connections or
// cannot be reached. Anything else, such as too many open files, is this side's trouble.
// Windows has numbers of its own for these errors.
func unreachable(err error) bool {
	var op *net.OpError
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case !errors.As(err, &op) || op.Op != "dial":
		return false
	case errors.As(err, &errno):
		return slices.Contains([]syscall.Errno{
			syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN,
			10061, 10060, 10065, 10051, 10064}, errno)
	}
	return op.Timeout() || errors.As(err, &dns) && dns.IsNotFound
}

// connect makes one connection and waits for its greeting, longer after each failure but
// not for good: a greeting can be lost.
func (p *peer) connect() (*conn, error) {
	start := time.Now()
	nc, err := p.cl.DialContext(p.cl.ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	if !p.refused.IsZero() { // it is there; why a greeting failed is kept until one succeeds
		p.found()
	}
	patience := backoff(firstPatience, lastPatience, p.failures)
	p.mu.Unlock()
	cfg := &p.cl.cfg
	ctx, cancel := context.WithTimeoutCause(p.cl.ctx, patience, errNotGreeted)
	defer cancel()
	wc, err := wire.Open(ctx, nc,
		wire.Hello{Purpose: wire.Service, Group: "nodes", Number: p.number, Fingerprint: cfg.Fingerprint(), Secret: cfg.Secret},
		wire.Limits{Frame: cfg.Server.FrameTimeout, Write: cfg.Server.WriteTimeout})
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	p.cl.dials.Add(1)
	p.cl.dialing.Add(int64(time.Since(start)))
	c := &conn{Conn: wc, unbind: wc.Bind(p.cl.ctx)}
	c.stale = time.AfterFunc(cfg.Server.IdleTimeout/2, func() { p.drop(c) })
	return c, nil
}

// jitter spreads a pause over its upper half, so that clients that were refused at
// the same time do not return at the same time.
func jitter(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2) }

// backoff doubles a pause with each try, from first to last.
func backoff(first, last time.Duration, tries int) time.Duration {
	return min(first<<min(tries, 16), last)
}
