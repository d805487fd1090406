package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/text"
)

// The page of -html is one file that asks for nothing else: no scripts, no fonts, no
// pictures but its own. It is well-formed XML, too.
//
//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// A page is what the template is filled with.
type page struct {
	*Report
	When     string
	Alarm    string // the verdict, if it is not ok
	Sentence string
	Rule     string // what the intervals are
	Tables   []dataTable
	Notes    []string // what went wrong, or that nothing did
	Figures  []exhibit
	Terms    [][2]string // of the conditions
	Command  string
	Settings string // the configuration, as JSON
}

// A dataTable has names in its first column and figures in the others.
type dataTable struct {
	Head []string
	Rows [][]string
}

func newTable(rows [][]string) dataTable { return dataTable{rows[0], rows[1:]} }

// An exhibit is a figure with what is to be said of it.
type exhibit struct {
	Title, Caption string
	SVG            template.HTML
	Table          *dataTable // the same in figures; or nil
}

// Page is the content of the file that -html names.
func Page(rep *Report) ([]byte, error) {
	p := &page{Report: rep, Sentence: "No round was measured."}
	if rep.Verdict != "ok" {
		p.Alarm = rep.Verdict
	}
	if len(rep.Summary) > 0 {
		p.fill()
	}
	p.When = rep.Env.Time.UTC().Format("2006-01-02 15:04 UTC")
	asked := rep.conditions()
	if rep.Sweep != nil {
		asked = rep.swept() + asked
	}
	p.Terms = [][2]string{{"Asked for", asked}, {"When", p.When},
		{"Seed", strconv.FormatUint(rep.Config.Workload.Seed, 10)}}
	p.Command = commandLine(rep.Env.Command)
	settings, err := json.MarshalIndent(rep.Config, "", "  ")
	if err != nil {
		return nil, err
	}
	p.Settings = string(settings)
	var b bytes.Buffer
	err = pageTemplate.Execute(&b, p)
	return []byte(text.Printable(b.String())), err
}

func (p *page) fill() {
	rep := p.Report
	if rep.Sweep != nil {
		p.fillSweep()
		return
	}
	p.Sentence = rep.sentence()
	p.Rule = "Operations a second: " + rep.Summary[0].OpsPerSecond.rule() + "."
	p.Tables = []dataTable{newTable(rep.throughput()), newTable(rep.latency())}
	p.Notes = rep.notes()
	for _, draw := range []func(*Report) (exhibit, bool){throughputFigure, percentileFigure, whereFigure, secondsFigure, balanceFigure} {
		if e, ok := draw(rep); ok {
			p.Figures = append(p.Figures, e)
		}
	}
}

// commandLine writes a command so that a shell reads it as it was.
func commandLine(args []string) string {
	var quoted []string
	for _, arg := range args {
		if arg == "" || strings.ContainsAny(arg, " \t\n\"'\\$&;|<>()*?[]{}~#!`") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		quoted = append(quoted, arg)
	}
	return strings.Join(quoted, " ")
}

