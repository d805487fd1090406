package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/progress"
	"lockstep/bench/report"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/barrier"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/text"
)

func runFlags(o *options, fs *flag.FlagSet) {
	intFlag(fs, &o.rounds, "rounds", 1, 1, 1000, "rounds of the workload")
	fs.IntVar(&o.client, "client", -1, "this process's `number` in clients, from 0; by default it finds itself by its addresses")
	fs.Lookup("client").DefValue = ""
	fs.BoolVar(&o.insecure, "insecure", false, "meet the other clients off loopback without a secret")
	o.measureFlags(fs)
}

// runWorkload puts the workload on servers that run already.
func runWorkload(ctx context.Context, o *options) error {
	clients := max(len(o.cfg.Clients), 1)
	if o.client < 0 && clients == 1 {
		o.client = 0
	}
	if o.client < 0 || o.client >= clients {
		return usageErrorf("-client: %s has clients 0 to %d: say which one this is", o.config, clients-1)
	}
	work, err := workload.New(o.cfg.Workload)
	if err != nil {
		return usageErrorf("%w", err)
	}
	work.Once = o.once
	stats, err := load.NewLockstep(o.cfg).Stats(ctx)
	if err != nil {
		return o.advise(err)
	}
	rep := report.New(o.cfg, []string{text.Quote(stats[0].Stage, 60)}, o.isLocal())
	return o.finish(ctx, rep, testbed.Guard(ctx, load.NewLockstep(o.cfg), func(ctx context.Context) error {
		return o.runRounds(ctx, work, stats, rep)
	}))
}

// runRounds stores the keys and adds the rounds to the report.
func (o *options) runRounds(ctx context.Context, work *workload.Workload, stats []metrics.Snapshot, rep *report.Report) error {
	others, err := o.joinClients()
	if err != nil {
		return err
	}
	if others != nil {
		defer others.Close()
	}
	if o.client == 0 {
		o.line.Say("storing the keys")
		told := func(what string, left time.Duration) {
			o.line.Detail(what)
			o.expect(left, o.rounds)
		}
		if err := load.Preload(ctx, load.NewLockstep(o.cfg), work, told); err != nil {
			return o.advise(err)
		}
	}
	// Each client process has its share of the rate and of the operations.
	mine, clients := o.cfg, max(len(o.cfg.Clients), 1)
	w := &mine.Workload
	w.Rate /= float64(clients)
	w.Ops = w.Ops*(o.client+1)/clients - w.Ops*o.client/clients
	for round := 1; round <= o.rounds; round++ {
		if _, err := o.meet(ctx, others, nil); err != nil { // start together
			return err
		}
		o.expect(0, o.rounds-round+1)
		o.line.Say(fmt.Sprintf("round %d of %d", round, o.rounds))
		work.Round = uint64(round - 1)
		r, err := load.Measure(ctx, load.NewLockstep(mine), work, o.client*w.Connections, o.line.Pace)
		var all []*load.Result
		if err == nil {
			all, err = o.meet(ctx, others, r) // stop together, with everybody's results
		}
		if err != nil {
			if r != nil && r.Requests > 0 {
				rep.Add(rep.Stages[0], round, r) // cut short, or without the others' results, but better than nothing
			}
			return err
		}
		together := load.Together(all, rep.Env.Shared)
		together.Restarted = cmp.Or(together.Restarted, load.Restarted(stats, together.Nodes)) // before the round
		rep.Add(rep.Stages[0], round, together)
		if err := o.save(rep); err != nil {
			return err
		}
	}
	return nil
}

// expect sets how long the command still takes, with so many rounds after this time.
func (o *options) expect(left time.Duration, rounds int) {
	if length := o.cfg.Workload.Duration; length > 0 {
		left += time.Duration(rounds) * (length + load.Warmup(length))
	}
	o.line.Expect(left)
}

// joinClients joins the other client processes that properties.json names. It returns nil
// if there are none.
func (o *options) joinClients() (*barrier.Barrier, error) {
	if len(o.cfg.Clients) <= 1 {
		return nil, nil
	}
	if err := o.cfg.CheckExposure(o.insecure); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", o.cfg.Clients[o.client].Control)
	if err != nil {
		return nil, fmt.Errorf("%w: is client %d running here already?", err, o.client)
	}
	var peers []string
	for _, c := range o.cfg.Clients {
		peers = append(peers, c.Control)
	}
	return barrier.New(ln, barrier.Config{
		Group: "clients", Self: o.client, Peers: peers, Fingerprint: o.cfg.Describe("bench run"), Secret: o.cfg.Secret,
		Log: slog.New(printer{slog.DiscardHandler, &o.line, o.stderr}),
	}), nil
}

// meet waits until all client processes have arrived, and returns the results that they
// brought. Without others it returns at once.
func (o *options) meet(ctx context.Context, others *barrier.Barrier, mine *load.Result) (all []*load.Result, err error) {
	if others == nil {
		return []*load.Result{mine}, nil
	}
	o.line.Detail("waiting for the other clients")
	payload, err := mine.Pack()
	if err != nil {
		return nil, err
	}
	payloads, err := others.Wait(ctx, payload)
	if err != nil {
		return nil, err
	}
	for i, payload := range payloads {
		r, err := load.Unpack(payload)
		if err != nil {
			return nil, fmt.Errorf("the result of client %d: %w", i, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// A printer prints what is logged, in place of the progress line.
type printer struct {
	slog.Handler
	line *progress.Line
	w    io.Writer
}

func (p printer) Enabled(context.Context, slog.Level) bool { return true }

func (p printer) Handle(_ context.Context, r slog.Record) error {
	return p.line.Print(p.w, "bench: "+r.Message+"\n")
}

// isLocal reports whether servers and client share this machine: it can listen at the
// addresses of the nodes.
func (o *options) isLocal() bool {
	return !slices.ContainsFunc(o.cfg.Nodes, func(n cluster.Node) bool {
		host, _, _ := net.SplitHostPort(n.Addr)
		return !cluster.IsLoopback(host) && node.Taken(net.JoinHostPort(host, "0"))
	})
}
