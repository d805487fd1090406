package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"lockstep/bench/clients"
	"lockstep/bench/load"
	"lockstep/bench/machine"
	"lockstep/bench/progress"
	"lockstep/bench/report"
	"lockstep/bench/testbed"
	"lockstep/common/barrier"
	"lockstep/common/metrics"
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
	if err := o.findSelf(); err != nil {
		return err
	}
	stats, err := load.NewLockstep(o.cfg).Stats(ctx)
	if err != nil {
		return o.advise(err)
	}
	rep := report.New(o.cfg, []string{text.Quote(stats[0].Stage, 60)}, machine.Local(o.cfg.Nodes))
	return o.finish(ctx, rep, testbed.Guard(ctx, load.NewLockstep(o.cfg), func(ctx context.Context) error {
		return o.runRounds(ctx, stats, rep)
	}))
}

// findSelf sets which client this process is, if -client does not say so.
func (o *options) findSelf() (err error) {
	if o.given["client"] {
		if last := max(len(o.cfg.Clients), 1) - 1; o.client < 0 || o.client > last {
			return usageErrorf("-client %d: %s has clients 0 to %d", o.client, o.config, last)
		}
	} else if o.client, err = clients.Self(o.cfg); err != nil {
		return usageErrorf("%w", err)
	}
	if len(o.cfg.Clients) > 1 {
		err = o.cfg.CheckExposure(o.insecure)
	}
	return err
}

// runRounds stores the keys and adds the rounds to the report.
func (o *options) runRounds(ctx context.Context, stats []metrics.Snapshot, rep *report.Report) error {
	group, err := o.join(slog.New(printer{slog.DiscardHandler, &o.line, o.stderr}))
	if err != nil {
		return err
	}
	defer group.Close()
	o.line.Detail("waiting for the other clients")
	local := []byte{0}
	if rep.Env.Shared {
		local[0] = 1
	}
	all, err := group.Meet(ctx, local)
	if err != nil {
		return err
	}
	rep.Env.Shared = !bytes.Contains(bytes.Join(all, nil), []byte{0}) // by all clients
	if o.client == 0 {
		o.line.Say("storing the keys")
		err := load.Preload(ctx, load.NewLockstep(o.cfg), o.work, func(what string, left time.Duration) {
			o.line.Detail(what)
			o.expect(left, o.rounds)
		})
		if err != nil {
			return o.advise(err)
		}
	}
	if all, err = group.Meet(ctx, local); err != nil {
		return err
	} else if all[0] == nil {
		return errors.New("client 0 was to store the keys, and is missing")
	}
	for round := 1; round <= o.rounds; round++ {
		o.expect(0, o.rounds-round+1)
		o.line.Say(fmt.Sprintf("round %d of %d", round, o.rounds))
		o.work.Round = uint64(round - 1)
		if err := o.runRound(ctx, group, round, stats, rep); err != nil {
			return err
		}
		if err := o.save(rep); err != nil {
			return err
		}
	}
	return nil
}

// join joins the other client processes, if there are any.
func (o *options) join(log *slog.Logger) (*clients.Group, error) {
	return clients.Join(o.cfg, o.client, []string{fmt.Sprintf("rounds=%d", o.rounds), fmt.Sprintf("noretry=%t", o.once), fmt.Sprintf("samples=%t", o.samples)}, log)
}

// runRound adds a round of all clients to the report. If it is cut short, or the others'
// results do not come, what this client has is better than nothing, unless the round is void.
func (o *options) runRound(ctx context.Context, group *clients.Group, round int, stats []metrics.Snapshot, rep *report.Report) error {
	mine, err := group.Measure(ctx, load.NewLockstep(group.Share(o.cfg)), o.work, o.line.Pace)
	if mine == nil {
		return err
	}
	all := []*load.Result{mine}
	if ctx.Err() == nil {
		gathered, alone := group.Gather(ctx, mine)
		if alone == nil {
			all = gathered
		}
		err = cmp.Or(err, alone)
	}
	sum := clients.Together(all, rep.Env.Shared)
	if errors.Is(err, barrier.ErrVoid) || err != nil && sum.Requests == 0 {
		return err
	}
	if err == nil {
		sum.Restarted = cmp.Or(sum.Restarted, load.Restarted(stats, sum.Nodes)) // before the round
	}
	rep.AddClients(rep.Stages[0], round, sum, all)
	return err
}

// expect sets how long the command still takes: this time, and then this many rounds.
func (o *options) expect(left time.Duration, rounds int) {
	if length := o.cfg.Workload.Duration; length > 0 {
		left += time.Duration(rounds) * (length + load.Warmup(length))
	}
	o.line.Expect(left)
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
