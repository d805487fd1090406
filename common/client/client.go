// Package client is the client of a cluster: it knows which node owns a key,
// keeps connections, tries again where that is safe, and says of every operation
// what became of it.
//
// What is safe to repeat: an operation that was certainly not applied (the
// connection was never greeted; the request was not sent whole; the server said
// Busy; it said Goodbye before it answered), and a read. It is repeated, with
// jittered exponential backoff, until the context ends. A write that was sent and
// never answered is not: another client's write may stand between its two
// applications. It returns ErrUnknown, and the caller decides.
//
// A node that has refused connections for a second is down: its calls return
// ErrDown at once, while a probe looks for its return every 250 ms.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/common/barrier"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

var (
	// ErrUnknown: a write was sent and not answered. It may have been applied,
	// may still be, or never will.
	ErrUnknown = errors.New("outcome unknown")
	// ErrBusy: the server had too much to do, and did not apply the request.
	ErrBusy = errors.New("server busy")
	// ErrDown: the node refuses connections. Nothing was applied.
	ErrDown = errors.New("node down")
	// ErrWrongNode: the server says that a key is not its own. Nothing was applied.
	ErrWrongNode = errors.New("wrong node")
	// ErrClosed: the Client is closed.
	ErrClosed = errors.New("client closed")
)

// Counts is what a Client has counted since Dial.
type Counts struct {
	Dials    int64         // connections that were greeted
	Dialing  time.Duration // that took, in all, refused tries aside
	Retries  int64         // requests sent again
	Refusals int64         // Busy answers
	Unknown  int64         // requests whose outcome is unknown
}

// A Client talks to all nodes of a cluster. Safe for concurrent use: calls share
// its connections, one call at a time on each.
type Client struct {
	// DialContext connects to a node; by default over TCP. Whoever sets it does so
	// after New, before the first call.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	peers  []*peer
	cfg    cluster.Config
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	work   sync.WaitGroup // dials and probes; they end when ctx does

	dials, dialing, retries, refusals, unknown atomic.Int64
}

// New returns a Client that connects to a node when it first needs to. cfg must be
// valid, as cluster.Load returns it.
func New(cfg cluster.Config) *Client {
	cl := &Client{cfg: cfg, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext}
	cl.ctx, cl.cancel = context.WithCancel(context.Background())
	for i := range cfg.Nodes {
		cl.peers = append(cl.peers, newPeer(cl, i))
	}
	return cl
}

// Dial returns a Client that is connected to the nodes of cfg: it dials them in
// ascending order, and waits to be greeted by each until ctx ends. Two clients of
// servers that take one client at a time then cannot each hold the node that the
// other waits for. A node that is down does not keep Dial from succeeding, unless
// all are; one that disagrees about the cluster, the program or the secret does.
func Dial(ctx context.Context, cfg cluster.Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cl := New(cfg)
	down := 0
	for _, p := range cl.peers {
		c, err := p.get(ctx, true)
		switch {
		case err == nil:
			p.put(c)
		case errors.Is(err, ErrDown) && down+1 < len(cfg.Nodes):
			down++
		default:
			cl.Close()
			return nil, p.errorf("%w", err)
		}
	}
	return cl, nil
}

// Get returns the value stored under key, and whether there is one. A stored
// empty value is not nil.
func (cl *Client) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.Get, Key: key})
	if r.Status != wire.Found {
		return nil, false, err
	}
	return r.Value, true, err
}

// Put stores value under key, and reports whether the key is new.
func (cl *Client) Put(ctx context.Context, key string, value []byte) (created bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.Put, Key: key, Value: value})
	return r.Status == wire.Created, err
}

// Delete removes key, and reports whether it was there.
func (cl *Client) Delete(ctx context.Context, key string) (existed bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.Delete, Key: key})
	return r.Status == wire.Deleted, err
}

// CompareAndSwap stores new under key if old is stored there, or, where old is
// nil, if nothing is; and reports whether it did.
func (cl *Client) CompareAndSwap(ctx context.Context, key string, old, new []byte) (swapped bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.CompareAndSwap, Key: key, Value: new, Old: old, Absent: old == nil})
	return r.Status == wire.Swapped, err
}

func (cl *Client) one(ctx context.Context, op wire.Op) (wire.Result, error) {
	results, err := cl.Do(ctx, op)
	return results[0], err
}

// Do executes ops, the part of each node as one atomic step there, and the parts
// independently of each other. It always returns one result for each operation,
// in order: what the node answered, or Unknown, or NotRun. err joins the parts'
// errors, and is nil only if every operation was answered.
func (cl *Client) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return cl.do(ctx, ops, true)
}

// Once is Do, but a part that is answered Busy is not tried again: it is NotRun,
// with ErrBusy.
func (cl *Client) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return cl.do(ctx, ops, false)
}

func (cl *Client) do(ctx context.Context, ops []wire.Op, insist bool) ([]wire.Result, error) {
	if len(ops) == 0 {
		return nil, nil
	}
	first := cl.cfg.Owner(ops[0].Key)
	if !slices.ContainsFunc(ops, func(op wire.Op) bool { return cl.cfg.Owner(op.Key) != first }) {
		return cl.peers[first].do(ctx, ops, insist)
	}
	parts := make(map[int][]int) // node: its operations, by their place in ops
	for i := range ops {
		owner := cl.cfg.Owner(ops[i].Key)
		parts[owner] = append(parts[owner], i)
	}
	results := make([]wire.Result, len(ops))
	errs := make([]error, len(cl.peers))
	var wg sync.WaitGroup
	for owner, which := range parts {
		wg.Go(func() {
			part := make([]wire.Op, len(which))
			for j, i := range which {
				part[j] = ops[i]
			}
			answers, err := cl.peers[owner].do(ctx, part, insist)
			for j, i := range which {
				results[i] = answers[j]
			}
			errs[owner] = err
		})
	}
	wg.Wait()
	return results, errors.Join(errs...)
}

// mark returns the same status for each operation.
func mark(ops []wire.Op, status wire.Status) []wire.Result {
	results := make([]wire.Result, len(ops))
	for i := range results {
		results[i].Status = status
	}
	return results
}

// Stats asks a node what it has counted. The answer comes from its control port:
// a server that is stalled still gives it.
func (cl *Client) Stats(ctx context.Context, node int) (metrics.Snapshot, error) {
	return Stats(ctx, cl.cfg, node)
}

// Stats is Client.Stats without a Client, and so without a connection to any
// service port.
func Stats(ctx context.Context, cfg cluster.Config, node int) (s metrics.Snapshot, err error) {
	if node < 0 || node >= len(cfg.Nodes) {
		return s, fmt.Errorf("there is no node %d: nodes are 0 to %d", node, len(cfg.Nodes)-1)
	}
	addr := cfg.Nodes[node].Control
	answer, err := barrier.AskStats(ctx, addr, "nodes", node, cfg.Secret)
	if err == nil {
		err = json.Unmarshal(answer, &s)
	}
	if err != nil {
		err = fmt.Errorf("asking node %d (%s) for its statistics: %w", node, addr, err)
	}
	return s, err
}

// Counts returns what the Client has counted so far.
func (cl *Client) Counts() Counts {
	return Counts{cl.dials.Load(), time.Duration(cl.dialing.Load()), cl.retries.Load(), cl.refusals.Load(), cl.unknown.Load()}
}

// Close ends all connections, and calls in progress with ErrClosed: what is not
// answered by then is Unknown. It waits for the Client's goroutines.
func (cl *Client) Close() error {
	cl.cancel()
	for _, p := range cl.peers {
		p.close()
	}
	cl.work.Wait()
	return nil
}
