// Package node is one server process without its concurrency: flags, configuration,
// the barrier, accepting and greeting, answering, the drain, the statistics. A stage
// adds how many goroutines do this, and what guards the table:
//
//	func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
//		s := newStore(n)
//		for {
//			c, err := n.Accept(ctx, ln)
//			if err != nil {
//				return err
//			}
//			for c.Ready() {
//				n.Answer(c, s.apply)
//				c.Flush()
//			}
//			c.Close()
//		}
//	}
//
// Errors stick to the connection: after one, Ready returns false.
//
// Requests of more than 4 KiB share 4 MiB of memory for their decoded form and their
// results. While there is not enough, the next one waits before it is decoded, its
// frame in the connection's buffer. None is refused for that, and Stats.MemoryWait counts
// how long they waited.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/table"
	"lockstep/common/text"
	"lockstep/common/wire"
)

const (
	// A turn has at most turnRequests requests and, not counting the first one's, turnOps
	// operations. So a client with thousands of requests in flight delays the others by
	// one turn at a time.
	turnRequests, turnOps = 16, 64

	// The next turn of a refused connection begins after a pause, which doubles from
	// firstPause to lastPause while it is refused. So a client that ignores Busy gains
	// nothing over one that backs off.
	firstPause, lastPause = time.Millisecond, 32 * time.Millisecond
)

// ErrStopped is what Accept returns at the end of its context. Main treats it as success.
var ErrStopped = errors.New("node: stopped")

// A Serve function is a stage: it accepts connections from ln and answers their requests
// until Accept fails, and returns that error when all its goroutines have ended.
type Serve func(ctx context.Context, ln net.Listener, n *Node) error

// A Node is one server process of the cluster, as its stage sees it. Its methods
// are safe for concurrent use.
type Node struct {
	Config cluster.Config
	Self   int // the node's number: its index in Config.Nodes
	Log    *slog.Logger
	Stats  *metrics.Stats

	served    atomic.Bool       // the barrier was passed
	memory    *budget           // for requests that are being executed
	turns     sync.Pool         // *turn: their memory is used again
	strangers control.Strangers // connections that do not count toward max_connections yet

	broken context.Context // ends when Accept fails, and every connection with it
	fail   context.CancelFunc
}

// New returns node number self of the cluster.
func New(cfg cluster.Config, self int, log *slog.Logger) *Node {
	n := &Node{Config: cfg, Self: self, Log: log.With("node", self), Stats: new(metrics.Stats)}
	n.strangers.Most = control.MaxStrangers
	n.memory = newBudget(decodedMemory, &n.Stats.MemoryWait)
	n.turns.New = func() any { return new(turn) }
	n.broken, n.fail = context.WithCancel(context.Background())
	return n
}

// NewTable returns an empty table that does the work this server was configured with
// and counts its time and its keys in the node's statistics. It is not safe for concurrent use.
func (n *Node) NewTable() *table.Table { return table.New(n.Config.Server.Work, n.Stats) }

// A Conn is a greeted connection to a client. One goroutine at a time uses it.
type Conn struct {
	*wire.Conn
	node     *Node
	nc       net.Conn
	lane     int64           // its number among all connections of the node
	ctx      context.Context // of Accept
	unbind   func()          // unties the connection from what stops it: contexts, and newer strangers
	admitted bool            // counts toward max_connections, and is no longer among the strangers
	closed   bool
	pause    time.Duration // before the next turn; 0 unless the last one was refused
	readyAt  time.Duration // when Ready last returned
}

// Accept waits for a client and greets it. When ctx ends it closes ln and returns
// ErrStopped. The end of ctx also ends the connections that Accept has returned: each
// answers the requests that have arrived, then its Ready returns false. Any other error
// ends them in the same way. After an error that may pass, such as too many open files,
// Accept waits and tries again, as net/http does; past max_connections it refuses clients.
//
// If there is a secret, a client that has not yet proved that it knows it does not count toward
// max_connections. It is a stranger; when there are too many strangers, the oldest is dropped,
// once it has had 200 ms. A client has 2 s to prove itself.
func (n *Node) Accept(ctx context.Context, ln net.Listener) (*Conn, error) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); ln.Close() })
	defer func() {
		if !stop() {
			<-closed
		}
	}()
	pause := 0 * time.Millisecond
	for ctx.Err() == nil {
		switch nc, err := ln.Accept(); {
		case err == nil:
			pause = 0
			if c := n.greet(ctx, nc); c != nil {
				return c, nil
			}
		case ctx.Err() != nil: // the end
		case !passes(err):
			n.fail()
			return nil, fmt.Errorf("accepting on %v: %w", ln.Addr(), err)
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			n.trouble("accept", "cannot accept connections, trying again", "err", err)
			control.Pause(ctx, pause)
		}
	}
	return nil, ErrStopped
}

