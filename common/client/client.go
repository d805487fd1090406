// Package client is the client of a cluster. It sends each operation to the node that
// owns the key, keeps connections, retries where that is safe, and reports the outcome
// of every operation.
//
// It is safe to retry a read, and an operation that was certainly not applied: the
// connection was never greeted, the request was not sent whole, or the server answered
// Busy or Goodbye. The client retries with jittered exponential backoff until the
// context ends. It never repeats a write that was sent and not answered, since another
// client's write may come between the two applications: it returns ErrUnknown, and the
// caller decides. Two answers are final for reads, too: that the server failed inside the
// request, and that the two ends disagree about the cluster (wire.ErrMismatch).
//
// A node that has refused connections for a second, or could not be reached, is down:
// calls to it return ErrDown at once, while a probe checks every 250 ms whether it is
// back. Trouble of this process, such as too many open files, says nothing about the node:
// calls wait for it to pass, and name it if their context ends first.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

var (
	// ErrUnknown: a write was sent and not answered. It may have been applied, may
	// be applied later, or may never be.
	ErrUnknown = errors.New("outcome unknown")
	// ErrBusy: the server was overloaded, and did not apply the request.
	ErrBusy = errors.New("server busy")
	// ErrDown: the node refuses connections or cannot be reached. Nothing was applied.
	ErrDown = errors.New("node down")
	// ErrWrongNode: the server does not own a key of the request. Nothing was applied.
	ErrWrongNode = errors.New("wrong node")
	// ErrClosed: the Client is closed.
	ErrClosed = errors.New("client closed")
)

// Counts is what a Client has counted since Dial.
type Counts struct {
	Dials    int64         // connections that were greeted
	Dialing  time.Duration // total time that these took, without failed tries
	Retries  int64         // tries after the first of each request
	Refusals int64         // Busy answers
	Unknown  int64         // requests whose outcome is unknown
	Refused  int64         // dials that a server had no place for

	FailedDials metrics.Tally // the other dials that failed, by reason
}

// A Client talks to all nodes of a cluster. Safe for concurrent use: calls share
// its connections, one call at a time on each.
type Client struct {
	// DialContext connects to a node, by default over TCP. It may be set after New
	// and before the first call.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	peers  []*peer
	cfg    cluster.Config
	ctx    context.Context // ends at Close, because of ErrClosed
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // dials and probes; they end when ctx does
	frames sync.Pool      // *[]byte: requests to a single node; their memory is used again

	dials, dialing, retries, refusals, unknown, refused atomic.Int64

	mu          sync.Mutex    // guards failedDials
	failedDials metrics.Tally // by reason
}

// New returns a Client that connects to a node on the first call that needs it. cfg
// must be valid, as cluster.Load returns it.
func New(cfg cluster.Config) *Client {
	cl := &Client{cfg: cfg, DialContext: (&net.Dialer{Timeout: DialTimeout}).DialContext}
	cl.ctx, cl.cancel = context.WithCancelCause(context.Background())
	cl.frames.New = func() any { return new([]byte) }
	for i := range cfg.Nodes {
		cl.peers = append(cl.peers, &peer{cl: cl, number: i, addr: cfg.Nodes[i].Addr})
	}
	return cl
}

// Dial returns a Client that is connected to the nodes of cfg. It dials them in
// ascending order and waits for each greeting until ctx ends. So two clients of servers
// that take one client at a time cannot each hold the node that the other waits for.
// Dial fails if all nodes are down, or if one disagrees about the cluster, the program
// or the secret. The Client beside an error is closed, and has only its Counts.
func Dial(ctx context.Context, cfg cluster.Config) (*Client, error) {
	cl, down := New(cfg), 0
	if err := cfg.Validate(); err != nil {
		cl.Close()
		return cl, err
	}
	for i, g := range cl.collect(ctx, cl.peers, true) {
		switch p := cl.peers[i]; {
		case g.err == nil:
			p.put(g.c, true)
		case errors.Is(g.err, ErrDown) && down+1 < len(cl.peers):
			down++
		default: // collect has ended here
			cl.Close()
			return cl, p.error(g.err)
		}
	}
	return cl, nil
}

// Get returns the value stored under key, and reports whether there is one. An empty
// value that is stored is not nil.
func (cl *Client) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.Get, Key: key})
	return r.Value, r.Status == wire.Found, err
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

// CompareAndSwap stores new under key if the stored value is old, or, if old is nil,
// if there is none. It reports whether it stored new.
func (cl *Client) CompareAndSwap(ctx context.Context, key string, old, new []byte) (swapped bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.CompareAndSwap, Key: key, Value: new, Old: old, Absent: old == nil})
	return r.Status == wire.Swapped, err
}

func (cl *Client) one(ctx context.Context, op wire.Op) (wire.Result, error) {
	results, err := cl.Do(ctx, op)
	return results[0], err
}

// Do splits ops by node. Each node executes its part as one atomic step; the parts are
// independent of each other. Do always returns one result for each operation, in
// order: the node's answer, Unknown, or NotRun. The error joins the errors of the
// parts, and is nil only if every operation was answered.
//
// The limits of a request, such as wire.MaxOps operations, are those of the whole call,
// however many nodes there are. A call that exceeds one is not sent at all.
//
// Within a part every CompareAndSwap is checked against the state before the call. So two
// of one key that expect the same value both swap, and the second one's value stays.
func (cl *Client) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return cl.do(ctx, ops, true)
}

