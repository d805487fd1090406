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

// The columns of the tour's table, two apart: the name of the stage, and a scenario
// each. A client that needs a connection for each request does not starve, it fails:
// the columns of those scenarios are narrow.
var tourWidths = [...]int{13, 7, 13, 6, 18, 13}

// tourLine is a line of the table: the first cell to the left, the others to the right.
func tourLine(cells ...string) string {
	var b strings.Builder
	for i, cell := range cells {
		fill := strings.Repeat(" ", max(tourWidths[i]-utf8.RuneCountInString(cell), 0))
		if i == 0 {
			b.WriteString(cell + fill)
		} else {
			b.WriteString("  " + fill + cell)
		}
	}
	return strings.TrimRight(b.String(), " ") + "\n"
}

func (r *tourRow) String() string {
	return tourLine(r.name, throughputCell(r.churn), throughputCell(r.kept), responseCell(r.stall), overCell(r.over), throughputCell(r.work))
}

func perSecond(r *load.Result) float64 { return float64(r.Requests) / max(r.Dur, 1).Seconds() }

func p99Of(r *load.Result) time.Duration { return r.ResponseTimes.Quantile(0.99) }

func busy(r *load.Result) int64 { return r.Errors[client.ErrBusy.Error()] }

// refused is the share of the requests that was answered Busy, in percent.
func refused(r *load.Result) float64 {
	return 100 * float64(busy(r)) / float64(max(r.Requests+busy(r), 1))
}

// fails says how the stage cannot do what was asked for; "" if it can.
func fails(r *load.Result) string {
	failed := r.Failed() - busy(r)
	switch {
	case r.NeverGreeted > 0:
		return fmt.Sprintf("%d of %d starve", r.Starved, r.Connections)
	case r.Requests+busy(r) == 0:
		return "failed"
	case failed > 0:
		return text.Count(failed) + " err"
	}
	return ""
}

func throughputCell(r *load.Result) string { return cmp.Or(fails(r), text.Sig3(perSecond(r))) }

func responseCell(r *load.Result) string { return cmp.Or(fails(r), text.Duration(p99Of(r))) }

func overCell(r *load.Result) string {
	cell := fmt.Sprintf("%s, %.0f %%", text.Duration(p99Of(r)), refused(r))
	switch {
	case r.Requests == 0:
		cell = "all refused"
	case r.Unfinished > 0:
		cell = ">" + cell // the slowest are not in it
	}
	return cmp.Or(fails(r), cell)
}
