package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// sweepText is the report of a sweep: what came out, the table, the figure, and what
// went wrong.
func (rep *Report) sweepText() string {
	var b strings.Builder
	for _, stage := range rep.stages {
		b.WriteString(wrap(rep.sweepSentence(stage), columns))
	}
	b.WriteString("\n" + rep.sweepTables())
	b.WriteString(wrap("Operations a second: "+rep.Summary[0].OpsPerSecond.rule()+rep.sweepLegend(), columns))
	b.WriteString("\n" + rep.figure() + "\n")
	for _, stage := range rep.stages {
		b.WriteString(wrap(rep.sweepTroubles(stage), columns))
	}
	return b.String() + "\n" + wrap(rep.swept()+rep.conditions(), columns)
}

// swept introduces the conditions, which hold but for what was swept.
func (rep *Report) swept() string {
	return "Swept: " + rep.Sweep.Property + ", on new servers for each point of each round. Otherwise: "
}

// saturated is the share of what was due, below which a point counts as saturated.
const saturated = 0.95

func (rep *Report) saturated(s *Summary) bool {
	return s.Achieved < saturated*rep.dueRate(*s)
}

// due is how many operations a second were due at a point; 0 in a closed loop.
func (rep *Report) due(point string) float64 {
	w := rep.workload(point)
	return w.Rate * float64(w.Batch)
}

// point returns what the rounds of a stage came to at a point; nil if there is none.
func (rep *Report) point(stage, point string) *Summary {
	i := slices.IndexFunc(rep.Summary, func(s Summary) bool { return s.Stage == stage && s.Point == point })
	if i < 0 {
		return nil
	}
	return &rep.Summary[i]
}

// sweepSentence says where a stage does best, or, at given rates, how far it keeps up.
func (rep *Report) sweepSentence(stage string) string {
	var best, last *Summary // at given rates last is of those before the first that is saturated
	full := ""
	for _, point := range rep.Sweep.Points {
		s := rep.point(stage, point)
		if s == nil {
			continue
		}
		if best == nil || s.OpsPerSecond.Median > best.OpsPerSecond.Median {
			best = s
		}
		if full == "" && rep.saturated(s) {
			full = point
		} else if full == "" {
			last = s
		}
	}
	label, property := rep.Sweep.label, rep.Sweep.Property
	switch {
	case best == nil:
		return stage + ": not measured."
	case property != "rate":
		return fmt.Sprintf("%s: the highest median, %s operations a second, at %s=%s.", stage, three(best.OpsPerSecond.Median), property, label(best.Point))
	case last == nil:
		return fmt.Sprintf("%s: saturated from the first rate on, %s requests a second.", stage, label(full))
	case full == "":
		return fmt.Sprintf("%s: keeps up with every rate, %s requests a second at last.", stage, label(last.Point))
	}
	return fmt.Sprintf("%s: keeps up with %s requests a second, and is saturated at %s.", stage, label(last.Point), label(full))
}

// sweepTables are one table for all stages, or, where that would be too wide, one each.
func (rep *Report) sweepTables() string {
	all := grid(rep.sweepTable(rep.stages))
	first, _, _ := strings.Cut(all, "\n")
	if utf8.RuneCountInString(first) <= tableColumns {
		return all
	}
	var tables []string
	for _, stage := range rep.stages {
		tables = append(tables, grid(rep.sweepTable([]string{stage})))
	}
	return strings.Join(tables, "\n")
}

