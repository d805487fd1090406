// Package clients makes one measurement of several client processes: they meet before they
// send and when they are done, and each of them has the results of all.
package clients

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/barrier"
	"lockstep/common/cluster"
)

// A Group is the client processes that take part, seen from one of them.
type Group struct {
	Self    int              // the number of this client
	barrier *barrier.Barrier // nil: there are no others
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
	g := &Group{Self: self}
	if len(cfg.Clients) <= 1 {
		return g, nil
	}
	ln, err := net.Listen("tcp", cfg.Clients[self].Control)
	if err != nil {
		return nil, fmt.Errorf("%w: is client %d running here already?", err, self)
	}
	alike := cfg.Describe("bench run")
	alike += strings.Join(append(cfg.Values("workload"), way...), "\n")
	g.barrier = barrier.New(ln, barrier.Config{
		Group: "clients", Self: self, Peers: controls(cfg), Fingerprint: alike, Secret: cfg.Secret, Log: log,
	})
	return g, nil
}

// Close leaves the group.
func (g *Group) Close() {
	if g.barrier != nil {
		g.barrier.Close()
	}
}

// Share returns what this client has to send of a workload that all share: its part of the
// rate, and of the operations, which add up exactly.
func (g *Group) Share(cfg cluster.Config) cluster.Config {
	n, w := max(len(cfg.Clients), 1), &cfg.Workload
	w.Rate /= float64(n)
	w.Ops = w.Ops/n + (w.Ops%n*(g.Self+1)/n - w.Ops%n*g.Self/n)
	return cfg
}

// Meet waits for the other clients and returns what each has brought, nil if it is missing.
// Before they have met once, it waits for as long as that takes.
func (g *Group) Meet(ctx context.Context, bring []byte) ([][]byte, error) {
	if g.barrier == nil {
		return [][]byte{append([]byte{}, bring...)}, nil
	}
	return g.barrier.Wait(ctx, bring)
}

// Measure is load.Measure, in the same seconds as the other clients. A client that is not
// served meets them too, and reports that its connections starved.
func (g *Group) Measure(ctx context.Context, to load.Target, work *workload.Workload, told load.Told) (*load.Result, error) {
	n := to.Config().Workload.Connections
	if g.barrier == nil {
		return load.Measure(ctx, to, work, g.Self*n, told)
	}
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
	if ctx.Err() != nil {
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
	if g.barrier == nil {
		return []*load.Result{mine}, nil
	}
	payload, err := Pack(mine)
	if err != nil {
		return nil, err
	}
	payloads, err := g.barrier.Gather(ctx, payload)
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
