package experiment

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
)

// A Plan says how often stages are measured, and how.
type Plan struct {
	Rounds int
	Nodes  int  // of each stage; for sweeps
	Once   bool // a request that is answered Busy has failed, and is not sent again
}

// A Progress is told what is being done, and how long it will take.
type Progress interface {
	Say(what string)
	Expect(left time.Duration)
}

// Rounds stores the keys on the stages that run, and measures each of them n times: in
// interleaved rounds, in random order. add takes in each result.
func Rounds(ctx context.Context, h *testbed.Bed, plan Plan, line Progress, add func(stage string, round int, r *load.Result) error) error {
	ctx, cancel := h.Watch(ctx)
	defer cancel()
	works := make([]*workload.Workload, len(h.Running)) // one each: what it remembers is of these servers
	for i, s := range h.Running {
		line.Say("storing the keys on " + s.Stage)
		var err error
		if works[i], err = workload.New(s.Cfg.Workload); err != nil {
			return err
		}
		works[i].Once = plan.Once
		if err := load.Preload(ctx, s.Target, works[i]); err != nil {
			return testbed.Reason(ctx, fmt.Errorf("%s: %w%s", s.Stage, err, s.LastWords(err)))
		}
	}
	w := h.Running[0].Cfg.Workload
	rng := rand.New(rand.NewPCG(w.Seed, 0))
	for round := 1; round <= plan.Rounds; round++ {
		for done, i := range rng.Perm(len(h.Running)) {
			s := h.Running[i]
			line.Say(fmt.Sprintf("round %d of %d: %s", round, plan.Rounds, s.Stage))
			if w.Duration > 0 {
				left := (plan.Rounds-round+1)*len(h.Running) - done
				line.Expect(time.Duration(left) * (w.Duration + load.Warmup(w.Duration)))
			}
			works[i].Round = uint64(round - 1)
			r, err := load.Measure(ctx, s.Target, works[i], 0)
			if err != nil {
				return testbed.Reason(ctx, fmt.Errorf("%s: %w%s", s.Stage, err, s.LastWords(err)))
			}
			if err := add(s.Stage, round, r); err != nil {
				return err
			}
			if err := r.Broken(); err != nil {
				return fmt.Errorf("%s, round %d: %w%s", s.Stage, round, err, s.LastWords(load.ErrNoAnswer))
			}
		}
	}
	return nil
}
