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

// About how long the tour takes for each stage and for comparing stages 3 and 4.
const (
	stageTime   = 12500 * time.Millisecond
	compareTime = 7 * time.Second
)

// Run takes stages 1 to 4, which b has built, through the tour and prints it on out.
func Run(ctx context.Context, b *testbed.Bed, secret string, progress Progress, out io.Writer) error {
	if err := progress.Print(out, introduction+header); err != nil {
		return err
	}
	cfg := cluster.Default()
	cfg.Secret = secret // the servers read LOCKSTEP_SECRET, too
	left := time.Duration(len(b.Programs))*stageTime + compareTime
	var rows []*row
	for i, name := range []string{"1 one thread", "2 coarse lock", "3 thread pool", "4 bucket lock"} {
		progress.Expect(left)
		left -= stageTime
		r := &row{name: name}
		if err := r.run(ctx, b, b.Programs[i], cfg, progress); err != nil {
			return err
		}
		if err := progress.Print(out, r.String()); err != nil {
			return err
		}
		rows = append(rows, r)
	}
	gain, held, err := compare(ctx, b, cfg, progress)
	if err != nil {
		return err
	}
	return progress.Print(out, conclude(rows, gain, held))
}

// compare compares stages 3 and 4 without work under the lock. It returns the gain of
// stage 4 and the share of the time that stage 3's lock was held.
func compare(ctx context.Context, b *testbed.Bed, cfg cluster.Config, progress Progress) (gain *report.Ratio, held float64, err error) {
	cfg.Workload.Duration = 400 * time.Millisecond
	rep := report.New(cfg, nil, true)
	for _, p := range b.Programs[2:4] {
		if _, err := b.Start(ctx, p, cfg, 1); err != nil {
			return nil, 0, err
		}
		rep.Stages = append(rep.Stages, p.Name)
	}
	err = experiment.Rounds(ctx, b, experiment.Plan{Rounds: 6}, progress, func(stage string, round int, r *load.Result) error {
		if stage == rep.Stages[0] {
			held = max(held, r.Held())
		}
		rep.Add(stage, round, r)
		return checkAnswers(stage, r)
	})
	if err != nil {
		return nil, 0, err
	}
	rep.Summarize()
	return rep.Summary[1].Ratio, held, nil
}
