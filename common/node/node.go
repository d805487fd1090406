// Package node is one server process, all of it but its concurrency: flags,
// configuration, the barrier, accepting and greeting, answering, the drain, the
// statistics. What is left for a stage is how many goroutines do this, and what
// guards the table:
//
//	func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
//		store := newStore(n)
//		for {
//			c, err := n.Accept(ctx, ln)
//			if c == nil {
//				return err
//			}
//			for c.Ready() {
//				n.Answer(c, store.apply)
//				c.Flush()
//			}
//			c.Close()
//		}
//	}
//
// Errors stick to the connection: after one, Ready says false.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// Serve is what a stage is: it accepts connections from ln and answers their
// requests until ctx ends, and returns when all its goroutines have.
type Serve func(ctx context.Context, ln net.Listener, n *Node) error

// A Node is one server process of the cluster, as its stage sees it. Its methods
// are safe for concurrent use.
type Node struct {
	Config cluster.Config
	Self   int // its number: its place in Config.Nodes
	Log    *slog.Logger
	Stats  *metrics.Stats

	served atomic.Bool // past the barrier, ever
	memory *budget     // for requests that are decoded

	mu      sync.Mutex         // guards what follows
	open    map[*Conn]struct{} // accepted and not closed
	network limiter            // of lines about connections
	panics  limiter            // of lines about panics
}

// New returns node number self of the cluster.
func New(cfg cluster.Config, self int, log *slog.Logger) *Node {
	return &Node{
		Config: cfg, Self: self, Log: log.With("node", self), Stats: new(metrics.Stats),
		memory: newBudget(decodedMemory), open: make(map[*Conn]struct{}),
	}
}

// NewTable returns an empty table that does this server's work and whose time is
// counted in its statistics. It is not safe for concurrent use.
func (n *Node) NewTable() *table.Table {
	return table.New(n.Config.Server.Work, &n.Stats.Table)
}

// A Conn is a greeted connection to a client. One goroutine at a time uses it.
type Conn struct {
	*wire.Conn
	node    *Node
	unbind  func() bool
	readyAt time.Duration // when Ready last said true
}