// Once is like Do, but does not retry a part that was answered Busy: its operations
// are NotRun, and the error is ErrBusy.
func (cl *Client) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return cl.do(ctx, ops, false)
}

func (cl *Client) do(ctx context.Context, ops []wire.Op, insist bool) ([]wire.Result, error) {
	if len(ops) == 0 {
		return nil, nil
	}
	owners := make([]int, len(ops))
	for i := range ops {
		owners[i] = cl.cfg.Owner(ops[i].Key)
	}
	if !slices.ContainsFunc(owners, func(owner int) bool { return owner != owners[0] }) {
		frame := cl.frames.Get().(*[]byte)
		defer cl.frames.Put(frame)
		var err error
		if *frame, err = wire.AppendRequest((*frame)[:0], &wire.Request{Ops: ops}); err != nil {
			return unanswered(wire.NotRun, ops), err
		}
		p := cl.peers[owners[0]]
		return p.do(ctx, p.get(ctx, false), ops, *frame, insist)
	}
	if err := (&wire.Request{Ops: ops}).Validate(); err != nil {
		return unanswered(wire.NotRun, ops), err
	}
	parts := make([][]wire.Op, len(cl.peers))
	for i, owner := range owners {
		parts[owner] = append(parts[owner], ops[i])
	}
	peers := slices.DeleteFunc(slices.Clone(cl.peers), func(p *peer) bool { return parts[p.number] == nil })
	answers, errs := make([][]wire.Result, len(cl.peers)), make([]error, len(cl.peers))
	var wg sync.WaitGroup
	for i, g := range cl.collect(ctx, peers, false) {
		p := peers[i]
		wg.Go(func() {
			part := parts[p.number]
			frame, _ := wire.AppendRequest(nil, &wire.Request{Ops: part}) // valid, as a part of what is
			answers[p.number], errs[p.number] = p.do(ctx, g, part, frame, insist)
		})
	}
	wg.Wait()
	results := make([]wire.Result, len(ops))
	for i, owner := range owners {
		results[i], answers[owner] = answers[owner][0], answers[owner][1:]
	}
	return results, errors.Join(errs...)
}

// collect takes a connection to each of the peers, which are in ascending order: a
// connection to a server that serves one client at a time is a lock, and two clients
// must not each hold the one that the other waits for. While a node does not greet, what
// is held is given back after a second and taken anew. A node without a connection does
// not keep the call from the others, unless strict, where only one that is down does not.
func (cl *Client) collect(ctx context.Context, peers []*peer, strict bool) []gotten {
	taken := make([]gotten, 0, len(peers))
	for len(taken) < len(peers) {
		p := peers[len(taken)]
		taken = append(taken, p.get(ctx, len(taken) > 0))
		switch err := taken[len(taken)-1].err; {
		case errors.Is(err, errYield):
			for i, g := range taken {
				peers[i].put(g.c, true)
			}
			taken = taken[:0]
			cl.yield(p)
		case strict && err != nil && !errors.Is(err, ErrDown):
			return taken
		}
	}
	return taken
}

// yield closes the idle connections to all nodes but the one that a call waits for:
// another client may wait for one of them, and hold what the call waits for.
func (cl *Client) yield(waits *peer) {
	for _, p := range cl.peers {
		if p != waits {
			p.drop(0)
		}
	}
}

// Stats asks a node for its statistics. The answer comes from its control port, so a
// stalled server gives it, too.
func (cl *Client) Stats(ctx context.Context, node int) (metrics.Snapshot, error) {
	return Stats(ctx, cl.cfg, node)
}

// Stats is Client.Stats without a Client, that is, without a connection to a service
// port.
func Stats(ctx context.Context, cfg cluster.Config, node int) (s metrics.Snapshot, err error) {
	if node < 0 || node >= len(cfg.Nodes) {
		return s, fmt.Errorf("no node %d: the nodes are 0 to %d", node, len(cfg.Nodes)-1)
	}
	addr := cfg.Nodes[node].Control
	answer, err := control.AskStats(ctx, addr, "nodes", node, cfg.Secret)
	if err == nil {
		err = json.Unmarshal(answer, &s)
	}
	if err != nil {
		err = fmt.Errorf("%w (asking node %d, %s, for its statistics)", err, node, addr)
	}
	return s, err
}

// Counts returns what the Client has counted so far.
func (cl *Client) Counts() Counts {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return Counts{cl.dials.Load(), time.Duration(cl.dialing.Load()), cl.retries.Load(), cl.refusals.Load(), cl.unknown.Load(), cl.refused.Load(),
		maps.Clone(cl.failedDials)}
}

// dialFailed counts a dial that failed. What a server that was reached has said is no reason:
// there would be no end to them.
func (cl *Client) dialFailed(err error) {
	reason := "not greeted"
	if op := new(net.OpError); errors.As(err, &op) && op.Op == "dial" {
		for err = op.Err; err != nil; err = errors.Unwrap(err) {
			reason = err.Error() // the innermost names no addresses
		}
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.failedDials.Add(metrics.Tally{reason: 1})
}

// Close closes all connections and waits for the Client's goroutines. Calls in
// progress fail with ErrClosed, and their unanswered writes are Unknown. The error is
// always nil.
func (cl *Client) Close() error {
	cl.cancel(ErrClosed)
	cl.yield(nil)
	cl.work.Wait()
	return nil
}
