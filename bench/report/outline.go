package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// An Outline is what a report says, in this order. String and the page format the same one.
type Outline struct {
	Sentences  []string // what came out
	Tables     []Table
	Histogram  []Table  // of a single stage, drawn in characters, for the text: the page has figures
	Notes      []string // what went wrong, or that nothing did, and what else to know
	Conditions string   // what was asked for, and on which machine
}

// Outline returns the outline of the report.
func (rep *Report) Outline() Outline {
	rep.Summarize()
	o := Outline{Sentences: []string{"No round was measured."}, Conditions: rep.conditions()}
	if len(rep.Summary) > 0 {
		o.Tables, o.Notes = rep.tables(), rep.notes()
		if runs := rep.Summary[0].Runs; len(rep.Summary) == 1 {
			o.Tables, o.Histogram = append(o.Tables, rep.clients(runs), overTime(runs[len(runs)-1])), histogram(runs)
		}
		o.Tables = slices.DeleteFunc(o.Tables, func(t Table) bool { return len(t.Rows) == 0 })
		o.Sentences = rep.comparison()
		if rep.Sweep != nil {
			o.Sentences = rep.bends()
		}
	}
	return o
}

// String returns the report as text: the verdict, if it is not ok, and the outline.
func (rep *Report) String() string {
	o := rep.Outline()
	verdict, _, _ := strings.Cut(rep.Verdict, "\n")
	if kind, _, _ := strings.Cut(verdict, ":"); kind != "ok" {
		o.Sentences = slices.Insert(o.Sentences, 0, strings.ToUpper(kind)+verdict[len(kind):])
	}
	var b strings.Builder
	wrap := func(lines ...string) {
		for _, line := range lines {
			b.WriteString(text.Wrap(line, text.Columns))
		}
	}
	wrap(o.Sentences...)
	for _, t := range append(o.Tables, o.Histogram...) {
		b.WriteString("\n" + text.Table(append([][]string{t.Head}, t.Rows...)))
		wrap(t.Foot...)
	}
	wrap(slices.Concat([]string{""}, o.Notes, []string{"", o.Conditions})...)
	return b.String()
}

// label begins a row of a table: with the stage or, in a sweep, with the value and the stage.
func (rep *Report) label(point, stage string) string {
	if rep.Sweep == nil {
		return stage
	}
	width := len(rep.Sweep.Property)
	for _, p := range rep.Sweep.Points {
		width = max(width, utf8.RuneCountInString(rep.Sweep.Label(p)))
	}
	return fmt.Sprintf("%-*s  %s", width, rep.Sweep.Label(point), stage)
}

// name names a row in a sentence.
func (rep *Report) name(point, stage string) string {
	if rep.Sweep == nil {
		return stage
	}
	return fmt.Sprintf("%s at %s=%s", stage, rep.Sweep.Property, rep.Sweep.Label(point))
}

// comparison says which stages do less than an open loop asks for, and how they compare with the
// first one; or what the only one did.
func (rep *Report) comparison() (lines []string) {
	for i := range rep.Summary {
		if s := &rep.Summary[i]; rep.saturated(s) {
			lines = append(lines, fmt.Sprintf("SATURATED: %s keeps up with %s %% of the requests due.", s.Stage, text.Sig3(100*rep.kept(s))))
		}
	}
	first, to := &rep.Summary[0], rep.Stages[0]
	if first.Stage == to {
		to += first.where()
	}
	for _, compared := range [][2]string{{"ops_per_s", "Operations a second"}, {"p99", "Response time at p99"}} {
		var found []string
		for _, s := range rep.Summary {
			if r := s.ratio(compared[0]); r != nil {
				found = append(found, s.Stage+" "+r.String()+s.where())
			}
		}
		if found != nil {
			lines = append(lines, fmt.Sprintf("%s, compared with %s: %s.", compared[1], to, strings.Join(found, ", ")))
		}
	}
	if rep.Summary[len(rep.Summary)-1].P99Ratio == nil {
		lines = append(lines, first.Stage+first.where()+": "+first.did()+".")
	}
	return lines
}

