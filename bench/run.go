package main

import (
	"context"
	"flag"
	"fmt"
	"net"

	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/workload"
)

func runFlags(o *options, fs *flag.FlagSet) {
	fs.IntVar(&o.rounds, "rounds", 1, "rounds of the workload; in 1..1000")
	fs.IntVar(&o.client, "client", -1, "this process's `number` in clients, from 0, where properties.json has several: they start together")
	fs.BoolVar(&o.insecure, "insecure", false, "meet the other clients off loopback without a secret")
	fs.BoolVar(&o.once, "noretry", false, "a request that is answered Busy has failed, and is not sent again")
	o.outFlags(fs)
	o.ycsbFlag(fs)
	workload.Flags(&o.cfg, fs)
}

// runWorkload puts the workload on servers that run already.
func runWorkload(ctx context.Context, o *options) error {
	if err := o.checkRounds(); err != nil {
		return err
	}
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
	stats, err := load.StatsOf(ctx, o.cfg)
	if err != nil {
		return o.advise(err)
	}
	rep := report.New(o.cfg, []string{stats[0].Stage}, o.local())
	if err := o.save(rep); err != nil { // now, rather than after all the rounds
		return err
	}
	line := newProgress(o.stderr, o.quiet)
	defer line.stop()
	err = o.load(ctx, work, rep, line)
	line.stop()
	return o.finish(ctx, rep, err)
}

// load is runWorkload, from the keys to the report.
func (o *options) load(ctx context.Context, work *workload.Workload, rep *report.Report, line *progress) error {
	meet, leave, err := o.company(line)
	if err != nil {
		return err
	}
	defer leave()
	if o.client == 0 {
		line.Say("storing the keys")
		if err := load.Preload(ctx, load.NewLockstep(o.cfg), work); err != nil {
			return o.advise(err)
		}
	}
	// Each client process has its share of what is asked for in all.
	mine, clients := o.cfg, max(len(o.cfg.Clients), 1)
	w := &mine.Workload
	w.Rate /= float64(clients)
	w.Ops = max(w.Ops*(o.client+1)/clients-w.Ops*o.client/clients, 1)
	stage := rep.Stages[0]
	for round := 1; round <= o.rounds; round++ {
		if _, err := meet(ctx, nil); err != nil { // start together
			return err
		}
		line.Say(fmt.Sprintf("round %d of %d on %s", round, o.rounds, stage))
		if w.Duration > 0 {
			line.Expect(w.Duration + load.Warmup(w.Duration))
		}
		work.Round = uint64(round - 1)
		r, err := load.Measure(ctx, load.NewLockstep(mine), work, o.client*w.Connections)
		if err != nil {
			if r != nil && r.Requests > 0 {
				rep.Add(stage, round, r) // cut short, but better than nothing
			}
			return err
		}
		all, err := meet(ctx, r) // stop together, with everybody's results
		if err != nil {
			return err
		}
		rep.Add(stage, round, load.Together(all, o.local()))
		if err := o.save(rep); err != nil {
			return err
		}
	}
	return nil
}

// local reports whether servers and client share this machine.
func (o *options) local() bool {
	for _, n := range o.cfg.Nodes {
		host, _, _ := net.SplitHostPort(n.Addr)
		if host != "localhost" && !net.ParseIP(host).IsLoopback() {
			return false
		}
	}
	return true
}
