package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lockstep/common/wire"
)

const (
	checkAfter = time.Second // of idleness: is the other end still there?
	yieldAfter = time.Second // of waiting for a node that does not greet
)

var (
	errNotGreeted = errors.New("not greeted: the server serves others, waits for its peers, or cannot be reached")
	errYield      = errors.New("the node does not greet, and the call holds connections to others")
)

// A peer holds the connections to one node.
//
// A call takes an idle connection. If there is none it waits, and makes sure that there
// are as many dials as waiting calls, up to maxDials. A dial belongs to no call: a new
// connection, like one that a call has finished with, goes to the call that has waited
// longest. After a failure one dial tries again for all calls, until a connection is
// greeted: a node that is full, or that refuses, is not asked by every call that waits.
type peer struct {
	cl     *Client
	number int
	addr   string

	mu        sync.Mutex    // guards what follows
	open      int           // connections, idle and in use
	idle      []*conn       // the one used last is last
	waiting   []chan gotten // calls that need a connection, the oldest first
	dials     int           // goroutines that dial
	retrying  bool          // one of them tries again after a failure: no other is started
	failures  int           // tries since a connection was greeted, not counting those that ran beside a retry
	nextTry   time.Time     // after a failure
	abandoned bool          // all calls that waited for the dials have given up
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

// get takes a connection: an idle one, or else the first to be greeted or freed. It fails
// if the node is down, or if the other end disagrees about who it is. While the node has
// greeted none of the Client's connections for a second, the Client gives back those to
// other nodes: if the call holds some, get returns errYield, and otherwise it goes on
// waiting.
func (p *peer) get(ctx context.Context, holding bool) (*conn, error) {
	for ctx.Err() == nil {
		c, wait, err := p.reserve()
		switch {
		case wait != nil:
			return p.await(ctx, wait, holding)
		case err != nil, time.Since(c.used) < checkAfter, c.Quiet():
			return c, err
		}
		p.put(c, false)
	}
	return nil, ctx.Err()
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
	p.waiting, p.abandoned = append(p.waiting, wait), false
	p.dialMore()
	return nil, wait, nil
}

// await waits for a connection.
func (p *peer) await(ctx context.Context, wait chan gotten, holding bool) (*conn, error) {
	tick := time.NewTicker(yieldAfter)
	defer tick.Stop()
	for {
		select {
		case g := <-wait:
			return g.c, g.err
		case <-ctx.Done():
			return nil, p.giveUp(ctx.Err(), wait)
		case <-tick.C:
			p.mu.Lock()
			silent := p.open == 0 // otherwise a call of this Client is served, and will free its connection
			p.mu.Unlock()
			switch {
			case silent && holding:
				return nil, p.giveUp(errYield, wait)
			case silent:
				p.cl.yield(p)
			}
		}
	}
}

// giveUp leaves the waiting calls because of err, and says why there was no connection.
func (p *peer) giveUp(err error, wait chan gotten) error {
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
	return fmt.Errorf("no connection: %w: %w", err, lastErr)
}

// put gives a good connection to the call that has waited longest, or keeps it as
// idle. It closes any other.
func (p *peer) put(c *conn, good bool) {
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

// drop closes a connection if it is idle.
func (p *peer) drop(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle, c); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		p.discard(c)
	}
}

// dropIdle closes the idle connections.
func (p *peer) dropIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		p.discard(c)
	}
	p.idle = nil
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

// found notes that the node is there, or that it is not known whether it is.
func (p *peer) found() { p.refused, p.down, p.lastErr = time.Time{}, nil, nil }

func (p *peer) close() {
	p.dropIdle()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail(ErrClosed)
}
