package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// Pipelined is the name of the clients that Dial of this package returns.
const Pipelined = "pipeline"

// A Target is the servers that a load is put on: those of Lockstep, or a yardstick.
type Target interface {
	// Config returns the addresses and the workload.
	Config() cluster.Config
	// Dial returns a client that is connected to all nodes. One beside an error is closed,
	// and has only its Counts.
	Dial(ctx context.Context) (Client, error)
	// Open returns a client for one request, which need not be connected yet.
	Open(ctx context.Context) (Client, error)
	// Client names what Dial returns, for the report: client.Client, or Pipelined.
	Client() string
	// Stats returns what each server has counted so far, or nothing if that is not known.
	Stats(ctx context.Context) ([]metrics.Snapshot, error)
}

// A Client sends requests. Its methods are those of client.Client.
type Client interface {
	Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error)
	Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error)
	Counts() client.Counts // Dialing, Refusals and Refused at least
	Close() error
}

type lockstep struct{ cfg cluster.Config }

// NewLockstep returns the Target of the servers that cfg names.
func NewLockstep(cfg cluster.Config) Target { return lockstep{cfg} }

func (t lockstep) Config() cluster.Config { return t.cfg }

func (t lockstep) Dial(ctx context.Context) (Client, error) {
	if t.cfg.Workload.Depth > 1 {
		return Dial(ctx, t.cfg, t.greeted)
	}
	return client.Dial(ctx, t.cfg)
}

func (t lockstep) Client() string {
	if t.cfg.Workload.Depth > 1 {
		return Pipelined
	}
	return "client.Client"
}

func (t lockstep) Open(context.Context) (Client, error) { return client.New(t.cfg), nil }

func (t lockstep) Stats(ctx context.Context) ([]metrics.Snapshot, error) {
	var nodes []metrics.Snapshot
	for i := range t.cfg.Nodes {
		snapshot, err := client.Stats(ctx, t.cfg, i)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, snapshot)
	}
	return nodes, nil
}

// greeted waits for a node's greeting and returns the codec of its frames.
func (t lockstep) greeted(ctx context.Context, node int, nc net.Conn) (Codec, error) {
	conn, err := wire.Open(ctx, nc, t.cfg.Hello(node), wire.Limits{Frame: t.cfg.Server.FrameTimeout})
	return frames{conn}, err
}

// frames is the Codec of Lockstep. Answers come in the order of the requests.
type frames struct{ *wire.Conn }

func (f frames) Append(dst []byte, _ uint64, ops []wire.Op) ([]byte, error) {
	return wire.AppendRequest(dst, &wire.Request{Ops: ops})
}

func (f frames) Read(ops []wire.Op) (number uint64, results []wire.Result, err error) {
	var r wire.Response
	if !f.ReadResponse(&r) {
		return 0, nil, f.Err()
	}
	results, _, err = client.Judge(ops, &r)
	switch r.Code {
	case wire.Goodbye:
		err = fmt.Errorf("%w: %w", errNotApplied, err)
	case wire.Busy, wire.WrongNode, wire.Invalid:
		err = Refusal{err}
	case wire.Failed:
		if wire.Writes(ops) {
			err = fmt.Errorf("%w: %w", client.ErrUnknown, err)
		}
		err = Refusal{err}
	}
	return 0, results, err
}

// A pipeline is a client with one connection to each node, on which as many requests are
// in flight as there are calls. It keeps the promises of client.Client.
type pipeline struct {
	cfg   cluster.Config
	open  Opener
	nodes []*peer

	dialTime, refusals, refused atomic.Int64
}

// Dial connects to the nodes of cfg in ascending order, as client.Dial does, and returns a
// client that has as many requests in flight on each connection as there are calls. While a
// node is silent, Dial gives back its other connections every few seconds and starts over:
// another client may wait for one of them, and hold the node.
func Dial(ctx context.Context, cfg cluster.Config, open Opener) (Client, error) {
	pl := &pipeline{cfg: cfg, open: open}
	for i := range cfg.Nodes {
		pl.nodes = append(pl.nodes, &peer{pl: pl, number: i})
	}
	down := 0
	for i := 0; i < len(pl.nodes); i++ {
		switch _, err := pl.nodes[i].connect(ctx, i > down); {
		case errors.Is(err, client.ErrDown) && down+1 < len(pl.nodes):
			down++
		case err == client.ErrNotGreeted:
			pl.Close()
			i, down = -1, 0
		case err != nil:
			pl.Close()
			return pl, fmt.Errorf("%w (node %d, %s)", err, i, cfg.Nodes[i].Addr)
		}
	}
	return pl, nil
}

