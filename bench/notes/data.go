package notes

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/bench/figure"
	"lockstep/bench/report"
	"lockstep/bench/stats"
	"lockstep/common/text"
)

// data are what an experiment has measured.
type data struct {
	name   string
	report *report.Report // of compare and run
	lanes  []figure.Panel // of lanes
	text   string         // of all: what the command prints
	dir    string         // where the file is
	err    error          // why there are none
}

// load reads a file from the first of some directories that has it.
func (d *data) load(file string, dirs ...string) {
	var content []byte
	for _, d.dir = range dirs {
		if content, d.err = os.ReadFile(filepath.Join(d.dir, file)); !errors.Is(d.err, os.ErrNotExist) {
			break
		}
	}
	var drawn struct{ Stages []figure.Panel }
	switch {
	case d.err != nil:
		d.err = fmt.Errorf("%w (bench notes -measure %s measures it)", d.err, d.name)
	case filepath.Ext(file) == ".txt":
		d.text = string(content)
	case json.Unmarshal(content, &drawn) == nil:
		d.lanes, d.text = drawn.Stages, figure.LanesText(drawn.Stages)
	default:
		if d.report, d.err = report.Parse(content); d.err == nil {
			d.text = d.report.String()
		}
	}
}

// A value is a figure, over several rounds or as it is printed.
type value struct {
	stats.Interval
	rounds map[int]float64 // by round, of a report
	of     *data
	bound  string // "at least ", "at most " or ">", if that is all that is known
	same   bool   // no difference is shown
	write  func(v float64, digits int) string
	cell   string // as it is printed; or ""
}

func span(ns float64, digits int) string { return text.DurationSig(time.Duration(ns), digits) }
func share(v float64, digits int) string { return text.Sig(100*v, digits) + " %" }
func whole(v float64, _ int) string      { return text.Count(int64(math.Round(v))) }
func size(v float64, _ int) string       { return text.Bytes(int64(v)) }

func (v value) String(short bool) string {
	digits, interval := 2, ""
	if !short {
		digits = 3
	}
	if v.Low < v.High && (!short || v.same) {
		interval = " [" + v.write(v.Low, 3) + ".." + v.write(v.High, 3) + "]"
	}
	switch {
	case v.cell != "":
		return v.cell
	case v.same:
		return "no difference shown" + interval
	}
	return v.bound + v.write(v.Median, digits) + interval
}

// eval evaluates an expression about an experiment.
func (b *Book) eval(e *experiment, expr string) (value, error) {
	top, bottom, isQuotient := strings.Cut(expr, " / ")
	v, err := b.figure(e, strings.TrimSpace(top))
	if err != nil || !isQuotient {
		return v, err
	}
	w, err := b.figure(e, strings.TrimSpace(bottom))
	if err == nil {
		v, err = v.over(w)
	}
	return v, err
}

// over returns v / w: round by round if they are of the same rounds, and otherwise with the
// widest interval that is possible.
func (v value) over(w value) (value, error) {
	q := value{Interval: stats.Interval{Median: v.Median / w.Median, Low: v.Low / w.High, High: v.High / w.Low, Rounds: min(v.Rounds, w.Rounds)}, write: text.Sig}
	if v.of == w.of && v.rounds != nil {
		var all []float64
		for round, x := range v.rounds {
			if y := w.rounds[round]; y != 0 {
				all = append(all, x/y)
			}
		}
		q.Interval = stats.NewInterval(all)
	}
	q.same = q.Rounds > 1 && q.WithinNoise(stats.Interval{})
	switch {
	case v.bound != "" && w.bound != "" || w.Median == 0:
		return q, errors.New("the two cannot be compared")
	case v.bound != "":
		q.bound = "at least "
	case w.bound != "":
		q.bound = "at most "
	}
	return q, nil
}

var figureName = regexp.MustCompile(`^(?:(.*?)\.)??(ratio\.p99|[^.]+)$`)

// figure returns a figure of an experiment, or of the other one that its name begins with.
func (b *Book) figure(e *experiment, name string) (v value, err error) {
	first, rest, _ := strings.Cut(name, ".")
	if other, _ := b.experiment(first); other != nil {
		e, name = other, rest
	}
	m := append(figureName.FindStringSubmatch(name), "", "", "")
	stage, column := m[1], m[2]
	switch {
	case e.report != nil:
		v, err = e.measured(stage, column)
	case e.lanes != nil:
		i := slices.IndexFunc(e.lanes, func(p figure.Panel) bool { return isStage(stage, p.Title) })
		if i < 0 || column != "together" {
			return v, fmt.Errorf("%s has no %q", e.name, name)
		}
		v = single(float64(e.lanes[i].Together()), whole)
	default:
		v, err = e.printed(stage, column)
	}
	v.of = &e.data
	if err = cmp.Or(e.err, err); err != nil {
		err = fmt.Errorf("%s has no %q: %w", e.name, name, err)
	}
	return v, err
}