// where says how many connections starved; "" if none did.
func (s *Summary) where() string {
	if s.Starved == 0 {
		return ""
	}
	return fmt.Sprintf(" (where %d of %s starved)", s.Starved, text.Plural(int64(s.Connections), "connection"))
}

// did says how much a stage did, and how fast.
func (s *Summary) did() string {
	if s.Requests == 0 {
		return "no request was answered"
	}
	return text.Sig3(s.OpsPerSecond.Median) + " operations a second, " + s.written(s.Latency, "", "p99") + " at p99"
}

// bends says where in a sweep the throughput of each stage stops growing: at the first point
// within a tenth of its peak. An open loop bends where it is saturated. INVALID points show
// the client.
func (rep *Report) bends() (lines []string) {
	say := func(p Summary, how string) {
		lines = append(lines, fmt.Sprintf("%s: %s.", rep.name(p.Point, p.Stage+how), p.did()))
	}
	for _, stage := range rep.Stages {
		all := rep.Points(stage)
		points := slices.DeleteFunc(all, func(p Summary) bool { return len(p.invalid()) > 0 })
		if len(points) == 0 {
			if len(all) > 0 { // otherwise the sweep has not come to this stage
				lines = append(lines, stage+" has no valid point.")
			}
			continue
		}
		ops := func(p Summary) float64 { return p.OpsPerSecond.Median }
		best := slices.MaxFunc(points, func(a, b Summary) int { return cmp.Compare(ops(a), ops(b)) })
		bend := points[slices.IndexFunc(points, func(p Summary) bool { return ops(p) >= 0.9*ops(best) })]
		saturated := slices.IndexFunc(points, func(p Summary) bool { return rep.saturated(&p) })
		last := points[len(points)-1]
		switch {
		case saturated >= 0:
			say(points[saturated], " is SATURATED")
			if saturated > 0 {
				say(points[saturated-1], " still keeps up")
			}
		case rep.Workload(last.Point).Rate > 0:
			say(last, " keeps up even")
		case len(points) == 1: // its neighbours are not known
			say(last, "")
		case bend.Point == last.Point:
			say(bend, " still grows")
		case bend.Point != best.Point:
			say(bend, " bends")
			say(best, " peaks, with little more,")
		default:
			say(best, " peaks")
		}
	}
	return lines
}

// notes says what went wrong, or that nothing did, and what else to know.
func (rep *Report) notes() []string {
	const none = "no errors, no misses, nothing unfinished, nobody starved"
	var troubled, more []string
	var disturbed []*Run
	for i := range rep.Summary {
		s := &rep.Summary[i]
		name := rep.name(s.Point, s.Stage)
		if t := s.troubles(); t != "" {
			troubled = append(troubled, name+": "+t)
		}
		disturbed = append(disturbed, slices.DeleteFunc(slices.Clone(s.Runs), func(r *Run) bool { return r.OtherCores <= 0.25 })...)
		if runs := s.invalid(); len(runs) > 0 && rep.Sweep != nil { // otherwise the verdict says so
			more = append(more, fmt.Sprintf("INVALID: %s, round %d: %s.", name, runs[0].Round, runs[0].Invalid))
		}
		warned := slices.DeleteFunc(slices.Clone(s.Runs), func(r *Run) bool { return len(r.Warnings) == 0 })
		if len(warned) > 0 {
			more = append(more, fmt.Sprintf("Warning: %s, %d of %s; round %d: %s.",
				name, len(warned), text.Plural(int64(len(s.Runs)), "round"), warned[0].Round, warned[0].Warnings[0]))
		}
	}
	if disturbed != nil {
		worst := slices.MaxFunc(disturbed, func(a, b *Run) int { return cmp.Compare(a.OtherCores, b.OtherCores) })
		more = append(more, fmt.Sprintf("Warning: other programs used more than a quarter of a core in %d of %s; %s, round %d: %s cores. Stop them and measure again.",
			len(disturbed), text.Plural(int64(len(rep.Runs)), "round"), rep.name(worst.Point, worst.Stage), worst.Round, text.Sig3(worst.OtherCores)))
	}
	if troubled == nil {
		troubled = []string{none}
	} else if len(troubled) < len(rep.Summary) {
		troubled = append(troubled, "all others: "+none)
	}
	return slices.Concat(troubled, more, rep.Env.Missing, rep.Env.Changes())
}

