package load

import (
	"context"
	"errors"
	"fmt"
	"net"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A Target is the servers that a load is put on: those of Lockstep, or a yardstick.
type Target interface {
	// Config returns the addresses and the workload.
	Config() cluster.Config
	// Dial returns a client that is connected to all nodes.
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
	Counts() client.Counts // Dialing and Refusals at least
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

// Open connects to all nodes first if a request may go to several of them. Otherwise, with
// servers that serve one client at a time, two requests could each hold one server and
// wait for the other forever.
func (t lockstep) Open(ctx context.Context) (Client, error) {
	if len(t.cfg.Nodes) > 1 && t.cfg.Workload.Batch > 1 {
		return t.Dial(ctx)
	}
	return client.New(t.cfg), nil
}

func (t lockstep) Stats(ctx context.Context) ([]metrics.Snapshot, error) {
	return StatsOf(ctx, t.cfg)
}

// StatsOf returns what each node of a cluster has counted.
func StatsOf(ctx context.Context, cfg cluster.Config) (nodes []metrics.Snapshot, err error) {
	for i := range cfg.Nodes {
		snapshot, err := client.Stats(ctx, cfg, i)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, snapshot)
	}
	return nodes, nil
}

// greeted waits for a node's greeting and returns the codec of its frames.
func (t lockstep) greeted(ctx context.Context, node int, nc net.Conn) (Codec, error) {
	conn, err := wire.Open(ctx, nc, wire.Hello{Purpose: wire.Service, Group: "nodes", Number: node,
		Fingerprint: t.cfg.Fingerprint(), Secret: t.cfg.Secret}, wire.Limits{Frame: t.cfg.Server.FrameTimeout})
	return frames{conn}, err
}

// frames is the Codec of Lockstep. Answers come in the order of the requests.
type frames struct{ conn *wire.Conn }

func (f frames) Append(dst []byte, _ uint64, ops []wire.Op) ([]byte, error) {
	return wire.AppendRequest(dst, &wire.Request{Ops: ops})
}

func (f frames) Buffered() int {
	if f.conn.Spare() {
		return 1
	}
	return 0
}

// codeErrors are what answers mean that have no results.
var codeErrors = map[wire.Code]error{
	wire.Busy:      Refusal{client.ErrBusy},
	wire.WrongNode: Refusal{client.ErrWrongNode},
	wire.Failed:    Refusal{fmt.Errorf("%w: the server failed inside the request", client.ErrUnknown)},
	wire.Invalid:   Refusal{errors.New("the server calls the request invalid")},
	wire.Goodbye:   errGoodbye,
}

func (f frames) Read([]wire.Op) (number uint64, results []wire.Result, err error) {
	var r wire.Response
	if !f.conn.ReadResponse(&r) {
		return 0, nil, f.conn.Err()
	}
	for i := range r.Results {
		if s := r.Results[i].Status; s < wire.Found || s > wire.TooLarge { // the others are a client's
			return 0, nil, fmt.Errorf("%w: status %q in an answer", wire.ErrMalformed, s)
		}
	}
	if err = codeErrors[r.Code]; err == nil && r.Code != wire.OK {
		err = fmt.Errorf("%w: %q in an answer", wire.ErrMalformed, r.Code)
	}
	return 0, r.Results, err
}