// sweepTable has a row for each point, and a column for each of these stages: with given
// rates two, of what was done and how long it took.
func (rep *Report) sweepTable(stages []string) [][]string {
	open := rep.Sweep.Property == "rate"
	rows := [][]string{{rep.Sweep.Property}}
	if open {
		rows[0][0] = "due/s"
	}
	for _, stage := range stages {
		rows[0] = append(rows[0], stage)
		if open {
			rows[0] = append(rows[0], "p99")
		}
	}
	for _, point := range rep.Sweep.Points {
		row := []string{rep.Sweep.label(point)}
		if open {
			row[0] = three(rep.due(point))
		}
		for _, stage := range stages {
			cells := []string{"-", "-"}
			if s := rep.point(stage, point); s != nil {
				cells = []string{strings.TrimLeft(rep.mark(s)+" ", " ") + three(s.OpsPerSecond.Median) + s.OpsPerSecond.spread(), span(s.Latency.P99)}
			}
			row = append(row, cells[0])
			if open {
				row = append(row, cells[1])
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// spread is how far the interval reaches from the median, in percent of it.
func (iv interval) spread() string {
	if iv.Rounds < 2 || iv.Median == 0 {
		return ""
	}
	percent := func(bound float64) int { return int(math.Round(100 * (bound/iv.Median - 1))) }
	return fmt.Sprintf(" [%+d..%+d %%]", percent(iv.Low), percent(iv.High))
}

// The marks of a point.
const (
	markSaturated = "<"
	markInvalid   = "!"
)

// mark says what is to be known of a point in one sign each.
func (rep *Report) mark(s *Summary) (marks string) {
	if rep.invalid(s) != "" {
		marks += markInvalid
	}
	if rep.saturated(s) {
		marks += markSaturated
	}
	return marks
}

// invalid is why the first round of a point that measured the client did; "" if none.
func (rep *Report) invalid(s *Summary) string {
	for _, run := range rep.Runs {
		if run.Stage == s.Stage && run.Point == s.Point && run.Invalid != "" {
			return run.Invalid
		}
	}
	return ""
}

// sweepLegend explains the table.
func (rep *Report) sweepLegend() string {
	text := "."
	if rep.Summary[0].OpsPerSecond.Rounds > 1 {
		text = ", the bounds as the difference from it."
	}
	if rep.Sweep.Property == "rate" {
		text += " p99: of the response times, from when a request was due."
	}
	if slices.ContainsFunc(rep.Summary, func(s Summary) bool { return rep.saturated(&s) }) {
		text += fmt.Sprintf(" %s: less than %.0f %% of what was due; the servers are saturated, or the client.", markSaturated, 100*saturated)
	}
	for _, s := range rep.Summary {
		if why := rep.invalid(&s); why != "" {
			return text + fmt.Sprintf(" %s: the client was measured, not the servers; the first time, %s at %s=%s: %s.",
				markInvalid, s.Stage, rep.Sweep.Property, rep.Sweep.label(s.Point), why)
		}
	}
	return text
}

// figure draws the operations a second as bars, and up to what was due as dots.
func (rep *Report) figure() string {
	most, points, stages := 0.0, 0, 0
	for _, s := range rep.Summary {
		most = max(most, s.OpsPerSecond.Median, rep.due(s.Point))
	}
	for _, point := range rep.Sweep.Points {
		points = max(points, len(rep.figureLabel(point)))
	}
	for _, stage := range rep.stages {
		stages = max(stages, len(stage))
	}
	stages = min(stages, 24)
	width := columns - points - stages - len("   1 230 000")
	var b strings.Builder
	for _, point := range rep.Sweep.Points {
		label := rep.figureLabel(point)
		for _, stage := range rep.stages {
			s := rep.point(stage, point)
			if s == nil {
				continue
			}
			done := strings.TrimRight(bar(s.OpsPerSecond.Median/max(most, 1), width), " ")
			due := int(math.Round(rep.due(point)/max(most, 1)*float64(width))) - utf8.RuneCountInString(done)
			fmt.Fprintf(&b, "%-*s %-*.*s %s%s %s\n", points, label, stages, stages, stage,
				done, strings.Repeat(".", max(due, 0)), three(s.OpsPerSecond.Median))
			label = ""
		}
	}
	return b.String()
}

func (rep *Report) figureLabel(point string) string {
	return rep.Sweep.Property + "=" + rep.Sweep.label(point)
}

// sweepTroubles says what went wrong with a stage, and at which points.
func (rep *Report) sweepTroubles(stage string) string {
	var parts []string
	for _, s := range rep.Summary {
		if s.Stage == stage && s.troubles() != "" {
			parts = append(parts, rep.figureLabel(s.Point)+": "+s.troubles())
		}
	}
	text := stage + ": " + cmp.Or(strings.Join(parts, "; "), "no errors, no misses, nothing unfinished, nobody starved") + "."
	rounds, warned, first := 0, 0, ""
	for _, run := range rep.Runs {
		if run.Stage != stage {
			continue
		}
		rounds++
		if len(run.Warnings) > 0 {
			if warned++; warned == 1 {
				first = fmt.Sprintf("%s, round %d: %s", rep.figureLabel(run.Point), run.Round, run.Warnings[0])
			}
		}
	}
	if warned > 0 {
		text += fmt.Sprintf(" Warning: %d of %d rounds; %s.", warned, rounds, first)
	}
	return text
}
