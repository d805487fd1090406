package load

import (
	"context"

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
	Dial(ctx context.Context) (Asker, error)
	// Open returns a client for one request, which may not be connected yet.
	Open(ctx context.Context) (Asker, error)
	// Stats returns what each server has counted so far; none where that is not known.
	Stats(ctx context.Context) ([]metrics.Snapshot, error)
}

// An Asker is a client as a load needs it: client.Client says what its methods do.
type Asker interface {
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

func (t lockstep) Dial(ctx context.Context) (Asker, error) {
	if t.cfg.Workload.Depth > 1 {
		return dialPipeline(ctx, t.cfg)
	}
	return client.Dial(ctx, t.cfg)
}

// Open connects to all nodes before a request that goes to several of them is sent to
// any: with servers that take one client at a time, two requests that each held one of
// them and waited for the other would wait forever.
func (t lockstep) Open(ctx context.Context) (Asker, error) {
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
