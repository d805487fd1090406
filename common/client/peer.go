package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"lockstep/common/control"
	"lockstep/common/wire"
)

const (
	DialTimeout   = 3 * time.Second
	firstPatience = 2 * time.Second        // for a greeting, doubling
	lastPatience  = 16 * time.Second       // up to this
	maxDials      = 32                     // to one node at the same time
	DownAfter     = time.Second            // of refused connections
	probeEvery    = 250 * time.Millisecond // while a node is down
	firstPause    = time.Millisecond       // before a retry, doubling
	lastPause     = 100 * time.Millisecond // up to this
	checkAfter    = time.Second            // of idleness: is the other end still there?
	yieldAfter    = time.Second            // of waiting for a node that does not greet
)

var (
	ErrNotGreeted = errors.New("not greeted: the server serves others, waits for its peers, or cannot be reached")
	errYield      = errors.New("the node does not greet, and the call holds connections to others")
)

// A peer holds the connections to one node.
//
// A call takes an idle connection. If there is none it waits, and makes sure that there
// are as many dials as waiting calls, up to maxDials. A dial belongs to no call: a new
// connection, like one that a call has finished with, goes to the call that has waited
// longest. After a failure one dial tries again for all calls, until a connection is
// greeted: that a node is full, or refuses, is an answer for all of them.
type peer struct {
	cl     *Client
	number int
	addr   string

	mu       sync.Mutex    // guards what follows
	open     int           // connections, idle and in use
	idle     []*conn       // the one used last is last
	waiting  []chan gotten // calls that need a connection, the oldest first
	dials    int           // goroutines that dial
	retrying bool          // one of them tries again after a failure: no other is started
	failures int           // tries since a connection was greeted, not counting those that ran beside a retry
	nextTry  time.Time     // after a failure
	refused  time.Time     // when the first of an unbroken series of dials was refused; zero: none was
	down     error         // ErrDown and why, while a probe is running
	lastErr  error         // why there is no connection
}

// gotten is what a call gets for its first try. A waiting call is sent it, once, when it is
// taken off the list; the channel has room for it.
type gotten struct {
	c   *conn
	err error
}

// A conn is a connection that ends with its Client.
type conn struct {
	*wire.Conn
	unbind func() bool // from the Client's context
	used   time.Time   // when a call last finished with it
	stale  *time.Timer // drops it when it has been idle for too long
}

// get takes a connection: an idle one, or else the first to be greeted or freed. It fails
// if the node is down, or if the other end disagrees about who it is. While the node has
// greeted none of the Client's connections for a second, the Client gives back those to
// other nodes: if the call holds some, get returns errYield, and otherwise it goes on
// waiting.
func (p *peer) get(ctx context.Context, holding bool) gotten {
	for ctx.Err() == nil {
		c, wait, err := p.reserve()
		switch {
		case wait != nil:
			return p.await(ctx, wait, holding)
		case err != nil, time.Since(c.used) < checkAfter, c.Quiet():
			return gotten{c, err}
		}
		p.put(c, false)
	}
	return gotten{err: ctx.Err()}
}

// reserve takes an idle connection, or else joins the waiting calls.
func (p *peer) reserve() (*conn, chan gotten, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := cmp.Or(context.Cause(p.cl.ctx), p.down); err != nil { // a node that is down has no idle connections
		return nil, nil, err
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return c, nil, nil
	}
	wait := make(chan gotten, 1)
	p.waiting = append(p.waiting, wait)
	p.dialMore()
	return nil, wait, nil
}

// await waits for a connection.
func (p *peer) await(ctx context.Context, wait chan gotten, holding bool) gotten {
	tick := time.NewTicker(yieldAfter)
	defer tick.Stop()
	for {
		select {
		case g := <-wait:
			return g
		case <-ctx.Done():
			return p.giveUp(ctx.Err(), wait)
		case <-p.cl.ctx.Done():
			return p.giveUp(ErrClosed, wait)
		case <-tick.C:
			p.mu.Lock()
			silent := p.open == 0 // otherwise a call of this Client is served, and will free its connection
			p.mu.Unlock()
			switch {
			case silent && holding:
				return p.giveUp(errYield, wait)
			case silent:
				p.cl.yield(p)
			}
		}
	}
}

// giveUp ends one call's wait because of err, and says why there was no connection.
func (p *peer) giveUp(err error, wait chan gotten) gotten {
	p.mu.Lock()
	p.waiting = slices.DeleteFunc(p.waiting, func(w chan gotten) bool { return w == wait })
	lastErr := cmp.Or(p.lastErr, ErrNotGreeted)
	p.mu.Unlock()
	if len(wait) > 0 { // something was sent at the last moment
		p.put((<-wait).c, true)
	}
	return gotten{err: fmt.Errorf("%w: %w", lastErr, err)}
}

// put gives a good connection to the call that has waited longest, or keeps it as
// idle. It closes any other. c may be nil.
func (p *peer) put(c *conn, good bool) {
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(c, good)
}

