package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lockstep/bench/stats"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

const tableColumns = 100 // of a table, at most

// String is the report for a person: the verdict first, then the tables.
func (rep *Report) String() string {
	var b strings.Builder
	if rep.Verdict != "ok" {
		verdict, _, _ := strings.Cut(rep.Verdict, "\n")
		kind, reason, _ := strings.Cut(verdict, ": ")
		b.WriteString(text.Wrap(strings.TrimRight(strings.ToUpper(kind)+": "+reason, ": "), text.Columns))
	}
	if len(rep.Summary) == 0 {
		return b.String() + "No round was measured.\n"
	}
	if rep.Sweep != nil {
		return b.String() + rep.sweepText()
	}
	b.WriteString(text.Wrap(rep.Sentence(), text.Columns) + "\n")
	b.WriteString(text.Table(rep.Throughput()))
	b.WriteString(rep.Summary[0].OpsPerSecond.Rule() + "\n\n")
	b.WriteString(text.Table(rep.Latency()) + "\n")
	b.WriteString(rep.times("service time", func(s Summary) *Latency { return s.Service }))
	b.WriteString(rep.times("client late by", func(s Summary) *Latency { return s.Slip }))
	b.WriteString(rep.times("time to connect", func(s Summary) *Latency { return s.Connect }))
	b.WriteString(rep.where())
	for _, line := range rep.Notes() {
		b.WriteString(text.Wrap(line, text.Columns))
	}
	return b.String() + "\n" + text.Wrap(rep.Conditions(), text.Columns)
}

// notes say what went wrong, or that nothing did, and what else is to be known.
func (rep *Report) Notes() (lines []string) {
	none := "no errors, no misses, nothing unfinished, nobody starved"
	if !slices.ContainsFunc(rep.Summary, func(s Summary) bool { return s.troubles() != "" }) {
		lines = append(lines, none)
	} else {
		for _, s := range rep.Summary {
			lines = append(lines, s.Stage+": "+cmp.Or(s.troubles(), none))
		}
	}
	for _, s := range rep.Summary {
		if due := rep.dueRate(s); s.Achieved < 0.99*due {
			lines = append(lines, fmt.Sprintf("%s answered %s requests a second of the %s due.", s.Stage, text.Sig3(s.Achieved), text.Sig3(due)))
		}
		if len(s.Outliers) > 0 {
			lines = append(lines, fmt.Sprintf("%s: far from its other rounds, and counted all the same: round %s. Something else went on, perhaps.",
				s.Stage, strings.ReplaceAll(strings.Trim(fmt.Sprint(s.Outliers), "[]"), " ", ", ")))
		}
	}
	return append(append(lines, rep.Env.Absent()...), rep.warnings()...)
}

// dueRate is how many requests a second were due, by the schedules of the rounds; 0 in a
// closed loop. At random arrivals it differs from the rate that was asked for.
func (rep *Report) dueRate(s Summary) float64 {
	w := rep.workload(s.Point)
	if w.Rate == 0 || w.Duration == 0 {
		return w.Rate
	}
	due := s.Requests + s.Failed() + s.Unfinished
	return float64(due) / w.Duration.Seconds() / float64(s.OpsPerSecond.Rounds)
}

// sentence says what came out.
func (rep *Report) Sentence() string {
	var compared []string
	of, to, few := "", "", ""
	for _, s := range rep.Summary {
		if r := s.Ratio; r != nil {
			of, to = r.Of, r.To
			switch {
			case r.Rounds > 0 && !r.Verdict():
				few = fmt.Sprintf(" No verdict: so few rounds (%d) give a range, and six an interval.", r.Rounds)
				compared = append(compared, s.Stage+" "+r.String())
			case r.Floor, !r.NoDifference:
				compared = append(compared, s.Stage+" "+r.String())
			default:
				compared = append(compared, r.String()+" for "+s.Stage)
			}
		}
	}
	if compared == nil {
		s := rep.Summary[0]
		return fmt.Sprintf("%s: %s operations a second, %s at p99.",
			s.Stage, text.Sig3(s.OpsPerSecond.Median), rep.atLeast(s, 0.99, s.Latency.P99))
	}
	figure := "Operations a second"
	if of == "p99" {
		figure = "Response time at p99"
	}
	if first := rep.Summary[0]; first.Starved > 0 {
		to += fmt.Sprintf(" (where %d of %d connections starved)", first.Starved, first.Connections)
	}
	return fmt.Sprintf("%s, compared with %s: %s.%s", figure, to, strings.Join(compared, ", "), few)
}

