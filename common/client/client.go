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
	"errors"
	"maps"
	"net"
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
	// ErrFailed: the server failed inside the request.
	ErrFailed = errors.New("the server failed")
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
	DialContext control.DialFunc

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
// or the secret. With an error, the Client is closed, and only its Counts can be used.
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

// yield closes the idle connections to all nodes but the one that a call waits for:
// another client may be waiting for one of them, and holding what the call waits for.
func (cl *Client) yield(waits *peer) {
	for _, p := range cl.peers {
		if p != waits {
			p.drop(0)
		}
	}
}

// Stats asks a node for its statistics. The answer comes from its control port, so a
// stalled server gives it too.
func (cl *Client) Stats(ctx context.Context, node int) (metrics.Snapshot, error) {
	return Stats(ctx, cl.cfg, node)
}

// Stats is Client.Stats without a Client: it needs no connection to a service port.
func Stats(ctx context.Context, cfg cluster.Config, node int) (metrics.Snapshot, error) {
	return control.AskNode[metrics.Snapshot](ctx, cfg, node, wire.Stats)
}

// Lanes asks a node what its connections do in the next metrics.LaneTime.
func Lanes(ctx context.Context, cfg cluster.Config, node int) ([]metrics.LaneMark, error) {
	return control.AskNode[[]metrics.LaneMark](ctx, cfg, node, wire.Lanes)
}

// Counts returns what the Client has counted so far.
func (cl *Client) Counts() Counts {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return Counts{cl.dials.Load(), time.Duration(cl.dialing.Load()), cl.retries.Load(), cl.refusals.Load(), cl.unknown.Load(), cl.refused.Load(),
		maps.Clone(cl.failedDials)}
}

// dialFailed counts a dial that failed, by reason. What a server says is not used as a reason,
// since the number of reasons would then have no limit.
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
