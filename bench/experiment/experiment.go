// Package experiment measures stages in interleaved rounds, in random order: servers that
// are running, or a sweep over the values of a property. What a machine does meanwhile then
// affects all of them alike.
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

// A Progress is told what is being done and how much time is left.
type Progress interface {
	Say(what string)
	Expect(left time.Duration)
}

// Rounds stores the keys on the servers that are running, and measures all of them in each
// round. It calls add with each result.
func Rounds(ctx context.Context, b *testbed.Bed, plan Plan, progress Progress, add func(stage string, round int, r *load.Result) error) error {
	return b.Watch(ctx, func(ctx context.Context) error {
		var all []measurement
		for _, s := range b.Running {
			progress.Say("storing the keys on " + s.Name)
			work, err := newWorkload(ctx, s.Target, plan, 1) // for all rounds, since it remembers what is stored
			if err != nil {
				return fmt.Errorf("%s: %w%s", s.Name, err, s.LastOutput(err))
			}
			all = append(all, measurement{s.Name, s.Config.Workload.Duration, func(round int) (*load.Result, error) {
				work.Round = uint64(round - 1)
				return load.Measure(ctx, s.Target, work, 0)
			}, func(round int, r *load.Result) error { return add(s.Name, round, r) }, s.LastOutput})
		}
		return interleave(plan.Rounds, b.Running[0].Config.Workload.Seed, all, progress)
	})
}

// newWorkload stores the keys on new servers, and returns their workload.
func newWorkload(ctx context.Context, to load.Target, plan Plan, round int) (*workload.Workload, error) {
	work, err := workload.New(to.Config().Workload)
	if err != nil {
		return nil, err
	}
	work.Once, work.Round = plan.Once, uint64(round-1)
	return work, load.Preload(ctx, to, work)
}

// A measurement is made once in each round.
type measurement struct {
	name     string
	duration time.Duration
	measure  func(round int) (*load.Result, error)
	add      func(round int, r *load.Result) error
	output   func(error) string // of the servers, to explain an error
}

// interleave makes all measurements in each round, in random order.
func interleave(rounds int, seed uint64, all []measurement, progress Progress) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := 1; round <= rounds; round++ {
		for done, i := range rng.Perm(len(all)) {
			m := all[i]
			progress.Say(fmt.Sprintf("round %d of %d: %s", round, rounds, m.name))
			if m.duration > 0 {
				left := (rounds-round+1)*len(all) - done
				progress.Expect(time.Duration(left) * (m.duration + load.Warmup(m.duration)))
			}
			r, err := m.measure(round)
			// A first round that was cut short is better than nothing.
			if err == nil || round == 1 && r != nil && r.Requests > 0 {
				if err := m.add(round, r); err != nil {
					return err
				}
			}
			if err == nil {
				err = r.Broken()
			}
			if err != nil {
				return fmt.Errorf("%s, round %d: %w%s", m.name, round, err, m.output(err))
			}
		}
	}
	return nil
}
