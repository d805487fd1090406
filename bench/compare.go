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
	"lockstep/bench/workload"
	"lockstep/bench/yardstick"
	"lockstep/common/cluster"
)

func compareFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.stages, "stages", "1,2,3,4", "what to compare, the others with the first: numbers, directory names or `paths`; or none")
	fs.StringVar(&o.against, "against", "", "`yardsticks` beside the stages, out of echo,netrpc,redis,memcached; redis=HOST:PORT reaches\none that runs, whose keys key-... are overwritten, and so does memcached=HOST:PORT")
	fs.IntVar(&o.nodes, "nodes", 1, "node processes of each stage; in 1..16")
	o.sweepFlag(fs)
	fs.IntVar(&o.rounds, "rounds", 6, "rounds of each stage, interleaved in random order; in 1..1000")
	fs.BoolVar(&o.quick, "quick", false, "3 rounds of 0.5 s: a range in place of an interval, and no verdict")
	fs.BoolVar(&o.aa, "aa", false, "run the first stage twice, under two names: what differs between them is the noise floor")
	fs.BoolVar(&o.once, "noretry", false, "a request that is answered Busy has failed, and is not sent again")
	o.outFlags(fs)
	o.ycsbFlag(fs)
	workload.Flags(&o.cfg, fs)
	o.cfg.Flags(fs, "server")
}

// compareRound is the length of a round where neither a duration nor a number of
// operations is asked for.
const (
	compareRound = 2 * time.Second
	quickRound   = 500 * time.Millisecond
	quickRounds  = 3
)

// compare builds and starts stages, and measures them in interleaved rounds.
func compare(ctx context.Context, o *options) error {
	if o.nodes < 1 || o.nodes > 16 {
		return usageErrorf("-nodes: %d is not in 1..16", o.nodes)
	}
	if err := o.checkRounds(); err != nil {
		return err
	}
	sw, err := o.useSweep()
	if err != nil {
		return usageErrorf("-sweep: %w", err)
	}
	if o.quick && !o.given["rounds"] {
		o.rounds = quickRounds
	}
	if o.cfg.Workload.Duration == 0 && !o.given["ops"] {
		o.cfg.Workload.Duration = compareRound
		if o.quick {
			o.cfg.Workload.Duration = quickRound
		}
	}
	work, err := workload.New(o.cfg.Workload)
	if err != nil {
		return usageErrorf("%w", err)
	}
	yards, err := yardstick.Parse(o.against, o.cfg, o.nodes, work)
	if err != nil {
		return usageErrorf("-against: %w", err)
	}
	if sw != nil && yards != nil {
		return usageErrorf("-sweep: it measures stages alone, and -against names %s", yards[0].Name)
	}
	var dirs []string
	if o.stages != "none" {
		dirs, err = testbed.StageDirs(ctx, strings.Split(o.stages, ","))
	} else if yards == nil {
		return usageErrorf("-stages: there is nothing to compare, no stage and no yardstick (-against)")
	}
	if errors.Is(err, testbed.ErrNoStage) {
		return usageErrorf("-stages: %w", err)
	} else if err != nil {
		return err
	}
	if o.aa && dirs == nil {
		return usageErrorf("-aa: there is no stage to compare with itself")
	}
	if o.aa {
		dirs = slices.Insert(dirs, 1, dirs[0])
	}
	rep := report.New(o.cfg, nil, true)
	rep.Nodes, rep.AA, rep.Sweep = o.nodes, o.aa, sw
	if err := o.save(rep); err != nil { // now, rather than after all the rounds
		return err
	}
	line := newProgress(o.stderr, o.quiet)
	defer line.stop()
	err = o.contest(ctx, dirs, yards, rep, line)
	line.stop()
	return o.finish(ctx, rep, err)
}