// release is put for a caller that holds p.mu.
func (p *peer) release(c *conn, good bool) {
	if !good || p.cl.ctx.Err() != nil {
		p.discard(c)
		return
	}
	c.used = time.Now()
	p.found()
	if len(p.waiting) > 0 {
		p.waiting[0] <- gotten{c: c}
		p.waiting = p.waiting[1:]
		return
	}
	p.idle = append(p.idle, c)
	c.stale.Reset(p.cl.cfg.Server.IdleTimeout / 2)
}

// drop closes the connections that have been idle for at least this long.
func (p *peer) drop(idle time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = slices.DeleteFunc(p.idle, func(c *conn) bool {
		stale := time.Since(c.used) >= idle
		if stale {
			p.discard(c)
		}
		return stale
	})
}

// discard closes a connection. The caller holds p.mu, as for fail, found and dialMore.
func (p *peer) discard(c *conn) {
	p.open--
	c.stale.Stop()
	c.unbind()
	c.Close()
}

// fail ends the wait of all calls.
func (p *peer) fail(err error) {
	for _, wait := range p.waiting {
		wait <- gotten{err: err}
	}
	p.waiting = nil
}

// found notes that the node is there, or at least may be.
func (p *peer) found() { p.refused, p.down, p.lastErr = time.Time{}, nil, nil }

// dialMore starts the dials that are needed. After a failure one dial tries again, for all
// calls, or as the probe of a node that is down; dials that wait for a greeting do not
// count then. The caller holds p.mu.
func (p *peer) dialMore() {
	need, retry := min(len(p.waiting), maxDials), p.failures > 0
	switch {
	case p.retrying || p.cl.ctx.Err() != nil:
		return
	case retry && (need > 0 || p.down != nil):
		need = p.dials + 1
	}
	for pause := time.Until(p.nextTry); p.dials < need; p.dials++ {
		p.retrying = retry
		p.cl.work.Go(func() { p.dial(retry, pause) }) // one try, or until the Client is closed
	}
}

// dial tries once to make a connection, after a pause. If no call waits any more, a first
// connection is not kept: it could take a server's only place from other clients.
func (p *peer) dial(retry bool, pause time.Duration) {
	control.Pause(p.cl.ctx, pause)
	c, err := p.connect()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials--
	p.retrying = p.retrying && !retry
	if err == nil {
		p.open++
		p.failures = 0
		p.release(c, len(p.waiting) > 0 || p.open > 1)
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
	if errors.Is(err, wire.ErrRefused) {
		p.cl.refused.Add(1)
	} else {
		p.cl.dialFailed(err)
	}
	switch {
	case errors.Is(err, wire.ErrMismatch): // trying again does not help the calls that wait
		p.fail(err)
		fallthrough
	case !Unreachable(err):
		p.refused = time.Time{}
	case p.refused.IsZero():
		p.refused = time.Now()
	case p.down == nil && time.Since(p.refused) >= DownAfter:
		p.down = fmt.Errorf("%w: %w", ErrDown, err)
		p.fail(p.down)
	}
	if pause := Backoff(p.failures); !p.retrying {
		if p.down != nil {
			pause = probeEvery
		}
		p.nextTry = time.Now().Add(pause)
		p.failures++
	}
}

// Unreachable reports whether err, of a dial, proves that the node refuses connections or
// cannot be reached. Anything else, such as too many open files, is this side's trouble.
// Windows has its own numbers for these errors.
func Unreachable(err error) bool {
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
// not forever: a greeting can be lost.
func (p *peer) connect() (*conn, error) {
	start := time.Now()
	nc, err := p.cl.DialContext(p.cl.ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	if p.down != nil || !p.refused.IsZero() { // it is there; why a greeting failed is kept until one succeeds
		p.found()
	}
	patience := Patience(p.failures)
	p.mu.Unlock()
	cfg := &p.cl.cfg
	ctx, cancel := context.WithTimeoutCause(p.cl.ctx, patience, ErrNotGreeted)
	defer cancel()
	wc, err := wire.Open(ctx, nc, cfg.Hello(p.number), wire.Limits{Frame: cfg.Server.FrameTimeout, Write: cfg.Server.WriteTimeout})
	if err != nil {
		return nil, err
	}
	p.cl.dials.Add(1)
	p.cl.dialing.Add(int64(time.Since(start)))
	c := &conn{Conn: wc, unbind: wc.Bind(p.cl.ctx)}
	c.stale = time.AfterFunc(cfg.Server.IdleTimeout/2, func() { p.drop(cfg.Server.IdleTimeout / 2) })
	return c, nil
}

// Patience is how long a greeting may take after this many failures.
func Patience(failures int) time.Duration { return min(firstPatience<<min(failures, 16), lastPatience) }

// Backoff is the pause before a retry. Its upper half is random, so that clients that
// were refused at the same time do not return at the same time.
func Backoff(tries int) time.Duration {
	pause := min(firstPause<<min(tries, 16), lastPause)
	return pause/2 + rand.N(pause/2)
}
