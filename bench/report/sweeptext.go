package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lockstep/common/client"
	"lockstep/common/text"
)

// sweepText is the report of a sweep: what came out, the table, and what went wrong.
func (rep *Report) sweepText() string {
	var b strings.Builder
	for _, stage := range rep.Stages {
		b.WriteString(text.Wrap(rep.SweepSentence(stage), text.Columns))
	}
	b.WriteString("\n" + text.Table(rep.SweepTable()))
	b.WriteString(text.Wrap("Operations a second: "+rep.Summary[0].OpsPerSecond.Rule()+".", text.Columns) + "\n")
	for _, stage := range rep.Stages {
		b.WriteString(text.Wrap(rep.SweepTroubles(stage), text.Columns))
	}
	return b.String() + "\n" + text.Wrap(rep.Swept()+rep.Conditions(), text.Columns)
}

// swept introduces the conditions, which hold but for what was swept.
func (rep *Report) Swept() string {
	return "Swept: " + rep.Sweep.Property + ", on new servers for each point of each round. Otherwise: "
}

// saturated is the share of what was due, below which a point counts as saturated.
const saturated = 0.95

func (rep *Report) saturated(s *Summary) bool {
	return s.Achieved < saturated*rep.dueRate(*s)
}

// due is how many operations a second were due at a point; 0 in a closed loop.
func (rep *Report) Due(point string) float64 {
	w := rep.workload(point)
	return w.Rate * float64(w.Batch)
}

// point returns what the rounds of a stage came to at a point; nil if there is none.
func (rep *Report) Point(stage, point string) *Summary {
	i := slices.IndexFunc(rep.Summary, func(s Summary) bool { return s.Stage == stage && s.Point == point })
	if i < 0 {
		return nil
	}
	return &rep.Summary[i]
}

// sweepSentence says where a stage does best, or, at given rates, how far it keeps up.
func (rep *Report) SweepSentence(stage string) string {
	var best, last *Summary // at given rates last is of those before the first that is saturated
	full := ""
	for _, point := range rep.Sweep.Points {
		s := rep.Point(stage, point)
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
	label, property := rep.Sweep.Label, rep.Sweep.Property
	switch {
	case best == nil:
		return stage + ": not measured."
	case property != "rate":
		return fmt.Sprintf("%s: the highest median, %s operations a second, at %s=%s.", stage, text.Sig3(best.OpsPerSecond.Median), property, label(best.Point))
	case last == nil:
		return fmt.Sprintf("%s: saturated from the first rate on, %s requests a second.", stage, label(full))
	case full == "":
		return fmt.Sprintf("%s: keeps up with every rate, %s requests a second at last.", stage, label(last.Point))
	}
	return fmt.Sprintf("%s: keeps up with %s requests a second, and is saturated at %s.", stage, label(last.Point), label(full))
}

// sweepTable has a row for each point and stage.
func (rep *Report) SweepTable() [][]string {
	rows := [][]string{{rep.Sweep.Property, "stage", "ops/s", "", "p50", "p99", "not served", "ratio"}}
	for _, s := range rep.Summary {
		ratio := ""
		if s.Ratio != nil {
			ratio = s.Ratio.String()
		}
		rows = append(rows, []string{rep.Sweep.Label(s.Point), s.Stage, text.Sig3(s.OpsPerSecond.Median), Bounds(s.OpsPerSecond),
			rep.atLeast(s, 0.5, s.Latency.P50), rep.atLeast(s, 0.99, s.Latency.P99), rep.notServed(&s), ratio})
	}
	return rows
}

// notServed says in a few words that the figures of a point are not those of all that
// was asked for: invalid, starved, refused or saturated; "" if they are.
func (rep *Report) notServed(s *Summary) string {
	refused := s.Errors[client.ErrBusy.Error()]
	switch {
	case rep.invalid(s) != "":
		return "INVALID"
	case s.Starved > 0:
		return fmt.Sprintf("%d of %d starved", s.Starved, s.Connections)
	case refused > 0:
		return text.Sig3(100*float64(refused)/float64(s.Requests+refused)) + " % refused"
	case rep.saturated(s):
		return "saturated"
	}
	return ""
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

func (rep *Report) figureLabel(point string) string {
	return rep.Sweep.Property + "=" + rep.Sweep.Label(point)
}

// sweepTroubles says what went wrong with a stage, and at which points.
func (rep *Report) SweepTroubles(stage string) string {
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
