package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"lockstep/common/client"
	"lockstep/common/cluster"
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

// codeErrors are what answers mean that have no results.
var codeErrors = map[wire.Code]error{
	wire.Busy:      Refusal{client.ErrBusy},
	wire.WrongNode: Refusal{client.ErrWrongNode},
	wire.Failed:    Refusal{errors.New("the server failed inside the request")},
	wire.Invalid:   Refusal{errors.New("the server calls the request invalid")},
	wire.Goodbye:   fmt.Errorf("%w: the server is stopping", errNotApplied),
}

func (f frames) Read(ops []wire.Op) (number uint64, results []wire.Result, err error) {
	var r wire.Response
	if !f.ReadResponse(&r) {
		return 0, nil, f.Err()
	}
	if slices.ContainsFunc(r.Results, func(r wire.Result) bool { return r.Status < wire.Found || r.Status > wire.TooLarge }) {
		return 0, nil, fmt.Errorf("%w: an answer with the status of a client", wire.ErrMalformed)
	}
	switch {
	case r.Code == wire.Failed && wire.Writes(ops):
		return 0, nil, Refusal{fmt.Errorf("%w: %w", client.ErrUnknown, codeErrors[r.Code])}
	case r.Code != wire.OK:
		return 0, nil, cmp.Or(codeErrors[r.Code], fmt.Errorf("%w: %q in an answer", wire.ErrMalformed, r.Code))
	}
	return 0, r.Results, nil
}
