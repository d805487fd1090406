package client

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	firstPause  = time.Millisecond       // before a retry; doubles up to
	lastPause   = 100 * time.Millisecond // this
	listenAfter = time.Second            // of idleness: is the other end still there?
)

// A peer is one node, as a Client sees it.
type peer struct {
	cl     *Client
	number int
	addr   string

	mu      sync.Mutex  // guards what follows
	idle    []*conn     // the one used last is last
	waiting []*waiter   // calls that need a connection, the oldest first
	dialing int         // goroutines that are getting one
	orphans bool        // whoever waited for them has given up
	refused time.Time   // since when every dial has failed; zero if the last one did not
	down    bool        // and a probe runs
	lastErr error       // why there is no connection
	sweep   *time.Timer // drops idle connections; nil while there are none
}

type conn struct {
	*wire.Conn
	unbind func() bool
	since  time.Time // idle since
}

func (c *conn) close() {
	c.unbind()
	c.Conn.Close()
}

// A waiter is a call that needs a connection: one that is greeted or one that is
// freed, whichever comes first.
type waiter struct {
	got    chan gotten // of size 1: whoever takes the waiter off the list may send
	strict bool        // a mismatch is an answer
}

type gotten struct {
	c   *conn
	err error
}

func newPeer(cl *Client, number int) *peer {
	return &peer{cl: cl, number: number, addr: cl.cfg.Nodes[number].Addr}
}

func (p *peer) errorf(format string, args ...any) error {
	return fmt.Errorf("node %d (%s): %w", p.number, p.addr, fmt.Errorf(format, args...))
}

// get takes a connection: an idle one, or the first to be freed or greeted. A
// strict call fails if the other end disagrees; others wait for that to mend.
func (p *peer) get(ctx context.Context, strict bool) (*conn, error) {
	for {
		c, w, err := p.reserve(strict)
		if err != nil {
			return nil, err
		}
		if w != nil {
			return p.wait(ctx, w)
		}
		if time.Since(c.since) < listenAfter || c.Quiet() {
			return c, nil
		}
		c.close()
	}
}

// reserve takes an idle connection, or else becomes a waiter.
func (p *peer) reserve(strict bool) (*conn, *waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cl.ctx.Err() != nil {
		return nil, nil, ErrClosed
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return c, nil, nil
	}
	if p.down {
		return nil, nil, fmt.Errorf("%w: %w", ErrDown, p.lastErr)
	}
	w := &waiter{got: make(chan gotten, 1), strict: strict}
	p.waiting, p.orphans = append(p.waiting, w), false
	if p.dialing < len(p.waiting) {
		p.dialing++
		p.cl.work.Go(p.dial)
	}
	return nil, w, nil
}

// dropStale closes connections that have been idle for half as long as the
// server allows; the oldest are first. It runs for as long as there are any.
func (p *peer) dropStale() {
	p.mu.Lock()
	defer p.mu.Unlock()
	half := p.cl.cfg.Server.IdleTimeout / 2
	for len(p.idle) > 0 && time.Since(p.idle[0].since) >= half {
		p.idle[0].close()
		p.idle = p.idle[1:]
	}
	p.sweep = nil
	if len(p.idle) > 0 {
		p.sweep = time.AfterFunc(half-time.Since(p.idle[0].since), p.dropStale)
	}
}

func (p *peer) wait(ctx context.Context, w *waiter) (*conn, error) {
	select {
	case g := <-w.got:
		return g.c, g.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.orphans = len(p.waiting) == 0
	}
	lastErr := p.lastErr
	p.mu.Unlock()
	if i < 0 { // too late: something has been sent
		if g := <-w.got; g.c != nil {
			p.put(g.c)
		}
	}
	if lastErr == nil {
		lastErr = errors.New("not greeted: the server serves others, waits for its peers, or cannot be reached")
	}
	return nil, fmt.Errorf("no connection: %w: %w", ctx.Err(), lastErr)
}

