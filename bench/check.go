package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"lockstep/bench/check"
	"lockstep/bench/testbed"
	"lockstep/common/cluster"
	"lockstep/common/lincheck"
)

func checkFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.stages, "stages", "1,2,3,4", "what to check: numbers, directory names or `paths`")
	fs.IntVar(&o.nodes, "nodes", 1, "node processes of each stage; in 1..16")
	fs.BoolVar(&o.running, "running", false, "check the servers that properties.json names, which run already")
	fs.BoolVar(&o.faults, "faults", false, "cut and delay connections meanwhile")
	fs.DurationVar(&o.length, "duration", 10*time.Second, "how long to check each stage, above 0")
	fs.Uint64Var(&o.cfg.Workload.Seed, "seed", o.cfg.Workload.Seed, "the same seed draws the same requests")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress line")
	o.cfg.Flags(fs, "server")
}

// check asks whether every answer that the servers gave is linearizable.
func runCheck(ctx context.Context, o *options) error {
	if o.nodes < 1 || o.nodes > 16 {
		return usageErrorf("-nodes: %d is not in 1..16", o.nodes)
	}
	if o.length <= 0 {
		return usageErrorf("-duration: %v is not above 0", o.length)
	}
	line := newProgress(o.stderr, o.quiet)
	defer line.stop()
	if o.running {
		return o.checkServers(ctx, line, "the running servers", o.cfg)
	}
	dirs, err := testbed.StageDirs(ctx, strings.Split(o.stages, ","))
	if errors.Is(err, testbed.ErrNoStage) {
		return usageErrorf("-stages: %w", err)
	} else if err != nil {
		return err
	}
	if o.cfg.Server.Work.Time == 0 {
		// Without time between look-up and effect, a store without its lock passes.
		o.cfg.Server.Work = cluster.Work{Spin: true, Time: check.Work}
	}
	return o.checkStages(ctx, dirs, line)
}

func (o *options) checkStages(ctx context.Context, dirs []string, line *progress) (err error) {
	h, err := testbed.New(ctx, dirs, line.Say)
	if err != nil {
		return err
	}
	defer func() {
		if e := h.Close(); err == nil {
			err = e
		}
	}()
	var found []error
	for _, p := range h.Programs {
		s, err := h.Start(ctx, p, o.cfg, o.nodes)
		if err != nil {
			return err
		}
		err = h.Watch(ctx, func(ctx context.Context) error { return o.checkServers(ctx, line, p.Name, s.Config) })
		if stopped := h.Stop(s); err == nil {
			err = stopped
		}
		if err != nil && !errors.As(err, new(codeError)) {
			return fmt.Errorf("%w%s", err, s.LastOutput(err))
		}
		found = append(found, err) // and the next stage is checked all the same
	}
	return errors.Join(found...)
}

// checkServers checks the servers of one cluster, and prints what it found.
func (o *options) checkServers(ctx context.Context, line *progress, name string, cfg cluster.Config) error {
	line.Say("checking " + name)
	line.Expect(o.length)
	found, err := check.Run(ctx, cfg, check.Plan{Seed: o.cfg.Workload.Seed, Length: o.length, Faults: o.faults, Shared: o.running})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := line.Print(o.stdout, name+": "+found.String()); err != nil {
		return err
	}
	if found.Verdict == lincheck.Violated {
		return codeError{exitWrongData, fmt.Errorf("%s gave answers that are not linearizable", name)}
	}
	if err := found.Undecided(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