// String is the ratio in words.
func (r *Ratio) String() string {
	switch {
	case r.Rounds == 0:
		return "not comparable" // no round in which both did anything
	case r.Median == 0:
		return "nothing answered"
	case r.Floor:
		return "itself " + strings.TrimSpace(text.Sig3(r.Median)+" times "+Bounds(r.Interval))
	case r.NoDifference && r.Verdict():
		return "no difference shown"
	}
	return strings.TrimSpace(text.Sig3(r.Median) + " times " + Bounds(r.Interval))
}

func Bounds(iv stats.Interval) string {
	if iv.Rounds < 2 {
		return ""
	}
	return "[" + text.Sig3(iv.Low) + ".." + text.Sig3(iv.High) + "]"
}

func (rep *Report) Throughput() [][]string {
	rows := [][]string{{"throughput", "ops/s", "", ""}}
	for _, s := range rep.Summary {
		row := []string{s.Stage, text.Sig3(s.OpsPerSecond.Median), Bounds(s.OpsPerSecond)}
		if s.Ratio != nil {
			rows[0][3] = "ratio"
			if s.Ratio.Of == "p99" {
				rows[0][3] = "ratio of p99"
			}
			row = append(row, s.Ratio.String())
		}
		rows = append(rows, row)
	}
	return rows
}

// times is a table of one kind of time; "" if no stage has any.
func (rep *Report) times(name string, of func(Summary) *Latency) string {
	rows := [][]string{{name, "p50", "p99", "p99.9", "max"}}
	for _, s := range rep.Summary {
		if l := of(s); l != nil {
			rows = append(rows, []string{s.Stage, rep.duration(l.P50), rep.duration(l.P99), rep.duration(l.P999), rep.duration(l.Max)})
		}
	}
	if len(rows) == 1 {
		return ""
	}
	return text.Table(rows) + "\n"
}

// where is a table of where the mean request's time goes; "" if no server said.
func (rep *Report) where() string {
	rows := [][]string{{"a request's time", "queue", "lock", "table", "codec", "rest", "lock held"}}
	for _, s := range rep.Summary {
		if s.Where != nil {
			row := []string{s.Stage}
			for _, part := range s.Where.Parts() {
				row = append(row, text.Duration(*part))
			}
			rows = append(rows, append(row, text.Sig3(100*s.Held)+" %"))
		}
	}
	if len(rows) == 1 {
		return ""
	}
	return text.Table(rows) + "\n"
}

// atLeast writes a quantile of the response times. Where requests were never answered
// it may lie among those: then it is above what it is of the others.
func (rep *Report) atLeast(s Summary, q float64, d time.Duration) string {
	switch {
	case s.Requests == 0:
		return "-"
	case s.unknown(q):
		return ">" + text.Duration(d)
	}
	return rep.duration(d)
}

// unknown reports whether so many requests were never answered that a quantile of the
// response times may lie among them.
func (s Summary) unknown(q float64) bool {
	return float64(s.Unfinished) > (1-q)*float64(s.Requests+s.Unfinished)
}

// duration writes a response time, unless the clock is too coarse to tell it.
func (rep *Report) duration(d time.Duration) string {
	if step := rep.Env.ClockStep; d < step {
		return "<" + text.Duration(step)
	}
	return text.Duration(d)
}

func (rep *Report) Latency() [][]string {
	rows := [][]string{{"response time", "p50", "p99", "p99.9", "max", "server CPU", "client CPU"}}
	for _, s := range rep.Summary {
		l := s.Latency
		rows = append(rows, []string{s.Stage, rep.atLeast(s, 0.5, l.P50), rep.atLeast(s, 0.99, l.P99), rep.atLeast(s, 0.999, l.P999),
			rep.atLeast(s, 1, l.Max), cpu(s.ServerCPUPerRequest), cpu(s.ClientCPUPerRequest)})
	}
	return rows
}

// cpu is a CPU time in nanoseconds as a cell of the table.
func cpu(ns float64) string {
	if ns == 0 {
		return "not known"
	}
	return text.Duration(time.Duration(ns))
}

