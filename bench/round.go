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

// rounds stores the keys on the stages that run, and measures each of them n times: in
// interleaved rounds, in random order. add takes in each result.
func (h *house) rounds(ctx context.Context, n int, line *progress, add func(stage string, round int, r *result) error) error {
	ctx, cancel := h.watch(ctx)
	defer cancel()
	works := make([]*workload, len(h.running)) // one each: what it remembers is of these servers
	for i, s := range h.running {
		line.say("storing the keys on " + s.stage)
		var err error
		if works[i], err = newWorkload(s.cfg.Workload); err != nil {
			return err
		}
		works[i].once = h.once
		if err := preload(ctx, s.target, works[i]); err != nil {
			return reason(ctx, fmt.Errorf("%s: %w%s", s.stage, err, s.lastWords(err)))
		}
	}
	w := h.running[0].cfg.Workload
	rng := rand.New(rand.NewPCG(w.Seed, 0))
	for round := 1; round <= n; round++ {
		for done, i := range rng.Perm(len(h.running)) {
			s := h.running[i]
			line.say(fmt.Sprintf("round %d of %d: %s", round, n, s.stage))
			if w.Duration > 0 {
				left := (n-round+1)*len(h.running) - done
				line.expect(time.Duration(left) * (w.Duration + warmup(w.Duration)))
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
				return fmt.Errorf("%s, round %d: %w%s", s.stage, round, err, s.lastWords(errNoAnswer))
			}
		}
	}
	return nil
}

// measure is one round: new connections, a warm-up of those that are kept, and the
// load. The connections are numbered from first, which no others of the run are. Where
// ctx ends in the middle, there is a result beside the error.
func measure(ctx context.Context, to target, work *workload, first int) (*result, error) {
	l, err := newLoad(ctx, to, work, first)
	if err != nil {
		return nil, err
	}
	defer l.close()
	warm := new(result)
	if w := to.cfg.Workload; w.Conn == "persistent" {
		warm = l.run(ctx, warmup(w.Duration), 0)
	}
	r, err := l.measured(ctx)
	if r != nil && warm.wrong > 0 { // an answer that cannot be right counts whenever it comes
		r.wrong += warm.wrong
		r.firstWrong = warm.firstWrong
	}
	return r, err
}

// broken is why no more rounds of a stage are of use; nil if they are.
func (r *result) broken() error {
	switch n := r.panics(); {
	case n > 0:
		return fmt.Errorf("%s panicked inside the server, which logs where", text.Plural(n, "request"))
	case r.requests == 0 && r.unfinished > 0:
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
func (l *load) measured(ctx context.Context) (*result, error) {
	before, err := l.stats(ctx)
	if err != nil {
		return nil, err
	}
	mine := clientCPU()
	r := l.run(ctx, l.cfg.Workload.Duration, l.cfg.Workload.Ops)
	r.clientCPU = clientCPU() - mine
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if r.unfinished > 0 && l.cfg.Workload.Duration == 0 && l.cfg.Workload.Rate == 0 {
		return r, fmt.Errorf("%w to %d requests: are the servers stuck?", errNoAnswer, r.unfinished)
	}
	after, err := l.stats(ctx)
	if err != nil {
		return r, fmt.Errorf("after the load: %w", err)
	}
	for i := range after {
		used := after[i].Sub(before[i])
		r.nodes = append(r.nodes, used)
		r.serverCPU += used.CPU
	}
	return r, nil
}

// clientCPU is the CPU time of this process so far.
func clientCPU() time.Duration { return new(metrics.Stats).Snapshot().CPU }
