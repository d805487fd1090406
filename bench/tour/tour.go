// Package tour shows what breaks each of the four stages, and what the next one cures. It
// takes each stage through five scenarios and prints a row for it, and then a conclusion.
package tour

import (
	"cmp"
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
	"lockstep/common/text"
	"lockstep/common/wire"
)

// A Progress prints what the tour has found, besides what it is doing.
type Progress interface {
	experiment.Progress
	Print(w io.Writer, what string) error
}

const introduction = `
Lockstep is one hash table, served four ways. What breaks each of them, and what
the next one cures, measured now, on this machine, with 8 clients of one server;
overloaded, 1 000 clients make 2 000 requests/s of 1 ms, and a queue holds 64:

`

// Run takes stages 1 to 4, which b has built, through the tour and prints it on out. The lengths of
// all scenarios are multiples of unit, and the last two stages are compared in this many rounds.
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

// A hushed Progress keeps rounds out of a log, where they would separate the table from its explanation.
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
	work, _ := workload.New(cfg.Workload) // which is valid in each scenario
	work.Once = true                      // Busy, which only overload meets, is an answer
	g, err := load.New(ctx, load.NewLockstep(cfg), work, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	defer g.Close()
	round := g.Round
	if g.Told = progress.Pace; work.Rate > 0 {
		round, g.Grace = g.Measure, work.Duration*5/3
	}
	r.crowd, _ = client.Stats(ctx, cfg, 0) // that of overload, which is last, stays; without an answer, the round fails
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

// line is the format of a line of the table. The widths of the columns are fixed, since a
// row is printed as soon as its stage has been measured.
const line = "%-13s  %11s  %11s  %10s  %15s  %10s\n"

var header = fmt.Sprintf(line, "", "connection", "connections", "p99 beside", "overload:", "1 ms of") +
	fmt.Sprintf(line, "", "per request", "kept", "a stalled", "p99 and", "work each") +
	fmt.Sprintf(line, "stage", "requests/s", "requests/s", "client", "refused", "requests/s")

func (r *row) String() string {
	overload := fmt.Sprintf("%s, %.0f %%", p99(r.overload), refused(r.overload))
	if r.overload.Requests == 0 {
		overload = "all refused"
	}
	return fmt.Sprintf(line, r.name, throughput(r.perRequest), throughput(r.kept), cmp.Or(failure(r.stalled), p99(r.stalled)),
		cmp.Or(failure(r.overload), overload), throughput(r.work))
}

// failure says how a stage failed, or "".
func failure(r *load.Result) string {
	switch failed := r.Failed() - busy(r); {
	case r.NeverGreeted > 0:
		return fmt.Sprintf("%d/%d starve", r.Starved, r.Connections)
	case r.Requests+busy(r) == 0:
		return "failed"
	case failed > 0:
		return text.Count(failed) + " err"
	}
	return ""
}

func throughput(r *load.Result) string { return cmp.Or(failure(r), text.Sig(perSecond(r), 2)) }

func perSecond(r *load.Result) float64 { return float64(r.Requests) / max(r.Dur, 1).Seconds() }

// p99 writes the response time at p99, or a bound if that is all that is known.
func p99(r *load.Result) string {
	d, known := r.Quantile(&r.ResponseTimes, 0.99)
	return map[bool]string{false: ">"}[known] + text.DurationSig(d, 2)
}

// faster reports whether a is known to take less time at p99 than b, divided by factor.
func faster(a, b *load.Result, factor time.Duration) bool {
	took, known := a.Quantile(&a.ResponseTimes, 0.99)
	other, _ := b.Quantile(&b.ResponseTimes, 0.99) // or more
	return known && took*factor < other
}

func busy(r *load.Result) int64 { return r.Errors[client.ErrBusy.Error()] }

// refused returns the percentage of requests that were answered Busy.
func refused(r *load.Result) float64 {
	return 100 * float64(busy(r)) / float64(max(r.Requests+busy(r), 1))
}

// conclude says what the tour has measured, whether it is as expected or not: two lines at most
// for each step from one stage to the next, and for two other questions. With the table, and the
// prompt of a shell, this fits a terminal of 24 rows.
func conclude(rows []*row, gain *report.Ratio, held float64) (conclusion string) {
	for _, paragraph := range []string{
		oneToTwo(rows[0], rows[1]), twoToThree(rows[1], rows[2]), threeToFour(rows[2], rows[3]), withoutWork(gain, held), goroutines(rows[1], rows[2]),
	} {
		conclusion += text.Wrap(paragraph, text.Columns)
	}
	return "\n" + conclusion + "\nNext: read NOTES.md, or run: go run ./bench compare -stages 3,4 -work 1ms\n"
}

func oneToTwo(one, two *row) string {
	s := fmt.Sprintf("1 to 2, a goroutine a connection: %d of %d clients starve in stage 1. ", one.kept.Starved, one.kept.Connections)
	if failure(one.stalled)+failure(two.stalled) != "" {
		return s + "Beside a stalled client requests failed, which shows nothing."
	}
	format := "A stalled client costs the others %s at p99, then %s: no gain."
	if faster(two.stalled, one.stalled, 2) {
		format = "A stalled client makes all others wait, %s at p99; in stage 2 it does not: %s."
	}
	return s + fmt.Sprintf(format, p99(one.stalled), p99(two.stalled))
}

func twoToThree(two, pool *row) string {
	s := "2 to 3, a pool with a bounded queue: "
	if failure(two.overload)+failure(pool.overload) != "" {
		return s + "overloaded, not all clients were served, which shows nothing."
	}
	s += fmt.Sprintf("overloaded, stage 2 takes %s at p99. ", p99(two.overload))
	share := refused(pool.overload)
	switch {
	case pool.overload.Requests == 0:
		return s + "Stage 3 refused every request: no gain."
	case share > 1 && faster(pool.overload, two.overload, 1):
		return s + fmt.Sprintf("Stage 3 says no in time: it refuses %.0f %%, and takes %s for the others.", share, p99(pool.overload))
	}
	return s + fmt.Sprintf("Stage 3 refused %.0f %%, and took %s: no gain.", share, p99(pool.overload))
}

func threeToFour(pool, buckets *row) string {
	s := "3 to 4, a lock for each bucket: with 1 ms of work under the lock, "
	if failure(pool.work)+failure(buckets.work) != "" {
		return s + "some requests failed, which shows nothing."
	}
	s += fmt.Sprintf("stage 3 does %s requests/s and stage 4 %s", throughput(pool.work), throughput(buckets.work))
	if times := perSecond(buckets.work) / perSecond(pool.work); times > 1.5 {
		return s + fmt.Sprintf(", %s times as many.", text.Sig(times, 2))
	}
	return s + ": no gain."
}

func withoutWork(gain *report.Ratio, held float64) string {
	s := "Without work, stage 4 "
	switch {
	case gain.Rounds == 0:
		return s + "is not compared: in no round did both answer."
	case gain.NoDifference:
		s += "shows no gain: "
	case gain.Median > 1:
		s += "gains a little: "
	default:
		s += "loses: "
	}
	s += fmt.Sprintf("%s times stage 3, %s. Stage 3's lock is held %s %% of the time", text.Sig3(gain.Median), gain.Bounds(), text.Sig3(100*held))
	if held < 0.3 {
		return s + ", and costs little."
	}
	return s + ": many locks could have gained."
}

func goroutines(two, pool *row) string {
	a, b := two.crowd, pool.crowd
	s := "A pool saves no goroutines in Go: "
	if b.Goroutines < a.Goroutines {
		s = "Here the pool had fewer goroutines: "
	}
	return s + fmt.Sprintf("stage 2 had %s with %s, stage 3 %s with %s.",
		text.Count(int64(a.Goroutines)), text.Plural(a.Open, "connection"), text.Count(int64(b.Goroutines)), text.Count(b.Open))
}