// passes reports whether Accept may succeed after err: if net/http considers the error
// temporary, or the system reports anything (no memory for buffers, a client or a network
// that has gone) except that the listener itself cannot be used.
func passes(err error) bool {
	var temporary interface{ Temporary() bool }
	var errno syscall.Errno
	return errors.As(err, &temporary) && temporary.Temporary() ||
		errors.As(err, &errno) && !slices.Contains([]syscall.Errno{syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK}, errno)
}

// greet makes nc a Conn, or returns nil if the node is full or the client is gone.
func (n *Node) greet(ctx context.Context, nc net.Conn) *Conn {
	lane := n.Stats.Connections.Add(1)
	s := n.Config.Server
	if n.Stats.Open.Load() >= int64(s.MaxConnections) {
		full := fmt.Sprintf("all %d places are taken (max_connections)", s.MaxConnections)
		n.trouble("max_connections", "refused a connection", "from", nc.RemoteAddr(), "err", full)
		wire.Refuse(nc, full)
		return nil
	}
	limits := wire.Limits{Idle: s.IdleTimeout, Frame: s.FrameTimeout, Write: s.WriteTimeout, Drain: s.DrainTimeout / 2}
	wc, err := wire.Greet(nc, n.Config.Hello(n.Self), limits)
	if err != nil {
		n.connectionEnded(nc.RemoteAddr(), err)
		return nil
	}
	stopped, failed := context.AfterFunc(ctx, wc.Stop), context.AfterFunc(n.broken, wc.Stop)
	c := &Conn{Conn: wc, node: n, nc: nc, lane: lane, ctx: ctx, unbind: func() { stopped(); failed(); n.strangers.Remove(nc) }}
	if n.Config.Secret == "" {
		c.admit()
	} else {
		n.strangers.Add(ctx, nc)
	}
	return c
}

// admit waits for the client's proof and gives it a place. It reports whether there was one:
// others may have taken the last one since this client was greeted. Then it hears Goodbye and,
// when it tries again, why.
func (c *Conn) admit() bool {
	if !c.Prove() {
		return false
	}
	if s := c.node.Stats; s.Open.Add(1) > int64(c.node.Config.Server.MaxConnections) {
		s.Open.Add(-1)
		return false
	}
	c.node.strangers.Remove(c.nc)
	c.admitted = true
	return true
}

// Ready waits until the client has sent a whole request. It returns false at the end
// of the connection: the client has left, broken the protocol or missed a deadline, or
// the context of Accept has ended and all that had arrived is answered. After a refused
// turn it pauses first, unless that context has ended. Ready panics if answers were written
// and not flushed, since their client would wait for them until it gives up.
func (c *Conn) Ready() bool {
	if c.Unsent() > 0 {
		panic("node: answers were written and not flushed: call Flush after Answer and Refuse")
	}
	if c.pause > 0 {
		control.Pause(c.ctx, c.pause)
	}
	c.node.Stats.Lanes.Recording().Mark(c.lane, metrics.Idle)
	ready := (c.admitted || c.admit()) && c.Conn.Ready()
	c.readyAt = metrics.Now()
	c.node.Stats.Lanes.Recording().Mark(c.lane, metrics.Queued)
	return ready
}

// Close ends the connection, with a Goodbye if the client is still there.
func (c *Conn) Close() error {
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	err := c.Conn.Close()
	c.unbind()
	if c.admitted {
		c.node.Stats.Open.Add(-1)
	}
	c.node.connectionEnded(c.RemoteAddr(), c.Err())
	return err
}

// connectionEnded counts and logs why a connection ended, unless it ended as it should.
func (n *Node) connectionEnded(client net.Addr, why error) {
	kind := "lost"
	switch {
	case why == nil, why == io.EOF, why == wire.ErrStopped, why == wire.ErrIdle:
		return
	case errors.Is(why, wire.ErrSecret):
		kind = "secret"
	case errors.Is(why, net.ErrClosed):
		kind, why = "stranger", errors.New("it proved nothing, and gave way to a newer one")
	case errors.Is(why, wire.ErrSlow):
		kind = "slow"
	case errors.Is(why, wire.ErrMalformed):
		kind = "malformed"
	}
	n.trouble(kind, "ended the connection", "from", client, "err", why)
}

