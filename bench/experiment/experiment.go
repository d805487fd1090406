// Package experiment measures stages in interleaved rounds, in random order, each time with
// new servers. What a machine does meanwhile then affects all of them alike.
package experiment

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// A Subject is what is measured once in each round: a stage, at one point of a sweep if there
// is one, or a yardstick.
type Subject struct {
	Name   string // of the stage or yardstick
	Point  string // of the sweep, or ""
	Title  string // in progress and errors
	Config cluster.Config
	Start  testbed.StartFunc // starts new servers
}

// Stage returns a stage to be measured as so many nodes.
func Stage(b *testbed.Bed, p testbed.Program, cfg cluster.Config, nodes int) Subject {
	start := func(ctx context.Context) (*testbed.Servers, error) { return b.Start(ctx, p, cfg, nodes) }
	return Subject{Name: p.Name, Title: p.Name, Config: cfg, Start: start}
}

// A Plan says what is measured, how often and how.
type Plan struct {
	Subjects []Subject
	Rounds   int
	Once     bool // a request that is answered Busy has failed, and is not sent again

	storeTime time.Duration // limits how long storing the keys may take; 0: a minute
}

// A Progress is told what is being done and how much time is left.
type Progress interface {
	Say(what string)
	Expect(left time.Duration)
}

// An AddFunc takes the result of a round.
type AddFunc func(s *Subject, round int, r *load.Result) error

// Run measures each subject once in each round, in random order. Every measurement is an
// experiment of its own: it starts new servers, stores the keys, puts the load on them and
// stops them. So no other servers run beside it, and it finds no queues or keys of another.
// What differs from one start to the next (where memory lies, where the scheduler puts two
// processes) then differs between rounds, and shows in the interval.
//
// Run calls add with each result, even with that of a round that was cut short.
func (plan Plan) Run(ctx context.Context, b *testbed.Bed, progress Progress, add AddFunc) error {
	m := &measuring{Plan: plan, bed: b, progress: progress, add: add}
	rng := rand.New(rand.NewPCG(plan.Subjects[0].Config.Workload.Seed, 0))
	for round := 1; round <= plan.Rounds; round++ {
		for _, i := range rng.Perm(len(plan.Subjects)) {
			s := &plan.Subjects[i]
			if err := m.measure(ctx, s, round); err != nil {
				return fmt.Errorf("%s, round %d: %w", s.Title, round, err)
			}
		}
	}
	return nil
}

// A measuring is a plan that is being carried out.
type measuring struct {
	Plan
	bed       *testbed.Bed
	progress  Progress
	add       AddFunc
	prepared  int           // how many measurements have servers with keys, or had
	preparing time.Duration // how long that took, of all of them
}

func (m *measuring) measure(ctx context.Context, s *Subject, round int) error {
	say := func(what string) { m.progress.Say(fmt.Sprintf("round %d of %d: %s%s", round, m.Rounds, s.Title, what)) }
	m.expect(s, 0)
	say(", starting")
	begin := time.Now()
	return m.bed.Use(ctx, s.Start, func(ctx context.Context, servers *testbed.Servers) error {
		say(", storing the keys")
		work, err := m.store(ctx, servers.Target, round)
		var r *load.Result
		if err == nil {
			m.prepared, m.preparing = m.prepared+1, m.preparing+time.Since(begin)
			m.expect(s, 1)
			say("")
			r, err = load.Measure(ctx, servers.Target, work, 0)
		}
		if r != nil && (err == nil || r.Requests > 0) { // cut short, but better than nothing
			if err := m.add(s, round, r); err != nil {
				return err
			}
		}
		if err == nil {
			err = r.Broken()
		}
		if err != nil {
			return fmt.Errorf("%w%s", err, servers.LastOutput(err))
		}
		return nil
	})
}

// expect tells how long the measurements still take, if as many as ready says have servers
// with keys, but no load yet. Preparing one takes what it took on average so far.
func (m *measuring) expect(s *Subject, ready int) {
	length := s.Config.Workload.Duration
	if length == 0 {
		return // the load ends when its operations are done
	}
	prepare := time.Duration(m.Rounds*len(m.Subjects) - m.prepared) // how many have to be prepared
	each := m.preparing / time.Duration(max(m.prepared, 1))
	m.progress.Expect(prepare*each + (prepare+time.Duration(ready))*(length+load.Warmup(length)))
}

// store stores the keys on new servers, and returns their workload.
func (plan Plan) store(ctx context.Context, to load.Target, round int) (*workload.Workload, error) {
	work, err := workload.New(to.Config().Workload)
	if err != nil {
		return nil, err
	}
	work.Once, work.Round = plan.Once, uint64(round-1)
	limit := cmp.Or(plan.storeTime, time.Minute)
	late := fmt.Errorf("storing %s took longer than %v: give fewer with -keys, or less -work", text.Plural(int64(work.Keys), "key"), limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	if err := load.Preload(ctx, to, work); err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return work, nil
}
