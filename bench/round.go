package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/text"
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
func Rounds(ctx context.Context, h *house, plan Plan, line Progress, add func(stage string, round int, r *Result) error) error {
	ctx, cancel := h.watch(ctx)
	defer cancel()
	works := make([]*workload, len(h.running)) // one each: what it remembers is of these servers
	for i, s := range h.running {
		line.Say("storing the keys on " + s.stage)
		var err error
		if works[i], err = newWorkload(s.cfg.Workload); err != nil {
			return err
		}
		works[i].once = plan.Once
		if err := preload(ctx, s.target, works[i]); err != nil {
			return reason(ctx, fmt.Errorf("%s: %w%s", s.stage, err, s.lastWords(err)))
		}
	}
	w := h.running[0].cfg.Workload
	rng := rand.New(rand.NewPCG(w.Seed, 0))
	for round := 1; round <= plan.Rounds; round++ {
		for done, i := range rng.Perm(len(h.running)) {
			s := h.running[i]
			line.Say(fmt.Sprintf("round %d of %d: %s", round, plan.Rounds, s.stage))
			if w.Duration > 0 {
				left := (plan.Rounds-round+1)*len(h.running) - done
				line.Expect(time.Duration(left) * (w.Duration + warmup(w.Duration)))
			}
			works[i].round = uint64(round - 1)
			r, err := measure(ctx, s.target, works[i], 0)
			if err != nil {
				return reason(ctx, fmt.Errorf("%s: %w%s", s.stage, err, s.lastWords(err)))
			}
			if err := add(s.stage, round, r); err != nil {
				return err
			}
			if err := r.broken(); err != nil {
				return fmt.Errorf("%s, round %d: %w%s", s.stage, round, err, s.lastWords(ErrNoAnswer))
			}
		}
	}
	return nil
}

// measure is one round: new connections, a warm-up of those that are kept, and the
// load. The connections are numbered from first, which no others of the run are. Where
// ctx ends in the middle, there is a result beside the error.
func measure(ctx context.Context, to Target, work *workload, first int) (*Result, error) {
	l, err := newLoad(ctx, to, work, first)
	if err != nil {
		return nil, err
	}
	defer l.close()
	warm := new(Result)
	if w := to.Config().Workload; w.Conn == "persistent" {
		warm = l.run(ctx, warmup(w.Duration), 0)
	}
	r, err := l.measured(ctx)
	if r != nil && warm.Wrong > 0 { // an answer that cannot be right counts whenever it comes
		r.Wrong += warm.Wrong
		r.FirstWrong = warm.FirstWrong
	}
	return r, err
}

// broken is why no more rounds of a stage are of use; nil if they are.
func (r *Result) broken() error {
	switch n := r.panics(); {
	case n > 0:
		return fmt.Errorf("%s panicked inside the server, which logs where", text.Plural(n, "request"))
	case r.Requests == 0 && r.Unfinished > 0:
		return errors.New("no request was answered")
	}
	return nil
}

// warmup is how long connections are used before it counts.
func warmup(round time.Duration) time.Duration {
	return min(max(round/4, 100*time.Millisecond), time.Second)
}

// measured is run, as the workload says, with what it took the servers and this
// process. Where ctx ends in the middle, there is a result beside the error.
func (l *load) measured(ctx context.Context) (*Result, error) {
	before, err := l.target.Stats(ctx)
	if err != nil {
		return nil, err
	}
	mine := clientCPU()
	r := l.run(ctx, l.cfg.Workload.Duration, l.cfg.Workload.Ops)
	r.ClientCPU = clientCPU() - mine
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if r.Unfinished > 0 && l.cfg.Workload.Duration == 0 && l.cfg.Workload.Rate == 0 {
		return r, fmt.Errorf("%w to %d requests: are the servers stuck?", ErrNoAnswer, r.Unfinished)
	}
	after, err := l.target.Stats(ctx)
	if err != nil {
		return r, fmt.Errorf("after the load: %w", err)
	}
	for i := range after {
		used := after[i].Sub(before[i])
		r.Nodes = append(r.Nodes, used)
		r.ServerCPU += used.CPU
	}
	return r, nil
}

// clientCPU is the CPU time of this process so far.
func clientCPU() time.Duration { return new(metrics.Stats).Snapshot().CPU }
