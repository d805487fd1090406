package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lockstep/common/cluster"
)

const columns = 80 // of the terminal, for text; tables have at most 100

// String is the report for a person: the verdict first, then the tables.
func (rep *Report) String() string {
	var b strings.Builder
	if rep.Verdict != "ok" {
		verdict, _, _ := strings.Cut(rep.Verdict, "\n")
		kind, reason, _ := strings.Cut(verdict, ": ")
		b.WriteString(wrap(strings.TrimRight(strings.ToUpper(kind)+": "+reason, ": "), columns))
	}
	if len(rep.Summary) == 0 {
		return b.String() + "No round was measured.\n"
	}
	if rep.Sweep != nil {
		return b.String() + rep.sweepText()
	}
	b.WriteString(wrap(rep.sentence(), columns) + "\n")
	b.WriteString(grid(rep.throughput()))
	b.WriteString(rep.Summary[0].OpsPerSecond.rule() + "\n\n")
	b.WriteString(grid(rep.latency()) + "\n")
	for _, line := range rep.notes() {
		b.WriteString(wrap(line, columns))
	}
	return b.String() + "\n" + wrap(rep.conditions(), columns)
}

// notes say what went wrong, or that nothing did.
func (rep *Report) notes() (lines []string) {
	none := "no errors, no misses, nothing unfinished, nobody starved"
	if !slices.ContainsFunc(rep.Summary, func(s Summary) bool { return s.troubles() != "" }) {
		lines = append(lines, none)
	} else {
		for _, s := range rep.Summary {
			lines = append(lines, s.Stage+": "+cmp.Or(s.troubles(), none))
		}
	}
	return append(lines, rep.warnings()...)
}

// sentence says what came out.
func (rep *Report) sentence() string {
	if rep.note != "" {
		return rep.note
	}
	var compared []string
	of, to := "", ""
	for _, s := range rep.Summary {
		if r := s.Ratio; r != nil {
			of, to = r.Of, r.To
			if r.NoDifference {
				compared = append(compared, r.String()+" for "+s.Stage)
			} else {
				compared = append(compared, s.Stage+" "+r.String())
			}
		}
	}
	if compared == nil {
		s := rep.Summary[0]
		return fmt.Sprintf("%s: %s operations a second, %s at p99.",
			s.Stage, three(s.OpsPerSecond.Median), span(s.Latency.P99))
	}
	figure := "Operations a second"
	if of == "p99" {
		figure = "Response time at p99"
	}
	return fmt.Sprintf("%s, compared with %s: %s.", figure, to, strings.Join(compared, ", "))
}

// String is the ratio in words.
func (r *Ratio) String() string {
	switch {
	case r.words != "":
		return r.words
	case r.Rounds == 0:
		return "not comparable" // no round in which both did anything
	case r.NoDifference:
		return "no difference shown"
	}
	return strings.TrimSpace(three(r.Median) + " times " + bounds(r.interval))
}

func bounds(iv interval) string {
	if iv.Rounds < 2 {
		return ""
	}
	return "[" + three(iv.Low) + ".." + three(iv.High) + "]"
}

func (rep *Report) throughput() [][]string {
	rows := [][]string{{"throughput", "ops/s", "", ""}}
	for _, s := range rep.Summary {
		row := []string{s.Stage, three(s.OpsPerSecond.Median), bounds(s.OpsPerSecond)}
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

func (rep *Report) latency() [][]string {
	rows := [][]string{{"response time", "p50", "p99", "p99.9", "max", "server CPU", "client CPU"}}
	for _, s := range rep.Summary {
		l := s.Latency
		rows = append(rows, []string{s.Stage, span(l.P50), span(l.P99), span(l.P999), span(l.Max),
			cpu(s.ServerCPU), cpu(s.ClientCPU)})
	}
	return rows
}

// cpu is a CPU time in nanoseconds as a cell of the table.
func cpu(ns float64) string {
	if ns == 0 {
		return "not known"
	}
	return span(time.Duration(ns))
}

// troubles counts what went wrong in the rounds of a stage; "" if nothing did.
func (s Summary) troubles() string {
	var parts []string
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, count(n)+" "+what)
		}
	}
	add(s.Wrong, "wrong answers")
	for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
		add(s.Errors[kind], "× "+kind)
	}
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
func (rep *Report) conditions() string {
	w, env := rep.Config.Workload, rep.Env
	loop := "as fast as answers come"
	if w.Rate > 0 {
		loop = three(w.Rate) + " requests a second due, " + w.Arrival
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
	machine := fmt.Sprintf("%s, %s/%s, %d cores", env.Go, env.OS, env.Arch, env.CPUs)
	if env.CPUModel != "" {
		machine += " (" + env.CPUModel + ")"
	}
	if env.Shared {
		machine += ", all shared by servers and client"
	}
	return fmt.Sprintf("%d %s, %s; %v%s over %s keys, %s; values of %v bytes; seed %d%s. %s. CPU is a request's.",
		w.Connections, kept, loop, w.Mix, batch, count(int64(w.Keys)), w.Dist, w.Value, w.Seed, rep.servers(), machine)
}

// servers says how servers that this program has started differ from the default.
func (rep *Report) servers() (text string) {
	if rep.nodes == 0 {
		return "" // they ran already, and nobody said how
	}
	if rep.nodes > 1 {
		text += fmt.Sprintf("; %d nodes", rep.nodes)
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