// plain writes a tick: a round number without more digits than it has.
func plain(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return text.Count(int64(v))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// plainSpan writes a tick that is a time in nanoseconds.
func plainSpan(ns float64) string {
	if ns == 0 {
		return "0"
	}
	unit := "ns"
	for _, larger := range []string{"µs", "ms", "s"} {
		if ns < 999.5 {
			break
		}
		ns, unit = ns/1000, larger
	}
	return strconv.FormatFloat(ns, 'g', 3, 64) + " " + unit
}

func throughputFigure(rep *Report) (exhibit, bool) {
	most := 0.0
	var rows []row
	var desc []string
	for i, s := range rep.Summary {
		runs, iv := rep.of(s), s.OpsPerSecond
		for _, run := range runs {
			most = max(most, run.OpsPerSecond)
		}
		value := strings.TrimSpace(text.Sig3(iv.Median) + " " + bounds(iv))
		desc = append(desc, s.Stage+" "+value)
		rows = append(rows, row{s.Stage, value, func(f *figure, x axis, y float64) {
			class := fmt.Sprintf("s%d", i%styles)
			if iv.Rounds > 1 {
				f.rect("band "+class, x.at(iv.Low), y-9, x.at(iv.High)-x.at(iv.Low), 18)
			}
			f.line("median "+class, x.at(iv.Median), y-11, x.at(iv.Median), y+11)
			for j, run := range runs {
				down := 0.0
				if len(runs) > 1 {
					down = 14 * (float64(j)/float64(len(runs)-1) - 0.5)
				}
				fmt.Fprintf(&f.body, `<circle class="dot %s" cx="%s" cy="%s" r="3"/>`, class, num(x.at(run.OpsPerSecond)), num(y+down))
			}
		}})
	}
	f := rowChart(linearAxis("operations a second", most, plain), rows)
	caption := "A dot is a round, the first one at the top; the line is their median, the band its interval: " + rep.Summary[0].OpsPerSecond.rule() + "."
	if rep.Summary[0].OpsPerSecond.Rounds < 2 {
		caption = "A dot is a round. There is one: nothing is known about chance."
	}
	return exhibit{Title: "Throughput", Caption: caption,
		SVG: f.svg("throughput", "Operations a second of each stage", strings.Join(desc, "; "))}, true
}

const beyond = 10 // requests at least that took longer than a point of a line of percentiles says: fewer say little

var median = math.Log10(2) // nines

// percentiles is the line of a histogram, from the median on: x is how many nines, 2 for
// 99 %.
func percentiles(h *metrics.Histogram) (points [][2]float64) {
	for i := range 5*16 + 1 {
		nines := max(float64(i)/16, median)
		if float64(h.Count())*math.Pow(10, -nines) < beyond {
			break
		}
		if i > 0 && float64(i)/16 < median {
			continue
		}
		if d := h.Quantile(1 - math.Pow(10, -nines)); d > 0 {
			points = append(points, [2]float64{nines, float64(d)})
		}
	}
	return points
}

func percentileFigure(rep *Report) (exhibit, bool) {
	var lines []series
	var times []float64
	var desc []string
	nines := 1.0
	add := func(name string, style int, dashed bool, h *metrics.Histogram) {
		points := percentiles(h)
		if len(points) < 2 {
			return
		}
		lines = append(lines, series{name: name, style: style, dashed: dashed, points: points,
			marked: func(i int) bool { return i == 0 || points[i][0] == math.Trunc(points[i][0]) }})
		for _, p := range points {
			times = append(times, p[1])
			nines = max(nines, p[0])
		}
	}
	open := false
	for i, s := range rep.Summary {
		var all, service metrics.Histogram
		for _, run := range rep.of(s) {
			all.Merge(&run.ResponseTimes)
			if run.ServiceTimes != nil {
				service.Merge(run.ServiceTimes)
			}
		}
		add(s.Stage, i%styles, false, &all)
		add("", i%styles, true, &service)
		open = open || service.Count() > 0
		l := newLatency(&all)
		desc = append(desc, fmt.Sprintf("%s: p50 %s, p90 %s, p99 %s, p99.9 %s, max %s", s.Stage, text.Duration(l.P50), text.Duration(l.P90), text.Duration(l.P99), text.Duration(l.P999), text.Duration(l.Max)))
	}
	x := axis{title: "share of the requests that took no longer", lo: median, hi: nines, ticks: []float64{median},
		label: func(nines float64) string { return strconv.FormatFloat(100-math.Pow(10, 2-nines), 'g', 7, 64) + " %" }}
	for n := 1.0; n <= nines+0.01; n++ {
		x.ticks = append(x.ticks, n)
	}
	caption := "All rounds of a stage together. To the right each step is ten times rarer; a line ends where fewer than ten requests took longer."
	title := "Response time"
	if open {
		title = "Response and service time"
		caption += " Solid: response time, from when a request was due. Dashed: service time, from when it was sent; what lies between is waiting for a free connection."
	}
	f := lineChart(x, logAxis("time", times, plainSpan), lines)
	return exhibit{Title: title, Caption: caption, SVG: f.svg("percentiles", title+" by percentile", strings.Join(desc, "; "))}, lines != nil
}

func whereFigure(rep *Report) (exhibit, bool) {
	tab := dataTable{Head: []string{"mean of a request", "queue", "lock", "table", "codec", "rest", "lock held"}}
	var rows []row
	var desc []string
	most := 0.0
	for _, s := range rep.Summary {
		if s.Where == nil {
			continue
		}
		shares, sum := s.Where.parts(), time.Duration(0)
		cells := []string{s.Stage}
		for _, share := range shares {
			sum += *share
			cells = append(cells, text.Duration(*share))
		}
		cells = append(cells, text.Sig3(100*s.Held)+" %")
		most = max(most, float64(sum))
		tab.Rows = append(tab.Rows, cells)
		desc = append(desc, s.Stage+": "+named(tab.Head[1:], cells[1:]))
		rows = append(rows, row{s.Stage, text.Duration(sum), func(f *figure, x axis, y float64) {
			at := 0.0
			for i, share := range shares {
				v, name := float64(*share), tab.Head[1+i]
				left, right := x.at(at), x.at(at+v)
				f.rect(fmt.Sprintf("part p%d", i), left, y-9, right-left, 18)
				if right-left > width(name)+6 {
					f.text(fmt.Sprintf("mid on on%d", i), (left+right)/2, y+5, name)
				}
				at += v
			}
		}})
	}
	f := rowChart(linearAxis("mean time of a request", most, plainSpan), rows, tab.Head[1:6]...)
	return exhibit{Title: "Where the time goes", SVG: f.svg("where", "Mean time of a request by what it was spent on", strings.Join(desc, "; ")), Table: &tab,
		Caption: "From left to right. Queue: for a worker. Lock: for one that another request held. Table: in the table, work included. " +
			"Codec: the rest of the server's turn, decoding and encoding. Rest: the network, the kernel, scheduling, the client."}, rows != nil
}

// named puts names before their figures.
func named(names, cells []string) string {
	var list []string
	for i, name := range names {
		list = append(list, name+" "+cells[i])
	}
	return strings.Join(list, ", ")
}

func secondsFigure(rep *Report) (exhibit, bool) {
	const pitch, plot, side = 108.0, 66.0, 10.0
	full := func(run Run) []int64 { return run.Series[:min(len(run.Series), int(run.Dur/time.Second))] }
	most, longest := 0.0, 0
	lasted := make(map[string]int) // whole seconds, by stage
	for _, run := range rep.Runs {
		for _, n := range full(run) {
			most = max(most, float64(n))
		}
		lasted[run.Stage] = max(lasted[run.Stage], len(full(run)))
		longest = max(longest, len(full(run)))
	}
	for _, n := range lasted {
		if n < 3 {
			return exhibit{}, false
		}
	}
	x := linearAxis("second of the round", float64(longest), plain)
	y := linearAxis("operations in each second", most, plain)
	y.ticks = []float64{0, y.hi}
	x.from, x.to = width(plain(y.hi))+12, figureWidth-side
	f := &figure{height: pitch*float64(len(rep.Summary)) + 36}
	var desc []string
	for i, s := range rep.Summary {
		top := pitch*float64(i) + 26
		y.from, y.to = top+plot, top
		f.text("", x.from, top-8, fit(s.Stage, 50))
		for _, tick := range y.ticks {
			f.line("grid", x.from, y.at(tick), x.to, y.at(tick))
			f.text("end", x.from-8, y.at(tick)+5, plain(tick))
		}
		low, high := math.Inf(1), 0.0
		for _, run := range rep.of(s) {
			var points [][2]float64
			for second, n := range full(run) {
				low, high = min(low, float64(n)), max(high, float64(n))
				points = append(points, [2]float64{x.at(float64(second) + 0.5), y.at(float64(n))})
			}
			if points != nil {
				f.path(fmt.Sprintf("line thin s%d", i%styles), points)
			}
		}
		if low <= high {
			desc = append(desc, fmt.Sprintf("%s: %s to %s", s.Stage, text.Sig3(low), text.Sig3(high)))
		}
	}
	f.xAxis(x, y.from)
	return exhibit{Title: "Second by second", Caption: "Operations answered in each whole second of a round, a line for each round.",
		SVG: f.svg("seconds", "Operations in each second of every round", strings.Join(desc, "; "))}, true
}

func balanceFigure(rep *Report) (exhibit, bool) {
	var rows []row
	var desc []string
	for _, s := range rep.Summary {
		var requests []float64
		sum := 0.0
		for _, run := range rep.of(s) {
			for i, n := range run.Nodes {
				if i == len(requests) {
					requests = append(requests, 0)
				}
				requests[i] += float64(n.Requests)
				sum += float64(n.Requests)
			}
		}
		if len(requests) < 2 || sum == 0 {
			continue
		}
		share := func(n float64) string { return text.Sig3(100*n/sum) + " %" }
		value := share(slices.Min(requests)) + " to " + share(slices.Max(requests))
		desc = append(desc, fmt.Sprintf("%s, %d nodes: %s", s.Stage, len(requests), value))
		rows = append(rows, row{s.Stage, value, func(f *figure, x axis, y float64) {
			at := 0.0
			for i, n := range requests {
				left, right := x.at(100*at/sum), x.at(100*(at+n)/sum)
				f.rect("part node", left, y-9, right-left, 18)
				if name := "node " + strconv.Itoa(i); right-left > width(name)+6 {
					f.text("mid on", (left+right)/2, y+5, name)
				}
				at += n
			}
		}})
	}
	f := rowChart(linearAxis("percent of the requests", 100, plain), rows)
	return exhibit{Title: "Balance", Caption: "Which node answered how many of the requests, or parts of requests, over all rounds.",
		SVG: f.svg("balance", "Share of the requests by node", strings.Join(desc, "; "))}, rows != nil
}
