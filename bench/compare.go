package main

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strings"
	"time"

	properties "lockstep/bench/workload"
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
	properties.Flags(&o.cfg, fs)
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
	work, err := newWorkload(o.cfg.Workload)
	if err != nil {
		return usageErrorf("%w", err)
	}
	yards, err := o.yardsticks(work)
	if err != nil {
		return err
	}
	if sw != nil && yards != nil {
		return usageErrorf("-sweep: it measures stages alone, and -against names %s", yards[0].name)
	}
	var dirs []string
	if o.stages != "none" {
		dirs, err = stageDirs(ctx, strings.Split(o.stages, ","))
	} else if yards == nil {
		return usageErrorf("-stages: there is nothing to compare, no stage and no yardstick (-against)")
	}
	if errors.Is(err, errNoStage) {
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
	rep := newReport(o.cfg, nil, true)
	rep.nodes, rep.aa, rep.Sweep = o.nodes, o.aa, sw
	if rep.Env.Ceiling, err = ceiling(ctx, o.cfg.Workload); err != nil {
		return err
	}
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
func (o *options) contest(ctx context.Context, dirs []string, yards []*yardstick, rep *Report, line *progress) (err error) {
	h, err := newHouse(ctx, dirs, line.say)
	if err != nil {
		return err
	}
	defer func() {
		if e := h.close(); err == nil {
			err = e
		}
	}()
	h.once = o.once
	for _, p := range h.programs {
		rep.stages = append(rep.stages, p.name)
	}
	if rep.Sweep != nil {
		return h.sweep(ctx, rep.Sweep, o.nodes, o.rounds, line, func(stage, point string, round int, r *result) error {
			rep.addAt(point, stage, round, r)
			return o.save(rep)
		})
	}
	for _, p := range h.programs {
		line.say("starting " + p.name)
		if _, err := h.start(ctx, p, o.cfg, o.nodes); err != nil {
			return err
		}
	}
	if err := h.addYardsticks(ctx, yards, o.cfg, rep, line); err != nil {
		return err
	}
	return h.rounds(ctx, o.rounds, line, func(stage string, round int, r *result) error {
		rep.add(stage, round, r)
		return o.save(rep)
	})
}

func (o *options) checkRounds() error {
	if o.rounds < 1 || o.rounds > 1000 {
		return usageErrorf("-rounds: %d is not in 1..1000", o.rounds)
	}
	return nil
}
