package tour

import (
	"cmp"
	"fmt"
	"time"

	"lockstep/bench/load"
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
	return fmt.Sprintf(line, r.name, throughput(r.perRequest), throughput(r.kept), response(r.stalled), overload(r.overload), throughput(r.work))
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

func response(r *load.Result) string { return cmp.Or(failure(r), p99(r)) }

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