func single(v float64, write func(float64, int) string) value {
	return value{Interval: stats.Interval{Median: v, Low: v, High: v, Rounds: 1}, write: write}
}

// isStage reports whether a stage is meant: by its number, its name, or nothing.
func isStage(meant, name string) bool {
	return meant == "" || meant == name || strings.HasPrefix(name, "stage"+meant+"_")
}

// A column is what can be said of a stage of a report.
type column struct {
	head  string
	of    func(*report.Run) float64 // NaN: not known
	write func(v float64, digits int) string
}

// columns are counts and rates by the names that a mark has for them.
var columns = map[string]column{
	"ops":         {"operations/s", func(r *report.Run) float64 { return r.OpsPerSecond }, text.Sig},
	"server_cpu":  {"server CPU", func(r *report.Run) float64 { return r.ServerCPUPerRequest }, span},
	"client_cpu":  {"client CPU", func(r *report.Run) float64 { return r.ClientCPUPerRequest }, span},
	"lock_held":   {"lock held", func(r *report.Run) float64 { return r.LockHeld }, share},
	"refused":     {"refused", func(r *report.Run) float64 { return float64(r.Refusals) / float64(max(r.Requests+r.Refusals, 1)) }, share},
	"requests":    {"requests", func(r *report.Run) float64 { return float64(r.Requests) }, whole},
	"connections": {"connections", func(r *report.Run) float64 { return float64(r.Connections) }, whole},
	"starved":     {"starved", func(r *report.Run) float64 { return float64(r.Starved) }, whole},
	"failed":      {"failed", func(r *report.Run) float64 { return float64(r.Failed()) }, whole},
	"unfinished":  {"unfinished", func(r *report.Run) float64 { return float64(r.Unfinished) }, whole},
	"time_wait":   {"in TIME_WAIT", func(r *report.Run) float64 { return float64(r.TimeWait) }, whole},
	"ratio":       {head: "throughput, compared"},
	"ratio.p99":   {head: "p99, compared"},
}

// times are the columns of the response time, and of where it goes.
var times = map[string]string{
	"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "longest", "mean": "mean", "queue": "waits for a worker",
	"lock": "waits for a lock", "table": "in the table", "codec": "rest of the server", "rest": "network and client",
}

// columnOf returns the column of a name; its head is "" if there is none.
func columnOf(name string) column {
	if head, ok := times[name]; ok {
		return column{head, func(r *report.Run) float64 {
			for _, t := range []report.Times{r.Latency, r.Where} {
				if d, ok := t[name]; ok {
					return float64(d)
				}
			}
			return math.NaN()
		}, span}
	}
	return columns[name]
}

// measured returns a figure of a report.
func (d *data) measured(stage, column string) (value, error) {
	stage, point, _ := strings.Cut(stage, "@")
	if d.report.Sweep != nil {
		point = strings.TrimPrefix(point, d.report.Sweep.Property+"=")
	}
	for _, s := range slices.Backward(d.report.Summary) {
		if s.Point == point && isStage(stage, s.Stage) {
			return summed(&s, column)
		}
	}
	return value{}, errors.New("there is no such stage or point")
}

func summed(s *report.Summary, name string) (v value, err error) {
	c := columnOf(name)
	if r := s.Ratio; c.of == nil && c.head != "" {
		if name == "ratio.p99" {
			r = s.P99Ratio
		}
		if r == nil || r.Rounds == 0 || name == "ratio" && r.Of != "ops_per_s" {
			return v, errors.New("there is nothing to compare it with")
		}
		return value{Interval: r.Interval, same: r.NoDifference, bound: strings.TrimLeft(r.Bound+" ", " "), write: text.Sig}, nil
	}
	v.rounds, v.write = make(map[int]float64), c.write
	for _, r := range s.Runs {
		if c.head == "" {
			return v, errors.New("there is no such column")
		} else if x := c.of(r); !math.IsNaN(x) {
			v.rounds[r.Round] = x
		}
	}
	if len(v.rounds) == 0 {
		return v, errors.New("it is not known")
	}
	v.Interval = stats.NewInterval(slices.Collect(maps.Values(v.rounds)))
	if name == "max" {
		v.Median = float64(s.Latency["max"]) // of all rounds
	}
	if slices.Contains(s.AtLeast, name) {
		v.bound = ">"
	}
	return v, nil
}

