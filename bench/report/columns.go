package report

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// A Table has the stages in its first column and their figures in the others.
type Table struct {
	Head []string
	Rows [][]string
	Foot []string // lines below: what the brackets hold
}

// A column is one figure, in the tables and in the lines for benchstat.
type column struct {
	head string
	cell func(*Report, *Summary) string // "": not known
	unit string                         // for benchstat; "": not for benchstat
	of   func(*Figures) float64         // for benchstat; 0: not known, or a bound only
}

// groups lists the tables of a report. A sweep has two, of sweepColumns and ratios.
var (
	groups = [][]column{
		{rows("throughput"), opsPerSecond, interval, bytesPerSecond},
		ratios,
		response,
		{rows("CPU per request"), serverCPU, clientCPU},
		times("service time", "service-", func(f *Figures) Times { return f.Service }, quantileNames...),
		times("client late by", "late-", func(f *Figures) Times { return f.Slip }, quantileNames...),
		times("time to connect", "connect-", func(f *Figures) Times { return f.Connect }, quantileNames...),
		append(times("a request's time", "", func(f *Figures) Times { return f.Where }, Parts...), lockHeld),
	}
	sweepColumns = []column{opsPerSecond, spread, response[1], response[3], {head: "unserved", cell: (*Report).unserved}}
	ratios       = []column{rows("ratio"), ratio("ops/s", "ops_per_s"), ratio("p99", "p99")}

	opsPerSecond = column{"ops/s", func(_ *Report, s *Summary) string { return text.Sig3(s.OpsPerSecond.Median) },
		"ops/s better=higher", func(f *Figures) float64 { return f.OpsPerSecond }}
	interval = column{cell: func(_ *Report, s *Summary) string { return s.OpsPerSecond.Bounds() }}
	spread   = column{head: "±", cell: func(_ *Report, s *Summary) string {
		iv := s.OpsPerSecond
		if iv.Rounds < 2 || iv.Median == 0 {
			return ""
		}
		return text.Sig(100*max(iv.High-iv.Median, iv.Median-iv.Low)/iv.Median, 2) + " %"
	}}
	bytesPerSecond = figure("keys and values", "B/s better=higher", "", func(v float64) string { return text.Bytes(int64(v)) + "/s" },
		func(f *Figures) float64 { return f.BytesPerSecond })
	serverCPU = figure("server", "server-cpu-ns/req better=lower", "not known", span, func(f *Figures) float64 { return f.ServerCPUPerRequest })
	clientCPU = figure("client", "client-cpu-ns/req better=lower", "not known", span, func(f *Figures) float64 { return f.ClientCPUPerRequest })
	response  = times("response time", "", func(f *Figures) Times { return f.Latency }, quantileNames...)
	lockHeld  = figure("lock held", "", "", percent, func(f *Figures) float64 { return f.LockHeld })

	quantileNames = []string{"p50", "p90", "p99", "p999", "max", "mean"}
)

// rows begins a table: it names the rows.
func rows(head string) column {
	return column{head: head, cell: func(rep *Report, s *Summary) string { return rep.label(s.Point, s.Stage) }}
}

// times returns the table of a kind of time, which not all stages need to have.
func times(title, kind string, of func(*Figures) Times, names ...string) []column {
	columns := []column{rows(title)}
	for _, name := range names {
		head := strings.Replace(name, "999", "99.9", 1)
		columns = append(columns, column{head, func(rep *Report, s *Summary) string { return s.written(of(&s.Figures), kind, name) },
			kind + head + "-ns better=lower", func(f *Figures) float64 {
				if slices.Contains(f.AtLeast, kind+name) {
					return 0
				}
				return float64(of(f)[name])
			}})
	}
	return columns
}

// written writes a time, or a bound if that is all that is known.
func (s *Summary) written(t Times, kind, name string) string {
	d, known := t[name]
	switch {
	case !known:
		return ""
	case slices.Contains(s.AtLeast, kind+name): // response times have no kind
		return ">" + text.Duration(d)
	}
	return text.Duration(d)
}

// figure returns the column of a figure that is 0 if it is not known.
func figure(head, unit, unknown string, write func(float64) string, of func(*Figures) float64) column {
	return column{head, func(_ *Report, s *Summary) string {
		if of(&s.Figures) == 0 {
			return unknown
		}
		return write(of(&s.Figures))
	}, unit, of}
}

func span(ns float64) string { return text.Duration(time.Duration(ns)) }

func percent(share float64) string { return text.Sig3(100*share) + " %" }

func ratio(head, of string) column {
	return column{head: head, cell: func(_ *Report, s *Summary) string {
		if r := s.ratio(of); r != nil {
			return strings.NewReplacer(" times", "", "noise ", "").Replace(r.String()) // two of them fit a line
		}
		return ""
	}}
}

