package tour

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// The scenarios of the tour.
const (
	tourClients  = 8
	tourRequests = 1000 // with a connection each: other systems have 16 384 ports for them
	tourKept     = 1500 * time.Millisecond
	stallTime    = 250 * time.Millisecond
	stallRate    = 24 // requests a second of the others, so that fewer are due in a stall than there are clients
	stallLength  = 4 * time.Second
	overClients  = 1000
	overRate     = 2000 // requests a second
	overLength   = 1500 * time.Millisecond
	overGrace    = 2500 * time.Millisecond
	tourWork     = time.Millisecond
)

// A tourRow is what one stage did.
type tourRow struct {
	name                           string
	churn, kept, stall, over, work *load.Result
	crowded                        metrics.Snapshot // of the server, with all connections of over open; and its peak memory after it
}

// A tourist takes one stage through the scenarios.
type tourist struct {
	ctx     context.Context
	house   *testbed.Bed
	program testbed.Program
	cfg     cluster.Config // the default workload
	line    experiment.Progress
}

func (t *tourist) say(what string) { t.line.Say(t.program.Name + ": " + what) }

func (t *tourist) row() (*tourRow, error) {
	row := &tourRow{name: t.name()}
	err := t.with(t.cfg, func(ctx context.Context, cfg cluster.Config) (err error) {
		t.say("connections kept")
		kept := cfg
		kept.Workload.Duration = tourKept
		if row.kept, err = t.measure(ctx, kept); err != nil {
			return err
		}
		t.say("a connection for each request")
		churn := cfg
		churn.Workload.Conn = "per-request"
		churn.Workload.Ops = tourRequests
		if row.churn, err = t.measure(ctx, churn); err != nil {
			return err
		}
		t.say("beside a client that stops")
		churn.Workload.Rate, churn.Workload.Duration = stallRate, stallLength
		var staller sync.WaitGroup
		defer staller.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		staller.Go(func() { stall(ctx, cfg, stallTime) }) // ends with ctx
		row.stall, err = t.measure(ctx, churn)
		return err
	})
	if err != nil {
		return nil, err
	}
	slow := t.cfg
	slow.Server.Work.Time = tourWork
	err = t.with(slow, func(ctx context.Context, cfg cluster.Config) (err error) {
		t.say("1 ms of work")
		work := cfg
		work.Workload.Duration = tourKept
		if row.work, err = t.measure(ctx, work); err != nil {
			return err
		}
		t.say("overload")
		return t.overload(ctx, cfg, row)
	})
	return row, err
}

// name is short enough for the table: "1 one thread".
func (t *tourist) name() string {
	number, kind, _ := strings.Cut(strings.TrimPrefix(t.program.Name, "stage"), "_")
	kinds := map[string]string{"singlethread": "one thread", "coarselock": "coarse lock", "threadpool": "thread pool", "bucketlock": "bucket lock"}
	return number + " " + cmp.Or(kinds[kind], kind)
}

// with runs f while the stage serves.
func (t *tourist) with(cfg cluster.Config, f func(context.Context, cluster.Config) error) error {
	t.say("starting")
	return t.house.With(t.ctx, t.program, cfg, 1, f)
}

func (t *tourist) measure(ctx context.Context, cfg cluster.Config) (*load.Result, error) {
	work, err := workload.New(cfg.Workload)
	if err != nil {
		return nil, err
	}
	r, err := load.Measure(ctx, load.NewLockstep(cfg), work, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.program.Name, err)
	}
	return r, mustBeRight(r, t.program.Name)
}

// mustBeRight makes a wrong answer an error: there is no use in how fast it came.
func mustBeRight(r *load.Result, stage string) error {
	if r.Wrong > 0 {
		return fmt.Errorf("%w: %s: %s", load.ErrWrong, stage, r.FirstWrong)
	}
	return nil
}

// overload asks for more than the stage can do, and takes no for an answer.
func (t *tourist) overload(ctx context.Context, cfg cluster.Config, row *tourRow) error {
	w := &cfg.Workload
	w.Connections, w.Rate, w.Duration = overClients, overRate, overLength
	work, err := workload.New(cfg.Workload)
	if err != nil {
		return err
	}
	l, err := load.New(ctx, load.NewLockstep(cfg), work, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", t.program.Name, err)
	}
	defer l.Close()
	l.Once, l.Grace = true, overGrace
	if row.crowded, err = client.Stats(ctx, cfg, 0); err != nil {
		return err
	}
	if row.over, err = l.Measure(ctx); err != nil {
		return err
	}
	after, err := client.Stats(ctx, cfg, 0)
	row.crowded.PeakMemory = after.PeakMemory
	if err == nil {
		err = mustBeRight(row.over, t.program.Name)
	}
	return err
}
