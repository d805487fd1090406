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

// A TourProgress is told what the tour is doing, and prints what it has found without disturbing
// the line that says so.
type Progress interface {
	experiment.Progress
	Print(w io.Writer, text string) error
}

const tourHeader = `
Lockstep is one hash table, served four ways. What breaks each of them, and what
the next one cures, measured now, on this machine:

  A  8 clients, a new connection for each request       requests/s
  B  8 clients, each keeps its connection               requests/s
  C  as A, beside one that stops in mid-request, for    the others' p99, from
     250 ms, again and again                            when a request was due
  D  overload: 2 000 requests/s due, over 1 000 kept    p99 of the answered,
     connections, 1 ms of work each, a queue of 64      and the share refused
  E  as B, with 1 ms of work                            requests/s

`

// How long the tour takes, about, and its last scenario: stages 3 and 4 without work.
const (
	rowTime    = 12500 * time.Millisecond
	lastTime   = 7 * time.Second
	lastRounds = 6
	lastRound  = 400 * time.Millisecond
)

// Tour shows on out what breaks each of the stages 1 to 4, whose programs a testbed has
// built, and what the next one cures.
func Run(ctx context.Context, h *testbed.Bed, secret string, line Progress, out io.Writer) error {
	if err := line.Print(out, tourHeader+tourLine("stage", "A", "B", "C", "D", "E")); err != nil {
		return err
	}
	cfg := cluster.Default()
	cfg.Secret = secret // the servers read LOCKSTEP_SECRET, too
	left := time.Duration(len(h.Programs))*rowTime + lastTime
	var rows []*tourRow
	for _, p := range h.Programs {
		line.Expect(left)
		left -= rowTime
		t := &tourist{ctx: ctx, house: h, program: p, cfg: cfg, line: line}
		row, err := t.row()
		if err != nil {
			return err
		}
		if err := line.Print(out, row.String()); err != nil {
			return err
		}
		rows = append(rows, row)
	}
	gain, held, err := noWork(ctx, h, cfg, line)
	if err != nil {
		return err
	}
	return line.Print(out, conclude(rows, gain, held))
}

// noWork compares stages 3 and 4 without work under the lock, and returns what stage
// 4 gains, and how much of the time stage 3's lock was held.
func noWork(ctx context.Context, h *testbed.Bed, cfg cluster.Config, line experiment.Progress) (gain *report.Ratio, held float64, err error) {
	cfg.Workload.Duration = lastRound
	rep := report.New(cfg, nil, true)
	for _, p := range h.Programs[2:4] {
		if _, err := h.Start(ctx, p, cfg, 1); err != nil {
			return nil, 0, err
		}
		rep.Stages = append(rep.Stages, p.Name)
	}
	err = experiment.Rounds(ctx, h, experiment.Plan{Rounds: lastRounds}, line, func(stage string, round int, r *load.Result) error {
		if stage == rep.Stages[0] {
			held = max(held, r.Held())
		}
		rep.Add(stage, round, r)
		return mustBeRight(r, stage)
	})
	if err != nil {
		return nil, 0, err
	}
	return rep.Summary[1].Ratio, held, nil
}
