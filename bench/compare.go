package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

func compareFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.stages, "stages", "1,2,3,4", "what to compare, the first with each other: numbers, directory names or `paths`")
	fs.IntVar(&o.nodes, "nodes", 1, "node processes of each stage")
	fs.IntVar(&o.rounds, "rounds", 6, "rounds of each stage, interleaved in random order")
	o.outFlags(fs)
	o.cfg.WorkloadFlags(fs)
	o.cfg.ServerFlags(fs)
}

// compareRound is the length of a round where neither a duration nor a number of
// operations is asked for.
const compareRound = 2 * time.Second

// compare builds and starts stages, and measures them in interleaved rounds.
func compare(ctx context.Context, o *options) (err error) {
	if o.nodes < 1 || o.nodes > 16 {
		return usageErrorf("-nodes: %d is not in 1..16", o.nodes)
	}
	if o.rounds < 1 || o.rounds > 1000 {
		return usageErrorf("-rounds: %d is not in 1..1000", o.rounds)
	}
	if o.cfg.Workload.Duration == 0 && !o.given["ops"] {
		o.cfg.Workload.Duration = compareRound
	}
	if _, err := newWorkload(o.cfg.Workload); err != nil {
		return usageErrorf("%w", err)
	}
	line := newProgress(o.stderr, o.quiet)
	defer line.stop()

	h, err := newHouse(ctx, strings.Split(o.stages, ","), line.say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	var names []string
	var running []*servers
	var works []*workload // one each: what it remembers is of these servers
	for _, p := range h.programs {
		line.say("starting " + p.name)
		s, err := h.start(ctx, p, o.cfg, o.nodes)
		if err != nil {
			return err
		}
		work, err := newWorkload(s.cfg.Workload)
		if err != nil {
			return err
		}
		names, running, works = append(names, s.stage), append(running, s), append(works, work)
		if err := preload(ctx, s.cfg, work); err != nil {
			return fmt.Errorf("storing the keys on %s: %w", s.stage, err)
		}
	}

	rep := newReport(o.cfg, names, true)
	watched, cancel := h.watch(ctx)
	defer cancel()
	each := o.cfg.Workload.Duration + warmup(o.cfg.Workload.Duration)
	rng := rand.New(rand.NewPCG(o.cfg.Workload.Seed, 0))
	for round := 1; round <= o.rounds && err == nil; round++ {
		for n, i := range rng.Perm(len(running)) {
			line.say(fmt.Sprintf("round %d of %d: %s", round, o.rounds, names[i]))
			line.expect(each * time.Duration((o.rounds-round+1)*len(running)-n))
			var r *result
			if r, err = measure(watched, running[i].cfg, works[i], 0); err != nil {
				break
			}
			rep.add(names[i], round, r)
			if o.out != "" {
				err = rep.write(o.out) // now, so that an interrupted run is saved
			}
		}
	}
	line.stop()
	return o.finish(ctx, rep, err)
}

// measure is one round: new connections, a warm-up, and the load. The connections
// are numbered from first, which no others of the run are.
func measure(ctx context.Context, cfg cluster.Config, work *workload, first int) (*result, error) {
	l := newLoad(ctx, cfg, work, first)
	defer l.close()
	warm := l.run(ctx, warmup(cfg.Workload.Duration), 0)
	r, err := l.measured(ctx, cfg.Workload.Duration, cfg.Workload.Ops)
	if r != nil {
		r.wrong += warm.wrong
		if r.firstWrong == nil {
			r.firstWrong = warm.firstWrong
		}
	}
	return r, err
}

// warmup is how long connections are used before it counts.
func warmup(round time.Duration) time.Duration {
	return min(max(round/4, 100*time.Millisecond), time.Second)
}

// measured is run, with the CPU time that it took the servers and this process.
func (l *load) measured(ctx context.Context, length time.Duration, ops int) (*result, error) {
	before, err := statsOf(ctx, l.cfg)
	if err != nil {
		return nil, err
	}
	mine := clientCPU()
	r := l.run(ctx, length, ops)
	r.clientCPU = clientCPU() - mine
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	after, err := statsOf(ctx, l.cfg)
	if err != nil {
		return nil, err
	}
	for i := range after {
		r.serverCPU += after[i].CPU - before[i].CPU
	}
	return r, nil
}

// clientCPU is the CPU time of this process so far.
func clientCPU() time.Duration { return new(metrics.Stats).Snapshot().CPU }

// finish prints the report, whole or not, and saves it, and says how the command
// ended.
func (o *options) finish(ctx context.Context, rep *Report, err error) error {
	if err != nil {
		rep.Verdict = "failed: " + err.Error()
		if ctx.Err() != nil {
			rep.Verdict = "interrupted"
		}
	}
	if o.out != "" {
		err = errors.Join(err, rep.write(o.out))
	}
	if len(rep.Runs) > 0 {
		if _, e := fmt.Fprint(o.stdout, rep); e != nil {
			err = errors.Join(err, fmt.Errorf("printing the report: %w", e))
		}
	}
	switch {
	case err != nil:
		return err
	case strings.HasPrefix(rep.Verdict, "wrong data"):
		return codeError{exitWrongData, errors.New(rep.Verdict)}
	case strings.HasPrefix(rep.Verdict, "invalid"):
		return codeError{exitInvalid, errors.New(rep.Verdict)}
	}
	return nil
}

// A house is the stages that a command has built and started, in a folder of its
// own. After close nothing is left of it.
type house struct {
	dir      string
	programs []program
	running  []*servers
}

func newHouse(ctx context.Context, stages []string, say func(string)) (*house, error) {
	dir, err := os.MkdirTemp("", "lockstep-")
	if err != nil {
		return nil, err
	}
	h := &house{dir: dir}
	if h.programs, err = build(ctx, stages, dir, say); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// start starts a stage, which runs until close or stop.
func (h *house) start(ctx context.Context, p program, cfg cluster.Config, nodes int) (*servers, error) {
	s, err := startServers(ctx, p, cfg, nodes)
	if err == nil {
		h.running = append(h.running, s)
	}
	return s, err
}

// stop stops a stage.
func (h *house) stop(s *servers) error {
	for i := range h.running {
		if h.running[i] == s {
			h.running = append(h.running[:i:i], h.running[i+1:]...)
			break
		}
	}
	return s.stop()
}

// watch returns a context that ends when one of the running servers does, with that
// as its cause.
func (h *house) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	var cancels []context.CancelFunc
	for _, s := range h.running {
		var cancel context.CancelFunc
		ctx, cancel = s.watch(ctx)
		cancels = append(cancels, cancel)
	}
	return ctx, func() {
		for _, cancel := range cancels {
			cancel()
		}
	}
}

// close stops what runs, and removes the folder.
func (h *house) close() error {
	var errs []error
	for _, s := range h.running {
		errs = append(errs, s.stop())
	}
	errs = append(errs, os.RemoveAll(h.dir))
	return errors.Join(errs...)
}