// counts are what was counted, in words.
type counts []string

// add adds what was counted at least once.
func (c *counts) add(n int64, what string) {
	if n > 0 {
		*c = append(*c, text.Count(n)+" "+what)
	}
}

// troubles counts what went wrong in the rounds of a stage; "" if nothing did.
func (s *Summary) troubles() string {
	var all counts
	all.add(s.Wrong, "× wrong answer")
	for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
		all.add(s.Errors[kind], "× "+kind)
	}
	all.add(s.Refusals-s.Errors[client.ErrBusy.Error()], "refused (busy) and sent again")
	all.add(s.Misses, "× miss")
	all.add(s.Mismatches, "× mismatch")
	all.add(s.Unfinished, "unfinished")
	all.add(s.RefusedDials, "× refused and dialled again")
	for _, reason := range slices.Sorted(maps.Keys(s.FailedDials)) {
		all.add(s.FailedDials[reason], "× dialled again ("+reason+")")
	}
	starved := fmt.Sprintf("of %s starved", text.Plural(int64(s.Connections), "connection"))
	if s.NeverGreeted > 0 {
		starved += fmt.Sprintf(" (%d never greeted%s)", s.NeverGreeted, strings.TrimSuffix(": "+s.NotServed, ": "))
	}
	all.add(int64(s.Starved), starved)
	return strings.Join(all, ", ")
}

// conditions says what was asked for, and on which machine.
func (rep *Report) conditions() string {
	w, swept, loop, more := rep.Config.Workload, "", "as fast as answers come", ""
	if w.Rate > 0 {
		loop = text.Sig3(w.Rate) + " requests due a second, " + w.Arrival
	}
	if rep.Sweep != nil {
		swept = "Swept: " + rep.Sweep.Property + ". Otherwise: "
		if rep.Sweep.Property == "rate" {
			loop = "requests due at these rates, " + w.Arrival
		}
	}
	usual := rep.properties(cluster.Default())
	for _, property := range rep.properties(rep.Config) {
		name, _, _ := strings.Cut(property, "=")
		if !slices.Contains(usual, property) && !slices.Contains([]string{"arrival", "connections", "dist", "keys", "mix", "rate", "seed", "value"}, name) {
			more += "; " + property
		}
	}
	if rep.Nodes > 1 {
		more += fmt.Sprintf("; nodes=%d", rep.Nodes)
	}
	senders, several := make(map[string]bool), ""
	for _, run := range rep.Runs {
		senders[run.Client] = true
		if n := len(run.Clients); n > 1 {
			several = fmt.Sprintf("%d clients, each with ", n)
		}
	}
	if delete(senders, ""); len(senders) > 0 {
		more += "; requests sent by " + strings.Join(slices.Sorted(maps.Keys(senders)), " and ")
	}
	return fmt.Sprintf("%s%s%s, %s; %v over %s, %s; %v-byte values; seed %d%s. %s.", swept, several, text.Plural(int64(w.Connections), "connection"), loop,
		w.Mix, text.Plural(int64(w.Keys), "key"), w.Dist, w.Value, w.Seed, more, rep.Env)
}

// properties lists the properties of the workload and, if bench started them, of the
// servers as NAME=VALUE.
func (rep *Report) properties(cfg cluster.Config) []string {
	all := cfg.Values("workload")
	if rep.Nodes > 0 {
		all = append(all, cfg.Values("server")...)
	}
	return all
}
