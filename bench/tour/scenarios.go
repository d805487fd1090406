package tour

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// stalledRequests of the others are due in 8 units: fewer in a stall than there are clients.
const stalledRequests = 96

// A row is how one stage did in each scenario.
type row struct {
	name                                      string
	perRequest, kept, stalled, overload, work *load.Result
	crowd                                     metrics.Snapshot // of the server, with all connections of overload open
}

// run takes a stage through the scenarios.
func (r *row) run(ctx context.Context, b *testbed.Bed, p testbed.Program, cfg cluster.Config, unit time.Duration, progress Progress) error {
	kept := func(w *cluster.Workload) { w.Duration = 3 * unit }
	perRequest := func(w *cluster.Workload) { // 1000 requests at most, since some systems have only 16 384 ports for them
		w.Conn, w.Ops = "per-request", int(unit/(500*time.Microsecond))
	}
	progress.Detail(p.Name + ": starting")
	err := b.With(ctx, p, cfg, 1, func(ctx context.Context, s *testbed.Servers) (err error) {
		if r.kept, err = measure(ctx, s, progress, "connections kept", load.Measure, kept); err != nil {
			return err
		}
		if r.perRequest, err = measure(ctx, s, progress, "a connection for each request", load.Measure, perRequest); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		var staller sync.WaitGroup // ends with ctx
		defer staller.Wait()
		defer cancel()
		staller.Go(func() { stall(ctx, s.Config, unit/2) })
		r.stalled, err = measure(ctx, s, progress, "beside a stalled client", load.Measure, func(w *cluster.Workload) {
			perRequest(w)
			w.Duration = 8 * unit
			w.Rate = stalledRequests / w.Duration.Seconds()
		})
		return err
	})
	if err != nil {
		return err
	}
	cfg.Server.Work.Time = time.Millisecond
	return b.With(ctx, p, cfg, 1, func(ctx context.Context, s *testbed.Servers) (err error) {
		if r.work, err = measure(ctx, s, progress, "1 ms of work", load.Measure, kept); err != nil {
			return err
		}
		r.overload, err = measure(ctx, s, progress, "overload", r.overloaded, func(w *cluster.Workload) { // more than the stage can do
			w.Connections, w.Rate, w.Duration = int(unit/(500*time.Microsecond)), 2000, 3*unit // 1000 connections in a tour of full length
		})
		return err
	})
}

// measure measures servers in a scenario: with a changed workload, by load.Measure or in another way.
func measure(ctx context.Context, s *testbed.Servers, progress Progress, scenario string,
	way func(context.Context, load.Target, *workload.Workload, int, load.Told) (*load.Result, error), change func(*cluster.Workload)) (*load.Result, error) {
	progress.Detail(s.Name + ": " + scenario)
	cfg := s.Config
	change(&cfg.Workload)
	work, err := workload.New(cfg.Workload)
	if err != nil {
		return nil, err
	}
	r, err := way(ctx, load.NewLockstep(cfg), work, 0, progress.Pace)
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

// overloaded measures without a warm-up, and does not retry what the stage refuses.
func (r *row) overloaded(ctx context.Context, to load.Target, work *workload.Workload, first int, told load.Told) (*load.Result, error) {
	work.Once = true
	g, err := load.New(ctx, to, work, first)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	g.Told, g.Grace = told, work.Duration*5/3
	if r.crowd, err = client.Stats(ctx, to.Config(), 0); err != nil {
		return nil, err
	}
	return g.Measure(ctx)
}

// stall is a client that sends half a request, stalls, sends the rest, reads the answer and
// leaves, again and again until ctx ends.
func stall(ctx context.Context, cfg cluster.Config, length time.Duration) {
	for ctx.Err() == nil {
		if stallOnce(ctx, cfg, length) != nil {
			control.Pause(ctx, time.Millisecond)
		}
	}
}

func stallOnce(ctx context.Context, cfg cluster.Config, length time.Duration) error {
	request, _ := wire.AppendRequest(nil, &wire.Request{Ops: []wire.Op{{Kind: wire.Get, Key: "stall"}}}) // which is valid
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", cfg.Nodes[0].Addr)
	if err != nil {
		return err
	}
	c, err := wire.Open(ctx, nc, cfg.Hello(0), wire.Limits{})
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, c.Stop)()
	half := len(request) / 2
	nc.Write(request[:half])
	control.Pause(ctx, length)
	nc.Write(request[half:])
	c.ReadResponse(new(wire.Response)) // fails if a write failed
	return c.Err()
}