// contest is compare, from source to report. Afterwards nothing is left of the stages
// and the yardsticks.
func (o *options) contest(ctx context.Context, dirs []string, yards []*yardstick.Yardstick, rep *report.Report, line *progress) (err error) {
	h, err := testbed.New(ctx, dirs, line.Say)
	if err != nil {
		return err
	}
	defer func() {
		if e := h.Close(); err == nil {
			err = e
		}
	}()
	for _, p := range h.Programs {
		rep.Stages = append(rep.Stages, p.Name)
	}
	if rep.Sweep != nil {
		return experiment.RunSweep(ctx, h, rep.Sweep, o.plan(), line, func(stage, point string, round int, r *load.Result) error {
			rep.AddAt(point, stage, round, r)
			return o.save(rep)
		})
	}
	for _, p := range h.Programs {
		line.Say("starting " + p.Name)
		if _, err := h.Start(ctx, p, o.cfg, o.nodes); err != nil {
			return err
		}
	}
	if err := addYardsticks(ctx, h, yards, o.cfg, rep, line); err != nil {
		return err
	}
	return experiment.Rounds(ctx, h, o.plan(), line, func(stage string, round int, r *load.Result) error {
		rep.Add(stage, round, r)
		return o.save(rep)
	})
}

// addYardsticks starts the yardsticks, and notes in the report what they are. Those
// that are not installed are left out.
func addYardsticks(ctx context.Context, h *testbed.Bed, all []*yardstick.Yardstick, cfg cluster.Config, rep *report.Report, line *progress) error {
	for _, y := range all {
		if slices.Contains(rep.Stages, y.Name) {
			return usageErrorf("-against: a stage is called %s, too", y.Name)
		}
		line.Say("starting " + y.Name)
		version, err := y.Start(ctx, h, cfg)
		switch {
		case errors.Is(err, exec.ErrNotFound):
			version = ""
			rep.Env.Missing = append(rep.Env.Missing, fmt.Sprintf("%s: not found in PATH; %s=HOST:PORT reaches one that runs", y.Name, y.Name))
		case err != nil:
			return err
		default:
			rep.Stages = append(rep.Stages, y.Name)
		}
		if version != "" {
			rep.Env.Yardsticks[y.Name] = version
		}
	}
	if len(h.Running) == 0 {
		return fmt.Errorf("there is nothing to measure: %s", strings.Join(rep.Env.Missing, ", "))
	}
	return nil
}

func (o *options) checkRounds() error {
	if o.rounds < 1 || o.rounds > 1000 {
		return usageErrorf("-rounds: %d is not in 1..1000", o.rounds)
	}
	return nil
}

func (o *options) plan() experiment.Plan {
	return experiment.Plan{Rounds: o.rounds, Nodes: o.nodes, Once: o.once}
}

const sweepHelp = "measure at several values of one property, as in `c=1,2,4,8`, rate=5k,10k or work=0,1ms.\n" +
	"The properties: c, rate, batch, depth, keys, value, buckets, work, workers, queue.\n" +
	"3 rounds of 500ms a point, unless -rounds and -duration say otherwise"

// What a sweep does, where the flags do not say it.
const (
	sweepRounds = 3
	sweepRound  = 500 * time.Millisecond
)

func (o *options) sweepFlag(fs *flag.FlagSet) { fs.StringVar(&o.sweep, "sweep", "", sweepHelp) }

// useSweep reads the sweep that is asked for, if one is, and sets the rounds that it
// has unless others are asked for.
func (o *options) useSweep() (*experiment.Sweep, error) {
	if o.sweep == "" {
		return nil, nil
	}
	if !o.given["rounds"] {
		o.rounds = sweepRounds
	}
	if o.cfg.Workload.Duration == 0 && !o.given["ops"] {
		o.cfg.Workload.Duration = sweepRound
	}
	sw, err := experiment.ParseSweep(o.sweep, o.cfg)
	if err == nil && (o.given[sw.Property] || sw.Property == "c" && o.given["connections"]) {
		err = fmt.Errorf("%s is swept, and a flag gives it one value: leave one of them out", sw.Property)
	}
	return sw, err
}