// troubles counts what went wrong in the rounds of a stage; "" if nothing did.
func (s Summary) troubles() string {
	var parts []string
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, text.Count(n)+" "+what)
		}
	}
	add(s.Wrong, "wrong answers")
	for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
		add(s.Errors[kind], "× "+kind)
	}
	add(s.Refusals-s.Errors[client.ErrBusy.Error()], "refused (busy) and sent again")
	add(s.Misses, "misses")
	add(s.Mismatches, "mismatches")
	add(s.Unfinished, "unfinished")
	if s.Starved > 0 {
		starved := fmt.Sprintf("%d of %d connections starved", s.Starved, s.Connections)
		if s.NeverGreeted > 0 {
			starved += fmt.Sprintf(" (%d never greeted)", s.NeverGreeted)
		}
		parts = append(parts, starved)
	}
	return strings.Join(parts, ", ")
}

// warnings has for each stage the first thing that its rounds warn of.
func (rep *Report) warnings() (lines []string) {
	for _, s := range rep.Summary {
		rounds, first := 0, ""
		for _, run := range rep.Runs {
			if run.Stage == s.Stage && len(run.Warnings) > 0 {
				if rounds++; rounds == 1 {
					first = fmt.Sprintf("round %d: %s", run.Round, run.Warnings[0])
				}
			}
		}
		if rounds > 0 {
			lines = append(lines, fmt.Sprintf("Warning: %s, %d of %d rounds; %s.", s.Stage, rounds, s.OpsPerSecond.Rounds, first))
		}
	}
	return lines
}

// conditions says what was asked for, and on which machine.
func (rep *Report) Conditions() string {
	w, env := rep.Config.Workload, rep.Env
	loop := "as fast as answers come"
	if w.Rate > 0 {
		loop = text.Sig3(w.Rate) + " requests a second due, " + w.Arrival
	}
	if rep.Sweep != nil && rep.Sweep.Property == "rate" {
		loop = "requests due at these rates, " + w.Arrival
	}
	kept := "connections"
	if w.Conn == "per-request" {
		kept = "clients, a connection for each request"
	}
	if w.Depth > 1 {
		kept += fmt.Sprintf(" with %d requests in flight on each", w.Depth)
	}
	batch := ""
	if w.Batch > 1 {
		batch = fmt.Sprintf(" in batches of %d", w.Batch)
	}
	machine := fmt.Sprintf("%s%s, %s/%s, %d cores", env.Go, env.versions(), env.OS, env.Arch, env.Cores)
	if env.CPUModel != "" {
		machine += " (" + env.CPUModel + ")"
	}
	if env.Shared {
		machine += ", all shared by servers and client"
	}
	if env.CPUs != env.Cores {
		machine += fmt.Sprintf("; the client uses %d at once", env.CPUs)
	}
	return fmt.Sprintf("%d %s, %s; %v%s over %s keys, %s; values of %v bytes; seed %d%s. %s. CPU is a request's%s.",
		w.Connections, kept, loop, w.Mix, batch, text.Count(int64(w.Keys)), w.Dist, w.Value, w.Seed, rep.servers(), machine, rep.clients())
}

// clients says what sent the requests.
func (rep *Report) clients() string {
	var names []string
	for _, run := range rep.Runs {
		if run.Client != "" && !slices.Contains(names, run.Client) {
			names = append(names, run.Client)
		}
	}
	if names == nil {
		return ""
	}
	slices.Sort(names)
	return "; requests are sent by " + strings.Join(names, " and ")
}

// servers says how servers that this program has started differ from the default.
func (rep *Report) servers() (text string) {
	if rep.Nodes == 0 {
		return "" // they ran already, and nobody said how
	}
	if rep.Nodes > 1 {
		text += fmt.Sprintf("; %d nodes", rep.Nodes)
	}
	s, usual := rep.Config.Server, cluster.Default().Server
	for _, p := range []struct {
		name       string
		got, usual any
	}{{"work", s.Work, usual.Work}, {"workers", s.Workers, usual.Workers}, {"queue", s.Queue, usual.Queue}, {"buckets", s.Buckets, usual.Buckets}} {
		if p.got != p.usual {
			text += fmt.Sprintf("; %s %v", p.name, p.got)
		}
	}
	return text
}
