package notes

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
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
	report *report.Report // of compare and run; of others, it is empty
	lanes  []figure.Panel // of lanes
	text   string         // what the command prints
	rows   []row
	dir    string // where the file is
	err    error  // why there are none
}

// A row is what was measured of a stage, at one point of a sweep if there is one.
type row struct {
	name   string           // as marks say it: 3, or 3@work=1ms, or BenchmarkCodec/codec=fresh
	values map[string]value // by column
}

// A value is a figure, with its interval if it has one.
type value struct {
	stats.Interval
	bound string // ">", at least or at most, if that is all that is known
	same  bool   // no difference is shown
	write func(v float64, digits int) string
}

func span(ns float64, digits int) string { return text.DurationSig(time.Duration(ns), digits) }
func share(v float64, digits int) string { return text.Sig(100*v, digits) + " %" }
func whole(v float64, _ int) string      { return text.Count(int64(v)) }

func single(v float64, write func(float64, int) string) value {
	return value{Interval: stats.Interval{Median: v, Low: v, High: v}, write: write}
}

// parse reads a number with its unit, if it has one: 2 700, 8.1ms, 68 %. Otherwise it is NaN.
func parse(s string) float64 {
	s = strings.ReplaceAll(s, " ", "")
	if d, err := time.ParseDuration(s); err == nil {
		return float64(d)
	}
	v, err := strconv.ParseFloat(strings.Replace(s, "%", "e-2", 1), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// String writes the value with three digits and its interval, or, if short, with two digits.
func (v value) String(short bool) string {
	interval := ""
	if v.Low < v.High {
		interval = " [" + v.write(v.Low, 3) + ".." + v.write(v.High, 3) + "]"
	}
	switch {
	case v.same:
		return "no difference shown" + interval
	case short:
		return v.bound + v.write(v.Median, 2)
	}
	return v.bound + v.write(v.Median, 3) + interval
}

// load reads a file from the first of these directories that has it.
func (d *data) load(name string, dirs ...string) {
	var content []byte
	for _, d.dir = range dirs {
		if content, d.err = os.ReadFile(filepath.Join(d.dir, name)); !errors.Is(d.err, os.ErrNotExist) {
			break
		}
	}
	var drawn struct{ Stages []figure.Panel }
	d.rows, d.report = nil, new(report.Report)
	switch {
	case d.err != nil:
		d.err = fmt.Errorf("%w (bench notes -measure %s measures it)", d.err, d.name)
	case filepath.Ext(name) == ".txt":
		d.text = string(content)
		for line := range strings.Lines(d.text) {
			d.rows = append(d.rows, lineRow(line))
		}
	case json.Unmarshal(content, &drawn) == nil:
		d.lanes, d.text = drawn.Stages, figure.LanesText(drawn.Stages)
		for _, p := range d.lanes {
			clients := make(map[string]value)
			for i, n := range p.Clients() {
				words := strings.Fields(figure.Doings[i])
				clients[words[len(words)-1]] = single(n, text.Sig)
			}
			d.rows = append(d.rows, row{number(p.Title), clients})
		}
	default:
		if d.err = json.Unmarshal(content, d.report); d.err == nil && d.report.Sweep != nil {
			d.err = d.report.Sweep.Restore(d.report.Config)
		}
		d.summarize()
	}
}

// summarize takes the rows from the report.
func (d *data) summarize() {
	d.report.Summary = nil // of figures that, without histograms, stay as they are
	d.text = d.report.String()
	for _, s := range d.report.Summary {
		all := map[string]value{
			"ops":         {Interval: s.OpsPerSecond, write: text.Sig},
			"server_cpu":  single(s.ServerCPUPerRequest, span),
			"client_cpu":  single(s.ClientCPUPerRequest, span),
			"lock_held":   single(s.LockHeld, share),
			"refused":     single(float64(s.Refusals)/float64(max(s.Requests+s.Refusals, 1)), share),
			"connections": single(float64(s.Connections), whole),
			"starved":     single(float64(s.Starved), whole),
		}
		for _, t := range []report.Times{s.Latency, s.Where} {
			for name, took := range t {
				all[name] = single(float64(took), span)
			}
		}
		all["p99"] = value{Interval: s.P99, write: span}
		for _, name := range s.AtLeast {
			v := all[name]
			v.bound = ">"
			all[name] = v
		}
		if r := s.Ratio; r != nil && r.Rounds > 0 {
			all["ratio"] = value{Interval: r.Interval, same: r.NoDifference, bound: strings.TrimLeft(r.Bound+" ", " "), write: text.Sig}
		}
		d.rows = append(d.rows, row{d.rowName(s.Stage, s.Point), all})
	}
}

func (d *data) rowName(stage, point string) string {
	if d.report.Sweep == nil {
		return number(stage)
	}
	return number(stage) + "@" + d.report.Sweep.Property + "=" + point
}

// shortName returns the first word of a stage's name, as stage2, and number its number.
func shortName(stage string) string {
	name, _, _ := strings.Cut(stage, "_")
	return name
}

func number(stage string) string { return strings.TrimPrefix(shortName(stage), "stage") }

var gap, gomaxprocs = regexp.MustCompile(`\s*\t\s*|  +`), regexp.MustCompile(`-\d+$`)
var units = map[string]func(float64, int) string{"ns": span, "allocs": whole}

// lineRow has the figures of a line of the tour or of a Go benchmark.
func lineRow(line string) row {
	cells, all := gap.Split(strings.TrimSpace(line), -1), make(map[string]value)
	if len(cells) == 6 {
		for i, column := range []string{"perRequest", "kept", "stalled", "overload", "work"} {
			cell, _, _ := strings.Cut(cells[1+i], ", ") // that of overload says how many were refused, too
			bare := strings.TrimPrefix(cell, ">")
			v := single(parse(bare), func(float64, int) string { return bare }) // which keeps its digits
			v.bound = strings.TrimSuffix(cell, bare)
			all[column] = v
		}
		return row{cells[0][:1], all}
	}
	for _, cell := range cells {
		n, unit, _ := strings.Cut(cell, " ")
		unit = strings.TrimSuffix(unit, "/op")
		if write := units[unit]; write != nil {
			all[unit] = single(parse(n), write)
		}
	}
	return row{gomaxprocs.ReplaceAllString(cells[0], ""), all}
}

// value returns the figure of a row and a column; of the last row that has one if none is named.
func (d *data) value(name, column string) (value, error) {
	for _, r := range slices.Backward(d.rows) {
		if v, ok := r.values[column]; ok && (name == "" || name == r.name) {
			return v, nil
		}
	}
	return value{}, cmp.Or(d.err, fmt.Errorf("%s has no %s of stage %q, or nobody knows", d.name, column, name))
}

// table returns a table in Markdown: a row for each that has one of the figures.
func (d *data) table(columns []string) (string, error) {
	table := "| stage | " + strings.ReplaceAll(strings.Join(columns, " | "), "_", " ") + " |\n| ---" + strings.Repeat(" | ---:", len(columns)) + " |\n"
	for _, column := range columns {
		if _, err := d.value("", column); err != nil {
			return "", err
		}
	}
	for _, r := range d.rows {
		line, known := "| "+r.name, false
		for _, column := range columns {
			v, ok := r.values[column]
			if line, known = line+" | ", known || ok; ok {
				line += v.String(column != "ratio")
			}
		}
		if known {
			table += line + " |\n"
		}
	}
	return table, nil
}

// paragraph returns one paragraph of what the command printed.
func (d *data) paragraph(chosen string) (string, error) {
	all := strings.Split(strings.Trim(d.text, "\n"), "\n\n")
	i, err := strconv.Atoi(chosen)
	if d.err != nil || err != nil || i < 1 || i > len(all) {
		return "", cmp.Or(d.err, fmt.Errorf("%s has no paragraph %s, but 1 to %d", d.name, chosen, len(all)))
	}
	return "```text\n" + all[i-1] + "\n```\n", nil
}
