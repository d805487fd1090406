// Package tour shows what breaks each of the four stages, and what the next one cures. It
// takes each stage through five scenarios and prints a row for it, and then a conclusion.
package tour

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A Progress prints what the tour has found, besides what it is doing.
type Progress interface {
	experiment.Progress
	Print(w io.Writer, text string) error
}

const introduction = `
Lockstep is one hash table, served four ways. What breaks each of them, and what
the next one cures, measured now, on this machine, with 8 clients of one server;
overloaded, 1 000 clients make 2 000 requests/s of 1 ms, and a queue holds 64:

`

// Run takes stages 1 to 4, which b has built, through the tour and prints it on out. The lengths of
// all scenarios are multiples of unit, and the last two stages are compared in so many rounds.
func Run(ctx context.Context, b *testbed.Bed, secret string, unit time.Duration, rounds int, progress Progress, out io.Writer) error {
	if err := progress.Print(out, introduction+header); err != nil {
		return err
	}
	cfg := cluster.Default()
	cfg.Secret = secret // the servers read LOCKSTEP_SECRET, too
	var rows []*row
	for i, name := range []string{"1 one thread", "2 coarse lock", "3 thread pool", "4 bucket lock"} {
		progress.Expect(time.Duration(25*(4-i)+14) * unit) // 25 for each stage, and 14 to compare the last two
		r := &row{name: name}
		if err := r.run(ctx, b, b.Programs[i], cfg, unit, progress); err != nil {
			return err
		}
		if err := progress.Print(out, r.String()); err != nil {
			return err
		}
		rows = append(rows, r)
	}
	gain, held, err := compare(ctx, b, cfg, unit, rounds, progress)
	if err != nil {
		return err
	}
	return progress.Print(out, conclude(rows, gain, held))
}

// A hushed Progress keeps rounds out of a log, where they would part the table from what explains it.
type hushed struct{ Progress }

func (p hushed) Say(what string) { p.Detail(what) }

// compare compares stages 3 and 4 without work under the lock. It returns the gain of
// stage 4 and the share of the time that stage 3's lock was held.
func compare(ctx context.Context, b *testbed.Bed, cfg cluster.Config, unit time.Duration, rounds int, progress Progress) (*report.Ratio, float64, error) {
	cfg.Workload.Duration = unit * 4 / 5
	rep := report.New(cfg, nil, true)
	plan := experiment.Plan{Bed: b, Rounds: rounds, Progress: hushed{progress}, Add: func(s *experiment.Subject, round int, r *load.Result) error {
		rep.Add(s.Name, round, r)
		return checkAnswers(s.Name, r)
	}}
	for _, p := range b.Programs[2:4] {
		plan.Subjects = append(plan.Subjects, experiment.Stage(b, p, cfg, 1))
		rep.Stages = append(rep.Stages, p.Name)
	}
	if err := plan.Run(ctx); err != nil {
		return nil, 0, err
	}
	rep.Summarize()
	return rep.Summary[1].Ratio, rep.Summary[0].LockHeld, nil
}

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
		if r.kept, err = r.measure(ctx, s, progress, "connections kept", kept); err != nil {
			return err
		}
		if r.perRequest, err = r.measure(ctx, s, progress, "a connection for each request", perRequest); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		var staller sync.WaitGroup // ends with ctx
		defer staller.Wait()
		defer cancel()
		staller.Go(func() {
			for ctx.Err() == nil {
				stall(ctx, s.Config, unit/2)
			}
		})
		r.stalled, err = r.measure(ctx, s, progress, "beside a stalled client", func(w *cluster.Workload) {
			perRequest(w)
			w.Duration = 8 * unit
			w.Rate = 96 / w.Duration.Seconds() // fewer are due in a stall than there are clients
		})
		return err
	})
	if err != nil {
		return err
	}
	cfg.Server.Work.Time = time.Millisecond
	return b.With(ctx, p, cfg, 1, func(ctx context.Context, s *testbed.Servers) (err error) {
		if r.work, err = r.measure(ctx, s, progress, "1 ms of work", kept); err != nil {
			return err
		}
		r.overload, err = r.measure(ctx, s, progress, "overload", func(w *cluster.Workload) { // more than the stage can do
			w.Connections, w.Rate, w.Duration = int(unit/(500*time.Microsecond)), 2000, 3*unit // 1000 connections in a tour of full length
		})
		return err
	})
}

// measure measures servers in a scenario, with a changed workload. An open loop has no warm-up.
func (r *row) measure(ctx context.Context, s *testbed.Servers, progress Progress, scenario string, change func(*cluster.Workload)) (*load.Result, error) {
	progress.Detail(s.Name + ": " + scenario)
	cfg := s.Config
	change(&cfg.Workload)
	work, err := workload.New(cfg.Workload)
	if err != nil {
		return nil, err
	}
	work.Once = true // Busy, which only overload meets, is an answer
	g, err := load.New(ctx, load.NewLockstep(cfg), work, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	defer g.Close()
	round := g.Round
	if g.Told = progress.Pace; work.Rate > 0 {
		round, g.Grace = g.Measure, work.Duration*5/3
	}
	r.crowd, _ = client.Stats(ctx, cfg, 0) // without an answer, the round fails
	measured, err := round(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return measured, checkAnswers(s.Name, measured)
}

// checkAnswers returns an error if an answer was wrong.
func checkAnswers(stage string, r *load.Result) error {
	if r.Wrong > 0 {
		return fmt.Errorf("%w: %s: %s", load.ErrWrong, stage, r.FirstWrong)
	}
	return nil
}

// stall is a client that sends half a request, stalls, sends the rest, reads the answer and
// leaves.
func stall(ctx context.Context, cfg cluster.Config, length time.Duration) {
	// A client that fails, which it does at once, pauses before the next begins.
	defer control.Pause(ctx, time.Millisecond)
	request, _ := wire.AppendRequest(nil, &wire.Request{Ops: []wire.Op{{Kind: wire.Get, Key: "stall"}}}) // which is valid
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", cfg.Nodes[0].Addr)
	if err != nil {
		return
	}
	c, err := wire.Open(ctx, nc, cfg.Hello(0), wire.Limits{})
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, c.Stop)()
	half := len(request) / 2
	nc.Write(request[:half])
	control.Pause(ctx, length)
	nc.Write(request[half:])
	c.ReadResponse(new(wire.Response)) // fails if a write failed
}
