// Package clients makes one measurement of several client processes: they meet before they
// send and when they are done, and each of them has the results of all.
package clients

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"

	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/barrier"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// A Group is the client processes that take part, seen from one of them.
type Group struct {
	Self  int    // the number of this client
	Close func() // leaves the group

	// Meet waits for the other clients and returns what each has brought, nil if it is missing.
	// Before they have met once, it waits for as long as that takes.
	Meet   func(ctx context.Context, bring []byte) ([][]byte, error)
	gather func(ctx context.Context, bring []byte) ([][]byte, error) // nil: there are no others
}

// Self returns the number of the client that this process is, by the addresses of this machine.
func Self(cfg cluster.Config) (int, error) {
	if len(cfg.Clients) == 0 {
		return 0, nil
	}
	local, _ := net.InterfaceAddrs() // without them, the error says what to do
	return cluster.FindSelf("clients", controls(cfg), local)
}

func controls(cfg cluster.Config) (addrs []string) {
	for _, c := range cfg.Clients {
		addrs = append(addrs, c.Control)
	}
	return addrs
}

// Join joins the clients that cfg names. They do not meet one that has another workload, or works
// in another way, which is a list of NAME=VALUE; each logs what it waits for.
func Join(cfg cluster.Config, self int, way []string, log *slog.Logger) (*Group, error) {
	if len(cfg.Clients) <= 1 {
		return &Group{Close: func() {}, Meet: func(_ context.Context, bring []byte) ([][]byte, error) { return [][]byte{bring}, nil }}, nil
	}
	ln, err := net.Listen("tcp", cfg.Clients[self].Control)
	if err != nil {
		return nil, fmt.Errorf("%w: is client %d running here already?", err, self)
	}
	alike := cfg.Describe("bench run") + strings.Join(append(cfg.Values("workload"), way...), "\n")
	b := barrier.New(ln, barrier.Config{
		Group: "clients", Self: self, Peers: controls(cfg), Fingerprint: alike, Secret: cfg.Secret, Log: log,
	})
	return &Group{self, func() { b.Close() }, b.Wait, b.Gather}, nil
}

// Share returns what this client has to send of a workload that all share: its part of the
// rate, and of the operations, which add up exactly.
func (g *Group) Share(cfg cluster.Config) cluster.Config {
	n, w := max(len(cfg.Clients), 1), &cfg.Workload
	w.Rate /= float64(n)
	w.Ops = w.Ops/n + (w.Ops%n*(g.Self+1)/n - w.Ops%n*g.Self/n)
	return cfg
}

// Measure is load.Measure, in the same seconds as the other clients. A client that is not
// served meets them too, and reports that its connections starved.
func (g *Group) Measure(ctx context.Context, to load.Target, work *workload.Workload, told load.Told) (*load.Result, error) {
	n := to.Config().Workload.Connections
	meet := func(ctx context.Context) error {
		_, err := g.Meet(ctx, nil)
		return err
	}
	gen, err := load.New(ctx, to, work, g.Self*n)
	if err == nil {
		defer gen.Close()
		gen.Told, gen.Meet = told, meet
		return gen.Round(ctx)
	}
	if ctx.Err() != nil || g.gather == nil {
		return nil, err
	}
	for range load.Meetings {
		if err := meet(ctx); err != nil {
			return nil, err
		}
	}
	return &load.Result{Counts: load.Counts{Connections: n, Starved: n, NeverGreeted: n, NotServed: err.Error()}}, nil
}

// Gather waits until all clients are done and returns their results, by number, nil for those
// that are missing.
func (g *Group) Gather(ctx context.Context, mine *load.Result) (all []*load.Result, err error) {
	if g.gather == nil {
		return []*load.Result{mine}, nil
	}
	payload, err := Pack(mine)
	if err != nil {
		return nil, err
	}
	payloads, err := g.gather(ctx, payload)
	if err != nil {
		return nil, err
	}
	all = make([]*load.Result, len(payloads))
	for i, p := range payloads {
		if p == nil {
			continue
		}
		if all[i], err = Unpack(p); err != nil {
			return nil, fmt.Errorf("the result of client %d: %w", i, err)
		}
	}
	return all, nil
}

// Pack encodes r for Unpack.
func Pack(r *load.Result) ([]byte, error) {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	err := errors.Join(json.NewEncoder(z).Encode(r), z.Close())
	return b.Bytes(), err
}

// Unpack decodes what Pack has encoded. Its memory is bounded: days of load, and a hundred
// nodes, have less than this, and what is packed small is not unpacked large.
func Unpack(payload []byte) (*load.Result, error) {
	const size, objects = 4 << 20, 1 << 13
	z, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(z, size+1))
	if err != nil {
		return nil, err
	}
	if len(data) > size || bytes.Count(data, []byte("{")) > objects {
		return nil, fmt.Errorf("it has more than %d MiB or %d objects", size>>20, objects)
	}
	r := new(load.Result)
	return r, json.Unmarshal(data, r)
}

// Together returns the result of all client processes but those that are missing, which are
// nil. They ran on one machine if local is set. They have seen the same servers, and the round
// lasted until the last of them was done.
func Together(all []*load.Result, local bool) *load.Result {
	sum := new(load.Result)
	for _, r := range all {
		if r == nil {
			continue
		}
		sum.Merge(r)
		sum.Client = cmp.Or(sum.Client, r.Client)
		sum.Dur = max(sum.Dur, r.Dur)
		sum.Restarted = cmp.Or(sum.Restarted, r.Restarted)
		sum.Stalled, sum.Stall = max(sum.Stalled, r.Stalled), max(sum.Stall, r.Stall)
		if sum.Nodes == nil || served(r.Nodes) > served(sum.Nodes) { // the last to ask has seen most
			sum.Nodes, sum.ServerCPU = r.Nodes, r.ServerCPU
		}
		sum.TimeWait = max(sum.TimeWait, r.TimeWait)
		sum.ClientCPU += r.ClientCPU
		if sum.Cores += r.Cores; local {
			sum.Cores = min(sum.Cores, float64(runtime.NumCPU()))
		}
		if local || len(all) == 1 { // of several machines it is not known which programs are ours
			sum.MachineCPU = max(sum.MachineCPU, r.MachineCPU)
		}
	}
	if sum.Restarted != "" {
		sum.Nodes, sum.ServerCPU = nil, 0
	}
	return sum
}

// served returns how many requests the servers have answered.
func served(nodes []metrics.Snapshot) (n int64) {
	for _, node := range nodes {
		n += node.Requests
	}
	return n
}
