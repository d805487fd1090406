package tour

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// stalledRequests of the others are due in 8 units: fewer in a stall than there are clients.
const stalledRequests = 96

// A row is how one stage did in each scenario.
type row struct {
	name                                      string
	perRequest, kept, stalled, overload, work *load.Result
	crowd                                     metrics.Snapshot // of the server, with all connections of overload open; PeakMemory is from the end
}

// run takes a stage through the scenarios.
func (r *row) run(ctx context.Context, b *testbed.Bed, p testbed.Program, cfg cluster.Config, unit time.Duration, progress Progress) error {
	say := func(what string) { progress.Say(p.Name + ": " + what) }
	kept := func(w *cluster.Workload) { w.Duration = 3 * unit }
	perRequest := func(w *cluster.Workload) { // 1000 requests at most, since some systems have only 16 384 ports for them
		w.Conn, w.Ops = "per-request", int(unit/(500*time.Microsecond))
	}
	say("starting")
	err := b.With(ctx, p, cfg, 1, func(ctx context.Context, s *testbed.Servers) (err error) {
		say("connections kept")
		if r.kept, err = measure(ctx, s, kept); err != nil {
			return err
		}
		say("a connection for each request")
		if r.perRequest, err = measure(ctx, s, perRequest); err != nil {
			return err
		}
		say("beside a stalled client")
		ctx, cancel := context.WithCancel(ctx)
		var staller sync.WaitGroup // ends with ctx
		defer staller.Wait()
		defer cancel()
		staller.Go(func() { stall(ctx, s.Config, unit/2) })
		r.stalled, err = measure(ctx, s, func(w *cluster.Workload) {
			perRequest(w)
			w.Duration = 8 * unit
			w.Rate = stalledRequests / w.Duration.Seconds()
		})
		return err
	})
	if err != nil {
		return err
	}
	say("starting")
	cfg.Server.Work.Time = time.Millisecond
	return b.With(ctx, p, cfg, 1, func(ctx context.Context, s *testbed.Servers) (err error) {
		say("1 ms of work")
		if r.work, err = measure(ctx, s, kept); err != nil {
			return err
		}
		say("overload")
		return r.measureOverload(ctx, s, unit)
	})
}

// measure measures servers with a changed workload.
func measure(ctx context.Context, s *testbed.Servers, change func(*cluster.Workload)) (*load.Result, error) {
	cfg := s.Config
	change(&cfg.Workload)
	work, err := workload.New(cfg.Workload)
	if err != nil {
		return nil, err
	}
	r, err := load.Measure(ctx, load.NewLockstep(cfg), work, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return r, checkAnswers(s.Name, r)
}

// checkAnswers returns an error if an answer was wrong.
func checkAnswers(stage string, r *load.Result) error {
	if r.Wrong > 0 {
		return fmt.Errorf("%w: %s: %s", load.ErrWrong, stage, r.FirstWrong)
	}
	return nil
}

// measureOverload asks for more than the stage can do, and does not retry what it refuses.
func (r *row) measureOverload(ctx context.Context, s *testbed.Servers, unit time.Duration) error {
	cfg := s.Config
	w := &cfg.Workload
	w.Connections, w.Rate, w.Duration = int(unit/(500*time.Microsecond)), 2000, 3*unit // 1000 connections in a tour of full length
	work, err := workload.New(*w)
	if err != nil {
		return err
	}
	work.Once = true
	l, err := load.New(ctx, load.NewLockstep(cfg), work, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	defer l.Close()
	l.Grace = 5 * unit
	if r.crowd, err = client.Stats(ctx, cfg, 0); err != nil {
		return err
	}
	if r.overload, err = l.Measure(ctx); err != nil {
		return err
	}
	r.crowd.PeakMemory = r.overload.Nodes[0].PeakMemory
	return checkAnswers(s.Name, r.overload)
}