// unserved is the share of what was asked for that starved or was refused; or another
// reason why the figures of a point do not stand for all of it.
func (rep *Report) unserved(s *Summary) string {
	switch refused := s.Errors[client.ErrBusy.Error()]; {
	case len(s.invalid()) > 0:
		return "INVALID"
	case s.Starved > 0:
		return percent(float64(s.Starved) / float64(s.Connections))
	case refused > 0:
		return percent(float64(refused) / float64(s.Requests+refused))
	case rep.saturated(s):
		return "saturated"
	}
	return ""
}

// invalid returns the rounds in which the client was measured.
func (s *Summary) invalid() []*Run {
	return slices.DeleteFunc(slices.Clone(s.Runs), func(r *Run) bool { return r.Invalid == "" })
}

// saturated reports whether an open loop asked for more than was done.
func (rep *Report) saturated(s *Summary) bool { return rep.kept(s) < 0.95 }

// kept returns the share of the requests due that a stage kept up with, from 0 to 1: those that
// were answered, and not so late that the round had to wait for them. A round ends later than
// its last request is due by what a request takes, and by the queue that has built up.
func (rep *Report) kept(s *Summary) float64 {
	w := rep.Workload(s.Point)
	if w.Rate == 0 || s.Requests == 0 {
		return 1
	}
	return over(s.Runs, func(r *Run) float64 {
		due := float64(r.Requests + r.Failed() + r.Unfinished)
		planned := cmp.Or(w.Duration.Seconds(), due/w.Rate)
		took := (r.Dur - r.Latency["p50"]).Seconds()
		return float64(r.Requests) / max(due, 1) * min(planned/max(took, 1e-9), 1)
	}).Median
}

// tables returns the tables, without columns and rows that hold nothing.
func (rep *Report) tables() (tables []Table) {
	all := groups
	if rep.Sweep != nil {
		all = [][]column{append([]column{rows(rep.label(rep.Sweep.Property, "stage"))}, sweepColumns...), ratios}
	}
	for _, g := range all {
		t := Table{Rows: make([][]string, len(rep.Summary))}
		for _, c := range g {
			cells := make([]string, len(rep.Summary))
			for i := range rep.Summary {
				if s := &rep.Summary[i]; s.Requests > 0 || c.unit == "" { // no figures without requests
					cells[i] = c.cell(rep, s)
				}
			}
			if strings.Join(cells, "") != "" {
				t.Head = append(t.Head, c.head)
				for i, cell := range cells {
					t.Rows[i] = append(t.Rows[i], cell)
				}
			}
		}
		t.Rows = slices.DeleteFunc(t.Rows, func(row []string) bool { return strings.Join(row[1:], "") == "" })
		tables = append(tables, t)
	}
	if i := slices.IndexFunc(rep.Summary, func(s Summary) bool { return s.Requests > 0 }); i >= 0 {
		rule := "ops/s: " + rep.Summary[i].OpsPerSecond.Rule()
		if rep.Sweep != nil {
			rule = strings.NewReplacer("[", "± ", "]", "").Replace(rule)
		}
		tables[0].Foot = []string{rule}
	}
	return tables
}

// clients returns a table with a row for each client, if there are several, to show one
// that is worse off than the others.
func (rep *Report) clients(rounds []*Run) Table {
	t := Table{Head: []string{"client", "ops/s", "p99", "CPU/request", "notes"}}
	for i := range rounds[0].Clients {
		var took []*Run
		for _, run := range rounds {
			if i < len(run.Clients) && !run.Clients[i].Missing {
				c := run.Clients[i]
				took = append(took, &Run{Result: load.Result{Counts: c.Counts}, Figures: c.Figures, Invalid: c.Invalid})
			}
		}
		row, notes := []string{rep.client(i), "", "", ""}, counts(nil)
		if took != nil {
			s := summarize(took)
			if row[1] = text.Sig3(s.OpsPerSecond.Median); s.Requests > 0 {
				row[2], row[3] = s.written(s.Latency, "", "p99"), text.Duration(time.Duration(s.ClientCPUPerRequest))
			}
			notes.add(int64(len(s.invalid())), "× INVALID")
			notes.add(int64(s.Starved), fmt.Sprintf("of %d starved", s.Connections))
			notes.add(s.Failed(), "failed")
			notes.add(s.Misses, "missed")
			notes.add(s.Wrong, "wrong")
		}
		notes.add(int64(len(rounds)-len(took)), "× MISSING")
		t.Rows = append(t.Rows, append(row, strings.Join(notes, ", ")))
	}
	return t
}

