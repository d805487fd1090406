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

// A Target is what a load is put on: servers of Lockstep, or a yardstick.
type Target interface {
	// Config has the addresses, and what is asked for.
	Config() cluster.Config
	// Dial returns a client that is connected to all nodes.
	Dial(ctx context.Context) (Client, error)
	// Open returns a client for one request, which may not be connected yet.
	Open(ctx context.Context) (Client, error)
	// Stats returns what each server has counted so far; none where that is not known.
	Stats(ctx context.Context) ([]metrics.Snapshot, error)
}

// An Client is a client as a load needs it: client.Client says what its methods do.
type Client interface {
	Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error)
	Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error)
	Counts() client.Counts // of what was dialled and refused
	Close() error
}

// lockstep is the Target of Lockstep's own servers.
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

// Open connects to all nodes before a request that goes to several of them is sent to
// any: with servers that take one client at a time, two requests that each held one of
// them and waited for the other would wait forever.
func (t lockstep) Open(ctx context.Context) (Client, error) {
	if len(t.cfg.Nodes) > 1 && t.cfg.Workload.Batch > 1 {
		return t.Dial(ctx)
	}
	return client.New(t.cfg), nil
}

func (t lockstep) Stats(ctx context.Context) ([]metrics.Snapshot, error) {
	return StatsOf(ctx, t.cfg)
}

// StatsOf asks every node of a cluster what it has counted.
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

func (f frames) Read(_ []wire.Op) (uint64, []wire.Result, error) {
	var r wire.Response
	if !f.conn.ReadResponse(&r) {
		return 0, nil, f.conn.Err()
	}
	switch r.Code {
	case wire.OK:
		for i := range r.Results {
			if s := r.Results[i].Status; s < wire.Found || s > wire.TooLarge { // the others are a client's
				return 0, nil, fmt.Errorf("%w: %q in an answer", wire.ErrMalformed, s)
			}
		}
		return 0, r.Results, nil
	case wire.Busy:
		return 0, nil, Refusal{client.ErrBusy}
	case wire.WrongNode:
		return 0, nil, Refusal{client.ErrWrongNode}
	case wire.Failed:
		return 0, nil, Refusal{fmt.Errorf("%w: the server failed inside the request", client.ErrUnknown)}
	case wire.Invalid:
		return 0, nil, Refusal{errors.New("the server calls the request invalid")}
	case wire.Goodbye:
		return 0, nil, errGoodbye
	}
	return 0, nil, fmt.Errorf("%w: code %v", wire.ErrMalformed, r.Code)
}
