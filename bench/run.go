package main

import (
	"context"
	"flag"
	"fmt"
	"net"

	properties "lockstep/bench/workload"
)

func runFlags(o *options, fs *flag.FlagSet) {
	fs.IntVar(&o.rounds, "rounds", 1, "rounds of the workload; in 1..1000")
	fs.IntVar(&o.client, "client", -1, "this process's `number` in clients, from 0, where properties.json has several: they start together")
	fs.BoolVar(&o.insecure, "insecure", false, "meet the other clients off loopback without a secret")
	fs.BoolVar(&o.once, "noretry", false, "a request that is answered Busy has failed, and is not sent again")
	o.outFlags(fs)
	o.ycsbFlag(fs)
	properties.Flags(&o.cfg, fs)
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
	work, err := newWorkload(o.cfg.Workload)
	if err != nil {
		return usageErrorf("%w", err)
	}
	work.once = o.once
	stats, err := statsOf(ctx, o.cfg)
	if err != nil {
		return o.advise(err)
	}
	rep := newReport(o.cfg, []string{stats[0].Stage}, o.local())
	if rep.Env.Ceiling, err = ceiling(ctx, o.cfg.Workload); err != nil {
		return err
	}
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
func (o *options) load(ctx context.Context, work *workload, rep *Report, line *progress) error {
	meet, leave, err := o.company(line)
	if err != nil {
		return err
	}
	defer leave()
	if o.client == 0 {
		line.say("storing the keys")
		if err := preload(ctx, target{cfg: o.cfg}, work); err != nil {
			return o.advise(err)
		}
	}
	// Each client process has its share of what is asked for in all.
	mine, clients := o.cfg, max(len(o.cfg.Clients), 1)
	w := &mine.Workload
	w.Rate /= float64(clients)
	w.Ops = max(w.Ops*(o.client+1)/clients-w.Ops*o.client/clients, 1)
	stage := rep.stages[0]
	for round := 1; round <= o.rounds; round++ {
		if _, err := meet(ctx, nil); err != nil { // start together
			return err
		}
		line.say(fmt.Sprintf("round %d of %d on %s", round, o.rounds, stage))
		if w.Duration > 0 {
			line.expect(w.Duration + warmup(w.Duration))
		}
		work.round = uint64(round - 1)
		r, err := measure(ctx, target{cfg: mine}, work, o.client*w.Connections)
		if err != nil {
			if r != nil && r.requests > 0 {
				rep.add(stage, round, r) // cut short, but better than nothing
			}
			return err
		}
		all, err := meet(ctx, r) // stop together, with everybody's results
		if err != nil {
			return err
		}
		rep.add(stage, round, together(all, o.local()))
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