// Accept waits for a client and greets it. It returns nil and no error when ctx
// ends, and then ends the connections it has returned too: each answers what has
// arrived by then, and its Ready says false. Where there are too many open files
// it waits, as net/http does; past max_connections it turns clients away.
func (n *Node) Accept(ctx context.Context, ln net.Listener) (*Conn, error) {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	pause := 0 * time.Millisecond
	for ctx.Err() == nil {
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			if c := n.greet(ctx, nc); c != nil {
				return c, nil
			}
			continue
		}
		if ctx.Err() != nil {
			break
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			n.stopAll()
			return nil, fmt.Errorf("accepting on %v: %w", ln.Addr(), err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		n.trouble("accept", "cannot accept; trying again", "err", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil, nil
}

// greet makes nc a Conn, or nil where there is no place for it or it is gone.
func (n *Node) greet(ctx context.Context, nc net.Conn) *Conn {
	n.Stats.Connections.Add(1)
	limit := n.Config.Server.MaxConnections
	n.mu.Lock()
	full := len(n.open) >= limit
	n.mu.Unlock()
	if full {
		n.trouble("max_connections", "turned a client away", "client", nc.RemoteAddr(), "max_connections", limit)
		wire.Refuse(nc, fmt.Sprintf("all %d places are taken (max_connections)", limit))
		return nil
	}
	wc, err := wire.Greet(nc, n.hello(), n.limits())
	if err != nil {
		n.trouble("lost", "a connection ended", "client", nc.RemoteAddr(), "err", err)
		return nil
	}
	c := &Conn{Conn: wc, node: n}
	n.mu.Lock()
	n.open[c] = struct{}{}
	n.mu.Unlock()
	n.Stats.Open.Add(1)
	c.unbind = context.AfterFunc(ctx, c.Stop)
	return c
}

func (n *Node) hello() wire.Hello {
	return wire.Hello{Purpose: wire.Service, Group: "nodes", Number: n.Self,
		Fingerprint: n.Config.Fingerprint(), Secret: n.Config.Secret}
}

func (n *Node) limits() wire.Limits {
	s := n.Config.Server
	return wire.Limits{Idle: s.IdleTimeout, Frame: s.FrameTimeout, Write: s.WriteTimeout, Drain: s.DrainTimeout / 2}
}

// stopAll ends every connection, as the end of Accept's ctx would.
func (n *Node) stopAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.open {
		c.Stop()
	}
}

// Ready waits until the client has sent a whole request. It says false at the
// end of the connection, whatever ended it.
func (c *Conn) Ready() bool {
	ready := c.Conn.Ready()
	c.readyAt = metrics.Now()
	return ready
}

// Close ends the connection, with a Goodbye if the client is still there.
func (c *Conn) Close() error {
	n := c.node
	c.unbind()
	err := c.Conn.Close()
	n.mu.Lock()
	_, open := n.open[c]
	delete(n.open, c)
	n.mu.Unlock()
	if !open {
		return net.ErrClosed
	}
	n.Stats.Open.Add(-1)
	switch ended := c.Err(); {
	case ended == nil, ended == io.EOF, ended == wire.ErrStopped, ended == wire.ErrIdle:
	case errors.Is(ended, wire.ErrSecret):
		n.trouble("secret", "a connection ended", "client", c.RemoteAddr(), "err", ended)
	case errors.Is(ended, wire.ErrSlow):
		n.trouble("slow", "a connection ended", "client", c.RemoteAddr(), "err", ended)
	case errors.Is(ended, wire.ErrMalformed):
		n.trouble("malformed", "a connection ended", "client", c.RemoteAddr(), "err", ended)
	default:
		n.trouble("lost", "a connection ended", "client", c.RemoteAddr(), "err", ended)
	}
	return err
}

// trouble counts an error by its kind, and logs it unless another was logged
// less than a second ago: a hostile network must not fill the disk. Panics have a
// clock of their own, so that it cannot hide them either.
func (n *Node) trouble(kind, msg string, args ...any) {
	n.Stats.Error(kind)
	n.mu.Lock()
	log := &n.network
	if kind == "panic" {
		log = &n.panics
	}
	muted := log.muted
	now := time.Now()
	quiet := now.Sub(log.last) < time.Second
	if quiet {
		log.muted++
	} else {
		*log = limiter{last: now}
	}
	n.mu.Unlock()
	if quiet {
		return
	}
	if muted > 0 {
		args = append(args, "unlogged_before", muted)
	}
	n.Log.Warn(msg, args...)
}

// A limiter remembers when a line was last logged, and how many were not since.
type limiter struct {
	last  time.Time
	muted int
}

// Answer answers the requests that c has ready, in order, until MaxUnsent bytes
// of answers wait for c.Flush: it decodes and validates each, makes sure that
// this node owns its keys, has apply execute it, and encodes the results. A large
// request waits, before it is decoded, until there is memory for it (see budget). A
// panic inside apply is answered Failed, and goes no further.
func (n *Node) Answer(c *Conn, apply func([]wire.Op) []wire.Result) {
	begun := metrics.Now()
	n.Stats.QueueWait.Add(begun - c.readyAt)
	var request wire.Request
	for more := true; more && c.Unsent() < wire.MaxUnsent; {
		cost := c.NextCost()
		n.memory.take(cost)
		if more = c.ReadRequest(&request); more {
			response := n.answer(request.Ops, apply)
			c.WriteResponse(&response)
		}
		request.Ops = nil // not kept while the next one waits for memory
		n.memory.give(cost)
	}
	n.Stats.Turn.Add(metrics.Now() - begun)
}

func (n *Node) answer(ops []wire.Op, apply func([]wire.Op) []wire.Result) (r wire.Response) {
	for i := range ops {
		if n.Config.Owner(ops[i].Key) != n.Self {
			n.Stats.Error("wrong node")
			return wire.Response{Code: wire.WrongNode}
		}
	}
	defer func() {
		if p := recover(); p != nil {
			n.Stats.Panics.Add(1)
			n.trouble("panic", "a request panicked", "panic", p, "stack", string(debug.Stack()))
			r = wire.Response{Code: wire.Failed}
		}
	}()
	results := apply(ops)
	if len(results) != len(ops) {
		panic(fmt.Sprintf("apply answered %d operations with %d results", len(ops), len(results)))
	}
	n.Stats.Requests.Add(1)
	n.Stats.Ops.Add(int64(len(ops)))
	return wire.Response{Code: wire.OK, Results: results}
}

// Refuse answers Busy to the requests that c has ready, unread.
func (n *Node) Refuse(c *Conn) {
	for c.Unsent() < wire.MaxUnsent && c.SkipRequest() {
		n.Stats.Refusals.Add(1)
		c.WriteResponse(&wire.Response{Code: wire.Busy})
	}
}