func (pl *pipeline) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return pl.do(ctx, ops, true)
}

func (pl *pipeline) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return pl.do(ctx, ops, false)
}

func (pl *pipeline) Counts() client.Counts {
	return client.Counts{Dialing: time.Duration(pl.dialTime.Load()), Refusals: pl.refusals.Load(), Refused: pl.refused.Load()}
}

// Close ends the connections. No call may be in progress.
func (pl *pipeline) Close() error {
	for _, p := range pl.nodes {
		if p.stream != nil {
			p.stream.nc.Close()
			p.stream = nil
		}
	}
	return nil
}

// do sends each node its part of the operations.
func (pl *pipeline) do(ctx context.Context, ops []wire.Op, insist bool) ([]wire.Result, error) {
	if len(pl.nodes) == 1 {
		return pl.nodes[0].do(ctx, ops, insist)
	}
	owners := make([]int, len(ops))
	for i := range ops {
		owners[i] = pl.cfg.Owner(ops[i].Key)
	}
	return client.Divide(owners, ops, func(node int, part []wire.Op) ([]wire.Result, error) {
		return pl.nodes[node].do(ctx, part, insist)
	})
}

// A peer is one node.
type peer struct {
	pl     *pipeline
	number int

	mu       sync.Mutex // guards what follows; held while dialling, as all calls need the connection
	stream   *stream    // nil before the first is greeted
	failing  time.Time  // since when no dial has reached the node; zero if the last did
	failures int        // of dials since the last greeting
}

// do sends a request, again for as long as that is safe and ctx has not ended. It returns a
// result for each operation.
func (p *peer) do(ctx context.Context, ops []wire.Op, insist bool) ([]wire.Result, error) {
	for tries := 0; ; tries++ {
		var results []wire.Result
		s, err := p.connect(ctx, false)
		if err == nil {
			results, err = s.do(ctx, ops)
		}
		fate, again := wire.NotRun, errors.Is(err, errNotApplied)
		switch {
		case err == nil:
			return results, nil
		case errors.Is(err, client.ErrUnknown):
			fate = wire.Unknown
		case errors.Is(err, client.ErrBusy):
			p.pl.refusals.Add(1)
			again = insist
		}
		if !again || ctx.Err() != nil {
			return slices.Repeat([]wire.Result{{Status: fate}}, len(ops)), err
		}
		control.Pause(ctx, client.Backoff(tries))
	}
}

// connect returns the connection to the node, and dials if there is none. It fails with
// client.ErrNotGreeted if the caller holds connections to others and the node is silent.
func (p *peer) connect(ctx context.Context, holding bool) (*stream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var full error // the server has no place for the connection
	for tries := 0; p.stream == nil || !p.stream.good(); tries++ {
		err := p.dial(ctx)
		if errors.Is(err, wire.ErrRefused) {
			p.pl.refused.Add(1)
			full = err
		}
		switch {
		case err == nil, errors.Is(err, wire.ErrMismatch):
			return p.stream, err
		case ctx.Err() != nil:
			return nil, cmp.Or(full, err)
		case holding && err == client.ErrNotGreeted:
			return nil, err
		case !client.Unreachable(err): // it is there, or this process is in trouble
			p.failing = time.Time{}
		case p.failing.IsZero():
			p.failing = time.Now()
		case time.Since(p.failing) >= client.DownAfter:
			return nil, fmt.Errorf("%w: %w", client.ErrDown, err)
		}
		control.Pause(ctx, client.Backoff(tries))
	}
	return p.stream, nil
}

// dial makes one connection and waits for its greeting, longer after each failure but not
// for good: a greeting can be lost.
func (p *peer) dial(ctx context.Context) error {
	start := time.Now()
	nc, err := (&net.Dialer{Timeout: client.DialTimeout}).DialContext(ctx, "tcp", p.pl.cfg.Nodes[p.number].Addr)
	if err != nil {
		return err
	}
	greeting, cancel := context.WithTimeoutCause(ctx, client.Patience(p.failures), client.ErrNotGreeted)
	defer cancel()
	codec, err := p.pl.open(greeting, p.number, nc)
	if err != nil {
		nc.Close()
		p.failures++
		return cmp.Or(context.Cause(greeting), err)
	}
	p.pl.dialTime.Add(int64(time.Since(start)))
	p.stream, p.failing, p.failures = &stream{codec: codec, nc: nc, idleSince: time.Now()}, time.Time{}, 0
	return nil
}