// table returns a table of a report, in Markdown: a row for each stage, or point and stage.
func (d *data) table(names []string) (string, error) {
	if d.report == nil || len(names) == 0 {
		return "", errors.New("a table needs columns, and what compare or run has measured")
	}
	var b strings.Builder
	row := func(cells ...string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	cells, rule := []string{"stage"}, []string{"---"}
	if d.report.Sweep != nil {
		cells, rule = []string{d.report.Sweep.Property, "stage"}, []string{"---", "---"}
	}
	for _, name := range names {
		if columnOf(name).head == "" {
			return "", fmt.Errorf("there is no column %q", name)
		}
		cells, rule = append(cells, columnOf(name).head), append(rule, "---:")
	}
	row(cells...)
	row(rule...)
	for _, s := range d.report.Summary {
		cells = []string{strings.Replace(s.Stage, "_", " ", 1)}
		if d.report.Sweep != nil {
			cells = []string{d.report.Sweep.Label(s.Point), cells[0]}
		}
		for _, name := range names {
			cell := ""
			if v, err := summed(&s, name); err == nil && columnOf(name).of == nil {
				cell = v.String(false)
			} else if err == nil { // as bench prints it
				cell = v.bound + v.write(v.Median, 3)
			}
			cells = append(cells, cell)
		}
		row(cells...)
	}
	return b.String(), nil
}

// paragraphs returns what a command printed, or some of its paragraphs by number.
func (d *data) paragraphs(numbers []string) (string, error) {
	all := strings.Split(strings.Trim(d.text, "\n"), "\n\n")
	var chosen []string
	for _, number := range numbers {
		i, err := strconv.Atoi(number)
		if err != nil || i < 1 || i > len(all) {
			return "", fmt.Errorf("there is no paragraph %s of 1 to %d", number, len(all))
		}
		chosen = append(chosen, all[i-1])
	}
	if chosen == nil {
		chosen = all
	}
	return "```text\n" + strings.Join(chosen, "\n\n") + "\n```\n", nil
}

// What the tour and Go benchmarks print: the columns of the one, and the units of the other.
var (
	fields      = regexp.MustCompile(`\s*\t\s*|  +`)
	gomaxprocs  = regexp.MustCompile(`-\d+$`)
	tourColumns = []string{"perRequest", "kept", "stalled", "overload", "work", "refused"}
	units       = map[string]func(float64, int) string{"ns": span, "B": size, "allocs": whole}
)

// printed returns a figure of a line that the tour or Go benchmarks print.
func (d *data) printed(row, column string) (value, error) {
	var all []float64
	unit := strings.Replace(column, "bytes", "B", 1)
	for line := range strings.Lines(d.text) {
		cells := fields.Split(strings.TrimSpace(line), -1)
		if i := slices.Index(tourColumns, column); i >= 0 && len(cells) == 6 && strings.HasPrefix(line, row+" ") {
			p99, refused, _ := strings.Cut(cells[4], ", ")
			cells[4], cells = p99, append(cells, refused)
			v := single(number(cells[i+1]), text.Sig)
			v.cell = cells[i+1]
			return v, nil
		}
		for _, cell := range cells {
			if n, ok := strings.CutSuffix(cell, " "+unit+"/op"); ok && gomaxprocs.ReplaceAllString(cells[0], "") == row {
				all = append(all, number(n))
			}
		}
	}
	if all == nil || units[unit] == nil {
		return value{}, errors.New("no line of the output has it")
	}
	return value{Interval: stats.NewInterval(all), write: units[unit]}, nil
}

// number reads a number with its unit, if it has one: 2 700, 8.1ms, >68 %. Otherwise it is NaN.
func number(s string) float64 {
	s = strings.NewReplacer(" ", "", ">", "").Replace(s)
	if d, err := time.ParseDuration(s); err == nil {
		return float64(d)
	}
	digits, isPercent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(digits, 64)
	switch {
	case err != nil:
		return math.NaN()
	case isPercent:
		return v / 100
	}
	return v
}
