package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

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

func (r *result) perSecond() float64 { return float64(r.requests) / max(r.dur, 1).Seconds() }

func (r *result) p99() time.Duration { return r.latency.Quantile(0.99) }

func (r *result) busy() int64 { return r.errors[client.ErrBusy.Error()] }

// refused is the share of the requests that was answered Busy, in percent.
func (r *result) refused() float64 {
	return 100 * float64(r.busy()) / float64(max(r.requests+r.busy(), 1))
}

// fails says how the stage cannot do what was asked for; "" if it can.
func (r *result) fails() string {
	failed := total(r.errors) - r.busy()
	switch {
	case r.neverGreeted > 0:
		return fmt.Sprintf("%d of %d starve", r.starved, r.connections)
	case r.requests+r.busy() == 0:
		return "failed"
	case failed > 0:
		return text.Count(failed) + " err"
	}
	return ""
}

func throughputCell(r *result) string { return cmp.Or(r.fails(), text.Sig3(r.perSecond())) }

func responseCell(r *result) string { return cmp.Or(r.fails(), text.Duration(r.p99())) }

func overCell(r *result) string {
	cell := fmt.Sprintf("%s, %.0f %%", text.Duration(r.p99()), r.refused())
	switch {
	case r.requests == 0:
		cell = "all refused"
	case r.unfinished > 0:
		cell = ">" + cell // the slowest are not in it
	}
	return cmp.Or(r.fails(), cell)
}
