package notes

import (
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
	report *report.Report // of compare and run
	lanes  []figure.Panel // of lanes
	text   string         // what the command prints
	rows   []row
	dir    string // where the file is
	err    error  // why there are none
}

// A row is what was measured of a stage, at one point of a sweep if there is one.
type row struct {
	stage, point string
	values       map[string]value // by column
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
func size(v float64, _ int) string       { return text.Bytes(int64(v)) }

func single(v float64, write func(float64, int) string) value {
	return value{Interval: stats.Interval{Median: v, Low: v, High: v}, write: write}
}

// printed returns the value of a cell that stays as it is.
func printed(cell string) value {
	bare := strings.TrimPrefix(cell, ">")
	v := single(number(bare), func(float64, int) string { return bare })
	v.bound = strings.TrimSuffix(cell, bare)
	return v
}

// number reads a number with its unit, if it has one: 2 700, 8.1ms, 68 %. Otherwise it is NaN.
func number(s string) float64 {
	s = strings.ReplaceAll(s, " ", "")
	if d, err := time.ParseDuration(s); err == nil {
		return float64(d)
	}
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil {
		return math.NaN()
	} else if strings.HasSuffix(s, "%") {
		v /= 100
	}
	return v
}

func (v value) String(short bool) string {
	interval := ""
	if v.Low < v.High && (!short || v.same) {
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

// load reads a file from the first of some directories that has it.
func (d *data) load(name string, dirs ...string) {
	var content []byte
	for _, d.dir = range dirs {
		if content, d.err = os.ReadFile(filepath.Join(d.dir, name)); !errors.Is(d.err, os.ErrNotExist) {
			break
		}
	}
	var drawn struct{ Stages []figure.Panel }
	d.rows = nil
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
			d.rows = append(d.rows, row{p.Title, "", map[string]value{"together": single(float64(p.Together()), whole)}})
		}
	default:
		d.report = new(report.Report)
		if d.err = json.Unmarshal(content, d.report); d.err == nil && d.report.Sweep != nil {
			d.err = d.report.Sweep.Restore(d.report.Config)
		}
		d.report.Summary = nil // of figures that, without histograms, stay as they are
		d.text = d.report.String()
		for _, s := range d.report.Summary {
			d.rows = append(d.rows, summaryRow(&s))
		}
	}
}

// summaryRow has the figures of a report's row.
func summaryRow(s *report.Summary) row {
	all := map[string]value{
		"ops":         {Interval: s.OpsPerSecond, write: text.Sig},
		"server_cpu":  single(s.ServerCPUPerRequest, span),
		"client_cpu":  single(s.ClientCPUPerRequest, span),
		"lock_held":   single(s.LockHeld, share),
		"refused":     single(float64(s.Refusals)/float64(max(s.Requests+s.Refusals, 1)), share),
		"requests":    single(float64(s.Requests), whole),
		"connections": single(float64(s.Connections), whole),
		"starved":     single(float64(s.Starved), whole),
		"failed":      single(float64(s.Failed()), whole),
		"unfinished":  single(float64(s.Unfinished), whole),
	}
	for _, t := range []report.Times{s.Latency, s.Where} {
		for name, d := range t {
			all[name] = single(float64(d), span)
		}
	}
	all["p99"] = value{Interval: s.P99, write: span}
	for _, name := range s.AtLeast {
		v := all[name]
		v.bound = ">"
		all[name] = v
	}
	for name, r := range map[string]*report.Ratio{"ratio": s.Ratio, "ratio.p99": s.P99Ratio} {
		if r != nil && r.Rounds > 0 {
			all[name] = value{Interval: r.Interval, same: r.NoDifference, bound: strings.TrimLeft(r.Bound+" ", " "), write: text.Sig}
		}
	}
	return row{s.Stage, s.Point, all}
}

var (
	gap        = regexp.MustCompile(`\s*\t\s*|  +`)
	gomaxprocs = regexp.MustCompile(`-\d+$`)
	units      = map[string]func(float64, int) string{"ns/op": span, "B/op": size, "allocs/op": whole}
)

// lineRow has the figures of a line of the tour or of a Go benchmark.
func lineRow(line string) row {
	cells, all := gap.Split(strings.TrimSpace(line), -1), make(map[string]value)
	if len(cells) == 6 {
		p99, refused, _ := strings.Cut(cells[4], ", ")
		for name, cell := range map[string]string{"perRequest": cells[1], "kept": cells[2], "stalled": cells[3], "overload": p99, "refused": refused, "work": cells[5]} {
			all[name] = printed(cell)
		}
		return row{cells[0][:1], "", all}
	}
	for _, cell := range cells {
		n, unit, _ := strings.Cut(cell, " ")
		if write, ok := units[unit]; ok {
			all[strings.Replace(strings.TrimSuffix(unit, "/op"), "B", "bytes", 1)] = single(number(n), write)
		}
	}
	return row{gomaxprocs.ReplaceAllString(cells[0], ""), "", all}
}

// value returns the figure of a column and a stage, STAGE or STAGE@POINT; of the last if none is given.
func (d *data) value(stage, column string) (value, error) {
	stage, point, _ := strings.Cut(stage, "@")
	for _, r := range slices.Backward(d.rows) {
		meant := stage == "" || stage == r.stage || strings.HasPrefix(r.stage, "stage"+stage+"_")
		if v, ok := r.values[column]; ok && meant && (point == r.point || strings.HasSuffix(point, "="+r.point)) {
			return v, nil
		}
	}
	return value{}, fmt.Errorf("%s has no %s of stage %q, or nobody knows", d.name, column, stage)
}

// heads are columns in words.
var heads = strings.NewReplacer("ratio.p99", "p99, compared", "ratio", "compared", "ops", "operations/s", "p999", "p99.9", "max", "longest",
	"queue", "waits for a worker", "lock_held", "lock held", "lock", "waits for a lock", "table", "in the table", "codec", "rest of the server",
	"rest", "network and client", "_cpu", " CPU", "perRequest", "connection per request")

// table returns a table in Markdown: a row for each stage, or point and stage.
func (d *data) table(columns []string) (string, error) {
	head, rule := "| stage", "| ---"
	if d.report != nil && d.report.Sweep != nil {
		head, rule = "| "+d.report.Sweep.Property+" | stage", "| --- | ---"
	}
	body := ""
	for _, r := range d.rows {
		line, known := strings.TrimPrefix("| "+r.point+" | ", "|  ")+strings.Replace(r.stage, "_", " ", 1), false
		for _, column := range columns {
			v, ok := r.values[column]
			if line, known = line+" | ", known || ok; ok {
				line += v.String(!strings.HasPrefix(column, "ratio"))
			}
		}
		if known {
			body += line + " |\n"
		}
	}
	for _, column := range columns {
		head, rule = head+" | "+heads.Replace(column), rule+" | ---:"
		if !slices.ContainsFunc(d.rows, func(r row) bool { return r.values[column].write != nil }) {
			return "", fmt.Errorf("%s has no column %s", d.name, column)
		}
	}
	return head + " |\n" + rule + " |\n" + body, nil
}

// paragraphs returns what the command printed, or some of its paragraphs by number.
func (d *data) paragraphs(numbers []string) (string, error) {
	all := strings.Split(strings.Trim(d.text, "\n"), "\n\n")
	chosen := all[:0:0]
	for _, n := range numbers {
		i, err := strconv.Atoi(n)
		if err != nil || i < 1 || i > len(all) {
			return "", fmt.Errorf("%s has no paragraph %s, but 1 to %d", d.name, n, len(all))
		}
		chosen = append(chosen, all[i-1])
	}
	if numbers == nil {
		chosen = all
	}
	return "```text\n" + strings.Join(chosen, "\n\n") + "\n```\n", nil
}