// trouble counts an error by its kind and logs it.
func (n *Node) trouble(kind, msg string, args ...any) {
	n.Stats.Error(kind)
	n.Log.Warn(msg, args...)
}

// A turn is what Answer works on: one request at a time.
type turn struct {
	request  wire.Request
	response wire.Response
}

// Answer answers the requests that c has ready, in order, within the bounds of a turn and
// until MaxUnsent bytes of answers wait for c.Flush. It decodes and validates each request,
// checks that this node owns its keys, has apply execute it, and encodes the results. A large
// request waits for memory before it is decoded (see budget). Apply must not keep the
// operations, whose memory the next request uses; it may keep their Values. A panic inside
// apply is answered Failed and goes no further.
func (n *Node) Answer(c *Conn, apply func([]wire.Op) []wire.Result) {
	begun := metrics.Now()
	n.Stats.QueueWait.Add(begun - c.readyAt)
	c.pause = 0
	t, room := n.turns.Get().(*turn), turnOps
	lanes := n.Stats.Lanes.Recording()
	for i := 0; i < turnRequests; i++ {
		ops, cost, whole := c.Next()
		if i > 0 {
			room -= ops
		}
		if !whole || room < 0 || c.Unsent() >= wire.MaxUnsent {
			break
		}
		n.memory.take(cost)
		if c.ReadRequest(&t.request) {
			lanes.Begin(c.lane, &t.request.Ops[0])
			t.response = n.answer(t.request.Ops, apply)
			c.WriteResponse(&t.response)
			clear(t.request.Ops) // the list is kept, what was in it is not
			t.response.Results = nil
		}
		n.memory.give(cost)
	}
	n.turns.Put(t)
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
			line, calls := describe(p)
			n.Stats.Fault("panic", line)
			n.Log.Error(line + calls)
			r = wire.Response{Code: wire.Failed}
		}
	}()
	results := apply(ops)
	if len(results) != len(ops) {
		panic(fmt.Sprintf("apply answered %s with %s", text.Plural(int64(len(ops)), "operation"), text.Plural(int64(len(results)), "result")))
	}
	n.Stats.Requests.Add(1)
	n.Stats.Ops.Add(int64(len(ops)))
	return wire.Response{Code: wire.OK, Results: results}
}

// Refuse answers Busy to the requests that c has ready, up to a turn's worth, without
// decoding them. The next Ready pauses.
func (n *Node) Refuse(c *Conn) {
	c.pause = min(max(2*c.pause, firstPause), lastPause)
	for i := 0; i < turnRequests && c.SkipRequest(); i++ {
		n.Stats.Refusals.Add(1)
		c.WriteResponse(&wire.Response{Code: wire.Busy})
	}
}

const (
	// decodedMemory is how many bytes large requests may use together while they are
	// decoded and executed and their answers encoded. The largest request uses 272 KiB,
	// so a pool of 15 workers never waits for memory. In a stage where every connection
	// decodes and then waits for one lock, all of them would hold a decoded request.
	decodedMemory = 4 << 20

	// Requests of up to smallRequest bytes bypass the budget; nearly all do.
	smallRequest = 4 << 10
)

// A budget bounds the memory that requests use together, as wire.Conn.Next computes it for
// each of them. Memory is taken before a request is decoded and before any lock, and given
// back before anything is sent, so a holder never waits for another and deadlock is
// impossible.
type budget struct {
	wait *metrics.Timer // of requests that are not small
	turn chan struct{}  // held while waiting for memory, so that a large request is not overtaken
	mu   sync.Mutex     // guards free
	more sync.Cond      // free has grown
	free int            // bytes
}

func newBudget(bytes int, wait *metrics.Timer) *budget {
	b := &budget{wait: wait, turn: make(chan struct{}, 1), free: bytes}
	b.more.L = &b.mu
	return b
}

// take waits until the bytes are free and takes them. Small requests take none.
func (b *budget) take(bytes int) {
	if bytes <= smallRequest {
		return
	}
	asked := metrics.Now()
	defer func() { b.wait.Add(metrics.Now() - asked) }()
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.free < bytes {
		b.more.Wait()
	}
	b.free -= bytes
}

// give returns bytes that take took.
func (b *budget) give(bytes int) {
	if bytes <= smallRequest {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += bytes
	b.more.Signal() // at most one waits: the holder of turn
}