// put gives a connection to the call that has waited longest, or keeps it.
func (p *peer) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.since = time.Now()
	p.refused, p.down, p.lastErr = time.Time{}, false, nil
	switch {
	case p.cl.ctx.Err() != nil:
		c.close()
	case len(p.waiting) > 0:
		p.waiting[0].got <- gotten{c: c}
		p.waiting = p.waiting[1:]
	default:
		p.idle = append(p.idle, c)
		if p.sweep == nil {
			p.sweep = time.AfterFunc(p.cl.cfg.Server.IdleTimeout/2, p.dropStale)
		}
	}
}

// fail ends the calls that wait, all or only the strict ones. Called with mu held.
func (p *peer) fail(err error, strictOnly bool) {
	p.waiting = slices.DeleteFunc(p.waiting, func(w *waiter) bool {
		if strictOnly && !w.strict {
			return false
		}
		w.got <- gotten{err: err}
		return true
	})
}

// dial gets one connection, however long that takes, unless nobody waits for it
// any more. The one that finds the node down goes on as the probe.
func (p *peer) dial() {
	probe := false
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		c, err := p.connect()
		if err == nil {
			p.mu.Lock()
			p.dialing--
			wanted := !p.orphans
			p.mu.Unlock()
			p.release(c, wanted)
			return
		}
		if !p.again(err, &probe) {
			return
		}
		wait := jitter(pause)
		if probe {
			wait = probeEvery
		}
		select {
		case <-time.After(wait):
		case <-p.cl.ctx.Done():
		}
	}
}

// again notes why there is no connection, and reports whether to go on trying,
// and whether as the probe.
func (p *peer) again(err error, probe *bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastErr = err
	var netErr *net.OpError
	if refused := errors.As(err, &netErr) && netErr.Op == "dial"; !refused {
		p.refused = time.Time{}
	} else if p.refused.IsZero() {
		p.refused = time.Now()
	}
	*probe = *probe && p.down
	switch {
	case p.cl.ctx.Err() != nil:
		p.dialing--
		return false
	case errors.Is(err, wire.ErrMismatch):
		p.fail(err, true)
	case !p.refused.IsZero() && time.Since(p.refused) >= downAfter && !p.down:
		p.down, *probe = true, true
		p.fail(fmt.Errorf("%w: %w", ErrDown, err), false)
	}
	if len(p.waiting) == 0 && !*probe {
		if p.dialing--; p.dialing == 0 {
			p.refused, p.lastErr = time.Time{}, nil // nobody looks on, and so it is not known
		}
		return false
	}
	return true
}

// connect makes one connection and waits to be greeted.
func (p *peer) connect() (*conn, error) {
	start := time.Now()
	nc, err := p.cl.DialContext(p.cl.ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	if !p.refused.IsZero() { // what went wrong with a greeting stays the reason until there is one
		p.refused, p.down, p.lastErr = time.Time{}, false, nil
	}
	p.mu.Unlock()
	s := p.cl.cfg.Server
	wc, err := wire.Open(p.cl.ctx, nc,
		wire.Hello{Purpose: wire.Service, Group: "nodes", Number: p.number, Fingerprint: p.cl.cfg.Fingerprint(), Secret: p.cl.cfg.Secret},
		wire.Limits{Frame: s.FrameTimeout, Write: s.WriteTimeout})
	if err != nil {
		return nil, err
	}
	p.cl.dials.Add(1)
	p.cl.dialing.Add(int64(time.Since(start)))
	return &conn{Conn: wc, unbind: context.AfterFunc(p.cl.ctx, wc.Stop)}, nil
}

func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.fail(ErrClosed, false)
}

// jitter spreads a pause over its upper half, so that clients that were refused
// together do not come back together.
func jitter(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause/2)
}

