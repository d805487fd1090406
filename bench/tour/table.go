package tour

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/text"
)

// widths are those of the table's columns. They are fixed, since a row is printed as soon
// as its stage has been measured.
var widths = [...]int{13, 11, 11, 10, 15, 10}

var header = line("", "connection", "connections", "p99 beside", "overload:", "1 ms of") +
	line("", "per request", "kept", "a stalled", "p99 and", "work each") +
	line("stage", "requests/s", "requests/s", "client", "refused", "requests/s")

// line lays out a line of the table: the first cell to the left, the others to the right.
func line(cells ...string) string {
	s := ""
	for i, cell := range cells {
		fill := strings.Repeat(" ", max(widths[i]-utf8.RuneCountInString(cell), 0))
		if i == 0 {
			s += cell + fill
		} else {
			s += "  " + fill + cell
		}
	}
	return s + "\n"
}

func (r *row) String() string {
	return line(r.name, throughput(r.perRequest), throughput(r.kept), response(r.stalled), overload(r.overload), throughput(r.work))
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

func throughput(r *load.Result) string { return cmp.Or(failure(r), text.Sig3(perSecond(r))) }

func response(r *load.Result) string { return cmp.Or(failure(r), text.Duration(p99(r))) }

func overload(r *load.Result) string {
	cell := fmt.Sprintf("%s, %.0f %%", text.Duration(p99(r)), refused(r))
	switch {
	case r.Requests == 0:
		cell = "all refused"
	case r.Unfinished > 0:
		cell = ">" + cell // the slowest requests have no time
	}
	return cmp.Or(failure(r), cell)
}

func perSecond(r *load.Result) float64 { return float64(r.Requests) / max(r.Dur, 1).Seconds() }

func p99(r *load.Result) time.Duration { return r.ResponseTimes.Quantile(0.99) }

func busy(r *load.Result) int64 { return r.Errors[client.ErrBusy.Error()] }

// refused returns the percentage of requests that were answered Busy.
func refused(r *load.Result) float64 {
	return 100 * float64(busy(r)) / float64(max(r.Requests+busy(r), 1))
}
