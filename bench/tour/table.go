package tour

import (
	"cmp"
	"fmt"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/common/client"
	"lockstep/common/text"
)

// line is the format of a line of the table. The widths of the columns are fixed, since a
// row is printed as soon as its stage has been measured.
const line = "%-13s  %11s  %11s  %10s  %15s  %10s\n"

var header = fmt.Sprintf(line, "", "connection", "connections", "p99 beside", "overload:", "1 ms of") +
	fmt.Sprintf(line, "", "per request", "kept", "a stalled", "p99 and", "work each") +
	fmt.Sprintf(line, "stage", "requests/s", "requests/s", "client", "refused", "requests/s")

func (r *row) String() string {
	return fmt.Sprintf(line, r.name, throughput(r.perRequest), throughput(r.kept), cmp.Or(failure(r.stalled), p99(r.stalled)), overload(r.overload), throughput(r.work))
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

func overload(r *load.Result) string {
	cell := fmt.Sprintf("%s, %.0f %%", p99(r), refused(r))
	if r.Requests == 0 {
		cell = "all refused"
	}
	return cmp.Or(failure(r), cell)
}

func perSecond(r *load.Result) float64 { return float64(r.Requests) / max(r.Dur, 1).Seconds() }

// p99 writes the response time at p99, or a bound if that is all that is known.
func p99(r *load.Result) string {
	d, known := r.Quantile(&r.ResponseTimes, 0.99)
	if !known {
		return ">" + text.DurationSig(d, 2)
	}
	return text.DurationSig(d, 2)
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
