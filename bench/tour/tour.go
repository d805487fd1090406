// Package tour shows what breaks each of the four stages, and what the next one cures. It
// takes each stage through five scenarios and prints a row for it, and then a conclusion.
package tour

import (
	"context"
	"io"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/testbed"
	"lockstep/common/cluster"
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

// Run takes stages 1 to 4, which b has built, through the tour and prints it on out.
func Run(ctx context.Context, b *testbed.Bed, secret string, progress Progress, out io.Writer) error {
	return run(ctx, b, secret, 500*time.Millisecond, 6, progress, out)
}

// run is Run with the unit of which the lengths of all scenarios are multiples, and the
// number of rounds in which the last two stages are compared.
func run(ctx context.Context, b *testbed.Bed, secret string, unit time.Duration, rounds int, progress Progress, out io.Writer) error {
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
func compare(ctx context.Context, b *testbed.Bed, cfg cluster.Config, unit time.Duration, rounds int, progress Progress) (gain *report.Ratio, held float64, err error) {
	cfg.Workload.Duration = unit * 4 / 5
	rep := report.New(cfg, nil, true)
	plan := experiment.Plan{Bed: b, Rounds: rounds, Progress: hushed{progress}, Add: func(s *experiment.Subject, round int, r *load.Result) error {
		if s.Name == rep.Stages[0] {
			held = max(held, r.Held())
		}
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
	return rep.Summary[1].Ratio, held, nil
}
