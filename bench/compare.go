package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/testbed"
	"lockstep/bench/yardstick"
	"lockstep/common/cluster"
)

func compareFlags(o *options, fs *flag.FlagSet) {
	o.stageFlags(fs, "what to compare, with the first of them, or none")
	fs.StringVar(&o.against, "against", "", "`yardsticks` beside the stages, out of echo,netrpc,redis,memcached; redis=HOST:PORT uses one\n"+
		"that runs already, and overwrites its keys key-...; so does memcached=HOST:PORT")
	fs.StringVar(&o.sweep, "sweep", "", "measure at several values of one property: `PROPERTY=VALUES`, as in c=1,2,4,8, rate=5k,10k or work=0s,1ms.\n"+
		"The properties: c, rate, batch, depth, keys, value, buckets, work, workers, queue.\n"+
		"3 rounds of 500ms at each value, unless -rounds and -duration say otherwise")
	intFlag(fs, &o.rounds, "rounds", 6, 1, 1000, "rounds of each stage, interleaved in random order, each on new servers")
	fs.BoolVar(&o.quick, "quick", false, "3 rounds of 0.5 s: a range instead of an interval, and no verdict")
	fs.BoolVar(&o.aa, "aa", false, "run the first stage twice, under two names: what differs between them is the noise floor")
	o.measureFlags(fs)
	d := fs.Lookup("duration")
	d.Usage, d.DefValue = d.Usage+"; the duration and the ops of the file are those of bench run", "2s"
}

// compare builds stages, and measures them in interleaved rounds.
func compare(ctx context.Context, o *options) error {
	rounds, duration := o.rounds, 2*time.Second
	if o.quick || o.sweep != "" {
		rounds, duration = 3, 500*time.Millisecond
	}
	if !o.given["rounds"] {
		o.rounds = rounds
	}
	if w := &o.cfg.Workload; !o.given["ops"] {
		w.Ops = cluster.Default().Workload.Ops
		if !o.given["duration"] {
			w.Duration = duration
		}
	}
	var sweep *experiment.Sweep
	var err error
	if o.sweep != "" {
		sweep, err = experiment.ParseSweep(o.sweep, o.cfg)
		if err == nil && (o.given[sweep.Property] || sweep.Property == "c" && o.given["connections"]) {
			err = fmt.Errorf("%s has a flag of its own, too: give one of the two", sweep.Property)
		}
		if err != nil {
			return usageErrorf("-sweep: %w", err)
		}
	}
	yards, err := yardstick.Parse(o.against, o.cfg, o.nodes, o.work)
	if err != nil {
		return usageErrorf("-against: %w", err)
	}
	stages := slices.DeleteFunc(strings.Split(o.stages, ","), func(stage string) bool { return stage == "none" })
	switch {
	case sweep != nil && yards != nil:
		return usageErrorf("-sweep measures stages only, and -against names %s", yards[0].Name)
	case len(stages) == 0 && yards == nil:
		return usageErrorf("-stages none: there is nothing to compare without -against")
	case len(stages) == 0 && o.aa:
		return usageErrorf("-aa: there is no stage to compare with itself")
	case o.rounds*(len(stages)+len(yards))*(1+strings.Count(o.sweep, ",")) > report.MaxRounds:
		return usageErrorf("-rounds %d: all rounds of all stages together are more than the %d of a report", o.rounds, report.MaxRounds)
	case o.aa:
		stages = slices.Insert(stages, 1, stages[0])
	}
	rep := report.New(o.cfg, nil, true)
	rep.Nodes, rep.AA, rep.Sweep = o.nodes, o.aa, sweep
	return o.finish(ctx, rep, o.withStages(ctx, stages, func(ctx context.Context, bed *testbed.Bed) error {
		return o.measure(ctx, bed, yards, rep)
	}))
}

// measure makes the rounds of a comparison and adds them to the report.
func (o *options) measure(ctx context.Context, bed *testbed.Bed, yards []*yardstick.Yardstick, rep *report.Report) error {
	for _, p := range bed.Programs {
		rep.Stages = append(rep.Stages, p.Name)
		rep.Env.SetBuilt(p.Name, p.Built)
	}
	rep.Env.Set(bed.Variables)
	plan := experiment.Plan{Bed: bed, Rounds: o.rounds, Once: o.once, Sampled: o.samples, Progress: &o.line, Add: func(s *experiment.Subject, round int, r *load.Result) error {
		rep.AddAt(s.Point, s.Name, round, r)
		return o.save(rep)
	}}
	if rep.Sweep != nil {
		plan.Subjects = rep.Sweep.Subjects(bed, o.nodes)
	} else {
		for _, p := range bed.Programs {
			plan.Subjects = append(plan.Subjects, experiment.Stage(bed, p, o.cfg, o.nodes))
		}
		found, err := o.tryYardsticks(ctx, bed, yards, rep)
		if err != nil {
			return err
		}
		plan.Subjects = append(plan.Subjects, found...)
	}
	if plan.Subjects == nil {
		return fmt.Errorf("there is nothing to measure: %s", strings.Join(rep.Env.Missing, ", "))
	}
	return plan.Run(ctx)
}

// tryYardsticks starts each yardstick once, notes in the report what it is, and stops it. It
// leaves out those that are not installed.
func (o *options) tryYardsticks(ctx context.Context, bed *testbed.Bed, all []*yardstick.Yardstick, rep *report.Report) (found []experiment.Subject, err error) {
	for _, y := range all {
		if slices.Contains(rep.Stages, y.Name) {
			return nil, usageErrorf("-against: a stage is called %s as well", y.Name)
		}
		o.line.Detail("trying " + y.Name)
		start := func(ctx context.Context) (*testbed.Servers, error) { return y.Start(ctx, bed, o.cfg) }
		err := bed.Use(ctx, start, func(_ context.Context, s *testbed.Servers) error {
			if s.Version != "" {
				rep.Env.Yardsticks[y.Name] = s.Version
			}
			return nil
		})
		switch {
		case errors.Is(err, exec.ErrNotFound):
			rep.Env.Missing = append(rep.Env.Missing, fmt.Sprintf("%s: not found in PATH; %s=HOST:PORT uses one that runs already", y.Name, y.Name))
		case err != nil:
			return nil, err
		default:
			rep.Stages = append(rep.Stages, y.Name)
			found = append(found, experiment.Subject{Name: y.Name, Title: y.Name, Config: o.cfg, Start: start})
		}
	}
	return found, nil
}