// do executes one part of a batch, all of it this node's, and tries again for as
// long as that is safe and ctx has not ended. What breaks a rule waits for nobody.
func (p *peer) do(ctx context.Context, ops []wire.Op, insist bool) ([]wire.Result, error) {
	request := wire.Request{Ops: ops}
	if err := request.Validate(); err != nil {
		return mark(ops, wire.NotRun), p.errorf("%w", err)
	}
	var last error // why it is tried again
	writes := slices.ContainsFunc(ops, func(op wire.Op) bool { return op.Kind.Writes() })
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		results, fate, err := p.try(ctx, &request)
		switch {
		case fate == answered:
			return results, nil
		case fate == lost && writes:
			p.cl.unknown.Add(1)
			return mark(ops, wire.Unknown), p.errorf("%w: %w", ErrUnknown, err)
		case ctx.Err() != nil && last != nil:
			if err != ctx.Err() { // it ended during the try
				last = err
			}
			return mark(ops, wire.NotRun), p.errorf("%w: %w", ctx.Err(), last)
		case fate == hopeless, err == ctx.Err(), err == ErrBusy && !insist:
			return mark(ops, wire.NotRun), p.errorf("%w", err)
		}
		last = err
		select {
		case <-time.After(jitter(pause)):
			p.cl.retries.Add(1)
		case <-ctx.Done():
			return mark(ops, wire.NotRun), p.errorf("%w: %w", ctx.Err(), err)
		case <-p.cl.ctx.Done():
			return mark(ops, wire.NotRun), ErrClosed
		}
	}
}

// A fate is what is known of a request after one try.
type fate int

const (
	answered fate = iota
	notRun        // certainly not applied; another try may help
	hopeless      // certainly not applied, and no other try will be
	lost          // sent whole, and not answered
)

// try sends a request once and waits for the answer.
func (p *peer) try(ctx context.Context, request *wire.Request) ([]wire.Result, fate, error) {
	if err := ctx.Err(); err != nil {
		return nil, hopeless, err
	}
	c, err := p.get(ctx, false)
	if err != nil {
		return nil, hopeless, err
	}
	release := c.Bind(ctx)
	defer release() // on every path: ctx may outlive the connection by far

	if err := c.WriteRequest(request); err != nil { // it breaks a rule
		p.release(c, release())
		return nil, hopeless, err
	}
	if !c.Flush() {
		p.release(c, false)
		return nil, notRun, p.why(ctx, c)
	}
	var response wire.Response
	if !c.ReadResponse(&response) {
		p.release(c, false)
		return nil, lost, p.why(ctx, c)
	}
	results, fate, err := p.judge(request.Ops, &response)
	good := fate == answered || response.Code == wire.Busy || response.Code == wire.WrongNode || response.Code == wire.Failed
	p.release(c, release() && good && !c.Spare()) // what is spare would be the next request's answer
	return results, fate, err
}

// release keeps a connection that is as good as before, and closes any other.
func (p *peer) release(c *conn, good bool) {
	if good {
		p.put(c)
	} else {
		c.close()
	}
}

// why says what ended a connection: who asked for it, or else what happened.
func (p *peer) why(ctx context.Context, c *conn) error {
	switch err := c.Err(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case p.cl.ctx.Err() != nil:
		return ErrClosed
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}

// judge says what an answer means. A server is malformed whose results are not as many
// as the operations, or are none that a server may give. One that answers Missing to a
// Put is mistaken: that is an answer, which the caller is to see and to judge.
func (p *peer) judge(ops []wire.Op, r *wire.Response) ([]wire.Result, fate, error) {
	switch r.Code {
	case wire.OK:
		if len(r.Results) != len(ops) {
			return nil, lost, fmt.Errorf("%w: %d results for %d operations", wire.ErrMalformed, len(r.Results), len(ops))
		}
		for i := range r.Results {
			if status := r.Results[i].Status; status < wire.Found || status > wire.TooLarge { // the client's own words
				return nil, lost, fmt.Errorf("%w: %v answered to a %v", wire.ErrMalformed, status, ops[i].Kind)
			}
			if r.Results[i].Status == wire.Found && r.Results[i].Value == nil {
				r.Results[i].Value = []byte{} // gob leaves an empty value out
			}
		}
		return r.Results, answered, nil
	case wire.Busy:
		p.cl.refusals.Add(1)
		return nil, notRun, ErrBusy
	case wire.Goodbye:
		return nil, notRun, errors.New("the server is stopping")
	case wire.WrongNode:
		return nil, hopeless, ErrWrongNode
	case wire.Invalid:
		return nil, hopeless, errors.New("the server calls the request invalid")
	case wire.Failed:
		return nil, lost, errors.New("the server failed inside the request")
	}
	return nil, lost, fmt.Errorf("the server answers with %v", r.Code)
}
