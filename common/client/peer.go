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
	"time"

	"lockstep/common/wire"
)

const (
	dialTimeout = 3 * time.Second
	downAfter   = time.Second            // of refused connections
	probeEvery  = 250 * time.Millisecond // while a node is down
	firstPause  = time.Millisecond       // before a retry, doubling
	lastPause   = 100 * time.Millisecond // up to this
	checkAfter  = time.Second            // of idleness: is the other end still there?
)

var errNotGreeted = errors.New("not greeted: the server serves others, waits for its peers, or cannot be reached")

// A peer holds the connections to one node.
//
// A call takes an idle connection. If there is none it waits, and makes sure that there
// are as many dials as waiting calls. A dial belongs to no call: a new connection, like
// one that a call has finished with, goes to the call that has waited longest.
type peer struct {
	cl     *Client
	number int
	addr   string

	mu        sync.Mutex    // guards what follows
	idle      []*conn       // the one used last is last
	waiting   []chan gotten // calls that need a connection, the oldest first
	dials     int           // goroutines that dial
	abandoned bool          // all calls that waited for the dials have given up
	strict    bool          // the waiting call is Dial's: a mismatch fails it
	refused   time.Time     // when the first of an unbroken series of dials was refused; zero: none was
	down      error         // ErrDown and why, while a probe is running
	lastErr   error         // why there is no connection
}

// gotten is what a waiting call is sent, once, when it is taken off the list. The
// channel has room for it.
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

func (c *conn) close() {
	c.stale.Stop()
	c.unbind()
	c.Conn.Close()
}

// get takes a connection: an idle one, or else the first to be greeted or freed. If
// the other end disagrees about who it is, a strict call fails; any other call waits
// until that is corrected.
func (p *peer) get(ctx context.Context, strict bool) (*conn, error) {
	for {
		c, wait, err := p.reserve(strict)
		if wait != nil {
			select {
			case g := <-wait:
				return g.c, g.err
			case <-ctx.Done():
				return nil, p.giveUp(ctx, wait)
			}
		}
		if err != nil || time.Since(c.used) < checkAfter || c.Quiet() {
			return c, err
		}
		c.close()
	}
}

// reserve takes an idle connection, or else joins the waiting calls.
func (p *peer) reserve(strict bool) (*conn, chan gotten, error) {
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
	p.waiting, p.abandoned, p.strict = append(p.waiting, wait), false, strict
	if p.dials < len(p.waiting) {
		p.dials++
		p.cl.work.Go(p.dial) // until there is a connection, no call waits, or the Client is closed
	}
	return nil, wait, nil
}

// giveUp leaves the waiting calls at the end of ctx, and says why there was no connection.
func (p *peer) giveUp(ctx context.Context, wait chan gotten) error {
	p.mu.Lock()
	p.waiting = slices.DeleteFunc(p.waiting, func(w chan gotten) bool { return w == wait })
	p.abandoned = len(p.waiting) == 0
	lastErr := cmp.Or(p.lastErr, errNotGreeted)
	p.mu.Unlock()
	if len(wait) > 0 { // something was sent at the last moment
		if g := <-wait; g.c != nil {
			p.put(g.c, true)
		}
	}
	return fmt.Errorf("no connection: %w: %w", ctx.Err(), lastErr)
}

// put gives a good connection to the call that has waited longest, or keeps it as
// idle. It closes any other.
func (p *peer) put(c *conn, good bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !good || p.cl.ctx.Err() != nil {
		c.close()
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

// drop closes a connection if it is idle.
func (p *peer) drop(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle, c); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		c.close()
	}
}

// fail ends the wait of all calls. The caller holds p.mu, as for found.
func (p *peer) fail(err error) {
	for _, wait := range p.waiting {
		wait <- gotten{err: err}
	}
	p.waiting = nil
}

// found notes that the node is there, or that it is not known whether it is.
func (p *peer) found() { p.refused, p.down, p.lastErr = time.Time{}, nil, nil }

// dial makes one connection, with as many tries as that takes, and gives up when no
// call waits for one any more. An abandoned dial does not keep its connection: that
// could take a server's only place from other clients.
func (p *peer) dial() {
	c, err := p.connect()
	for pause := firstPause; err != nil; c, err = p.connect() {
		if pause = p.again(err, pause); pause == 0 {
			return
		}
		select {
		case <-time.After(pause):
		case <-p.cl.ctx.Done():
		}
	}
	p.mu.Lock()
	p.dials--
	wanted := !p.abandoned
	p.mu.Unlock()
	p.put(c, wanted)
}

// again notes why a try failed, and returns the pause before the next one, or 0 if the
// dial is to end. pause is the one before. The dial that finds the node down is its
// probe, from then on, and known by its pause of probeEvery.
func (p *peer) again(err error, pause time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastErr = err
	if errors.Is(err, wire.ErrRefused) {
		p.cl.refused.Add(1)
	}
	var op *net.OpError
	switch refused := errors.As(err, &op) && op.Op == "dial"; {
	case !refused:
		p.refused = time.Time{}
		if p.strict && errors.Is(err, wire.ErrMismatch) {
			p.fail(err)
		}
	case p.refused.IsZero():
		p.refused = time.Now()
	case p.down == nil && time.Since(p.refused) >= downAfter:
		p.down, pause = fmt.Errorf("%w: %w", ErrDown, err), probeEvery
		p.fail(p.down)
	}
	switch {
	case p.cl.ctx.Err() != nil: // closed
	case p.down != nil && pause == probeEvery:
		return probeEvery
	case len(p.waiting) > 0:
		return jitter(min(2*pause, lastPause))
	}
	if p.dials--; p.dials == 0 {
		p.found()
	}
	return 0
}

// connect makes one connection and waits to be greeted.
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
	p.mu.Unlock()
	cfg := &p.cl.cfg
	wc, err := wire.Open(p.cl.ctx, nc,
		wire.Hello{Purpose: wire.Service, Group: "nodes", Number: p.number, Fingerprint: cfg.Fingerprint(), Secret: cfg.Secret},
		wire.Limits{Frame: cfg.Server.FrameTimeout, Write: cfg.Server.WriteTimeout})
	if err != nil {
		return nil, err
	}
	p.cl.dials.Add(1)
	p.cl.dialing.Add(int64(time.Since(start)))
	c := &conn{Conn: wc, unbind: wc.Bind(p.cl.ctx)}
	c.stale = time.AfterFunc(cfg.Server.IdleTimeout/2, func() { p.drop(c) })
	return c, nil
}

func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
	p.fail(ErrClosed)
}

// jitter spreads a pause over its upper half, so that clients that were refused at
// the same time do not return at the same time.
func jitter(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2) }