// histogram shows how the response times of rounds are spread, in 8 rows at most: each row ends
// as many times later than the one before it, up to p99.9, and the last at the longest.
func histogram(runs []*Run) []Table {
	var h metrics.Histogram
	for _, run := range runs {
		h.Merge(&run.ResponseTimes)
	}
	const most = 8
	low, high := h.Quantile(0.01), h.Quantile(0.999)
	if h.Count() <= 0 || low <= 0 || float64(high) < 1.1*float64(low) {
		return nil // there are none, or all are alike
	}
	t := Table{Head: []string{"response time", "requests", ""}}
	below := int64(0)
	for i := 1; i <= most && below < h.Count(); i++ {
		edge := time.Duration(float64(low) * math.Pow(float64(high)/float64(low), float64(i)/(most-1)))
		within := h.Within(edge)
		if i == most || text.Duration(edge) == text.Duration(h.Max()) {
			edge, within = h.Max(), h.Count()
		}
		share := min(max(float64(within-below)/float64(h.Count()), 0), 1) // a file may say anything
		bar := strings.Repeat("#", int(math.Ceil(48*share)))
		t.Rows = append(t.Rows, []string{"up to " + text.Duration(edge), fmt.Sprintf("%.1f %%", 100*share), fmt.Sprintf("%-48s", bar)})
		below = within
	}
	return []Table{t}
}

// overTime shows how a round developed, in 10 rows at most, if it took more than a second and each
// request had a connection: ports may run out.
func overTime(run *Run) Table {
	if run.ConnectTimes == nil || run.Dur <= time.Second {
		return Table{}
	}
	t := Table{Head: []string{"over time", "ops/s"}}
	seconds := max(len(run.Series), int((run.Dur+time.Second-1)/time.Second)) // none may have been answered in the last ones
	step := (seconds + 9) / 10
	for from := 0; from < seconds; from += step {
		sum := int64(0)
		for _, ops := range run.Series[min(from, len(run.Series)):min(from+step, len(run.Series))] {
			sum += ops
		}
		lasted := min(float64(step), max(run.Dur.Seconds()-float64(from), 1e-3)) // the last second may be a part of one
		t.Rows = append(t.Rows, []string{fmt.Sprintf("from %d s", from), text.Sig3(float64(sum) / lasted)})
	}
	if run.TimeWait > 0 {
		t.Foot = []string{text.Count(run.TimeWait) + " sockets in TIME_WAIT at the end"}
	}
	return t
}

// Gobench returns the report in the format of Go's benchmarks, one line a round
// (https://go.dev/design/14313-benchmark-format), which benchstat reads. The lines above
// say what must be the same in files that it compares.
func (rep *Report) Gobench() ([]byte, error) {
	rep.Summarize()
	var b bytes.Buffer
	for _, line := range [][2]string{{"goos", rep.Env.OS}, {"goarch", rep.Env.Arch}, {"pkg", "lockstep/bench"}, {"cpu", rep.Env.CPUModel},
		{"cpus", strconv.Itoa(rep.Env.CPUs)}, {"go", rep.Env.Go}, {"config", strings.Join(rep.properties(rep.Config), " ")}} {
		if line[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", line[0], strings.Join(strings.Fields(text.Printable(line[1])), " "))
		}
	}
	columns := slices.DeleteFunc(slices.Concat(groups...), func(c column) bool { return c.unit == "" })
	for _, c := range columns {
		fmt.Fprintf(&b, "Unit %s\n", c.unit)
	}
	for _, s := range rep.Summary { // in the order of the tables: benchstat takes the first stage as its base
		for _, run := range s.Runs {
			if run.Requests == 0 {
				fmt.Fprintf(&b, "# %s, round %d: no request was answered\n", namePart(run.Stage), run.Round)
				continue
			}
			w := rep.Workload(run.Point)
			fmt.Fprintf(&b, "BenchmarkLockstep/stage=%s/c=%d/batch=%d", namePart(run.Stage), w.Connections*max(len(run.Clients), 1), w.Batch)
			if sw := rep.Sweep; sw != nil && sw.Property != "c" && sw.Property != "batch" {
				fmt.Fprintf(&b, "/%s=%s", sw.Property, namePart(run.Point))
			}
			// What follows the dash stands for GOMAXPROCS.
			fmt.Fprintf(&b, "-%d %d %.1f ns/op", rep.Env.CPUs, run.Requests, float64(run.Dur)/float64(max(run.OK, 1)))
			for _, c := range columns {
				if v := c.of(&run.Figures); v > 0 {
					unit, _, _ := strings.Cut(c.unit, " ")
					fmt.Fprintf(&b, " %.1f %s", v, unit)
				}
			}
			fmt.Fprintf(&b, " %d failed\n", run.Failed()+run.Unanswered())
		}
	}
	return b.Bytes(), nil
}

// namePart makes text fit for the name of a benchmark, whose parts end at a slash.
func namePart(name string) string {
	return strings.Join(strings.FieldsFunc(text.Printable(name), func(r rune) bool { return r == '/' || unicode.IsSpace(r) }), "_")
}
