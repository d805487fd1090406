package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"lockstep/bench/check"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/lincheck"
)

func checkFlags(o *options, fs *flag.FlagSet) {
	o.stageFlags(fs, "what to check")
	fs.BoolVar(&o.running, "running", false, "check the running servers that properties.json names")
	fs.BoolVar(&o.faults, "faults", false, "cut and delay connections meanwhile")
	load := flag.NewFlagSet("", flag.ContinueOnError)
	workload.Flags(&o.cfg, load)
	for _, name := range []string{"duration", "seed"} {
		f := load.Lookup(name)
		fs.Var(f.Value, name, f.Usage)
	}
	d := fs.Lookup("duration")
	d.Usage, d.DefValue = "how long to check each stage, above 0s", "10s"
	o.quietFlag(fs)
}

// runCheck finds out whether every answer that the servers gave is linearizable.
func runCheck(ctx context.Context, o *options) error {
	if !o.given["duration"] { // that of the file is for bench run
		o.cfg.Workload.Duration = 10 * time.Second
	} else if o.cfg.Workload.Duration == 0 {
		return usageErrorf("-duration: 0s is not above 0s")
	}
	if o.running {
		if _, err := load.NewLockstep(o.cfg).Stats(ctx); err != nil {
			return o.advise(err)
		}
		return o.checkServers(ctx, "the running servers", o.cfg)
	}
	if o.cfg.Server.Work.Time == 0 {
		// Without time between look-up and effect, a store without its lock passes.
		o.cfg.Server.Work = cluster.Work{Spin: true, Time: check.Work}
	}
	return o.withStages(ctx, strings.Split(o.stages, ","), o.checkStages)
}

func (o *options) checkStages(ctx context.Context, bed *testbed.Bed) error {
	var found []error
	for _, p := range bed.Programs {
		err := bed.With(ctx, p, o.cfg, o.nodes, func(ctx context.Context, s *testbed.Servers) error {
			err := o.checkServers(ctx, p.Name, s.Config)
			if errors.As(err, new(codeError)) {
				return err
			}
			return s.WithOutput(err)
		})
		if err != nil && !errors.As(err, new(codeError)) {
			return err
		}
		found = append(found, err) // the next stage is still checked
	}
	return errors.Join(found...)
}

// checkServers checks the servers of one cluster, and prints what it found.
func (o *options) checkServers(ctx context.Context, name string, cfg cluster.Config) error {
	o.line.Say("checking " + name)
	o.line.Expect(o.cfg.Workload.Duration)
	plan := check.Plan{Seed: o.cfg.Workload.Seed, Length: o.cfg.Workload.Duration, Faults: o.faults, Shared: o.running}
	var found *check.Found
	err := testbed.Guard(ctx, load.NewLockstep(cfg), func(ctx context.Context) (err error) {
		if found, err = check.Run(ctx, cfg, plan); err == nil {
			err = found.Undecided()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := o.line.Print(o.stdout, name+": "+found.String()); err != nil {
		return err
	}
	if found.Verdict == lincheck.Violated {
		return codeError{exitWrongData, fmt.Errorf("%s gave answers that are not linearizable", name)}
	}
	return nil
}
