package page

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

	"lockstep/bench/figure"
	"lockstep/bench/report"
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
type content struct {
	*report.Report
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
func Render(rep *report.Report) ([]byte, error) {
	p := &content{Report: rep, Sentence: "No round was measured."}
	if rep.Verdict != "ok" {
		p.Alarm = rep.Verdict
	}
	if len(rep.Summary) > 0 {
		p.fill()
	}
	p.When = rep.Env.Time.UTC().Format("2006-01-02 15:04 UTC")
	asked := rep.Conditions()
	if rep.Sweep != nil {
		asked = rep.Swept() + asked
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

func (p *content) fill() {
	rep := p.Report
	if rep.Sweep != nil {
		p.fillSweep()
		return
	}
	p.Sentence = rep.Sentence()
	p.Rule = "Operations a second: " + rep.Summary[0].OpsPerSecond.Rule() + "."
	p.Tables = []dataTable{newTable(rep.Throughput()), newTable(rep.Latency())}
	p.Notes = rep.Notes()
	for _, draw := range []func(*report.Report) (exhibit, bool){throughputFigure, percentileFigure, whereFigure, secondsFigure, balanceFigure} {
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

func throughputFigure(rep *report.Report) (exhibit, bool) {
	most := 0.0
	var rows []figure.Row
	var desc []string
	for i, s := range rep.Summary {
		runs, iv := rep.Of(s), s.OpsPerSecond
		for _, run := range runs {
			most = max(most, run.OpsPerSecond)
		}
		value := strings.TrimSpace(text.Sig3(iv.Median) + " " + report.Bounds(iv))
		desc = append(desc, s.Stage+" "+value)
		rows = append(rows, figure.Row{Name: s.Stage, Value: value, Draw: func(f *figure.Figure, x figure.Axis, y float64) {
			class := fmt.Sprintf("s%d", i%figure.Styles)
			if iv.Rounds > 1 {
				f.Rect("band "+class, x.At(iv.Low), y-9, x.At(iv.High)-x.At(iv.Low), 18)
			}
			f.Line("median "+class, x.At(iv.Median), y-11, x.At(iv.Median), y+11)
			for j, run := range runs {
				down := 0.0
				if len(runs) > 1 {
					down = 14 * (float64(j)/float64(len(runs)-1) - 0.5)
				}
				fmt.Fprintf(&f.Body, `<circle class="dot %s" cx="%s" cy="%s" r="3"/>`, class, figure.Num(x.At(run.OpsPerSecond)), figure.Num(y+down))
			}
		}})
	}
	f := figure.RowChart(figure.LinearAxis("operations a second", most, figure.Plain), rows)
	caption := "A dot is a round, the first one at the top; the line is their median, the band its interval: " + rep.Summary[0].OpsPerSecond.Rule() + "."
	if rep.Summary[0].OpsPerSecond.Rounds < 2 {
		caption = "A dot is a round. There is one: nothing is known about chance."
	}
	return exhibit{Title: "Throughput", Caption: caption,
		SVG: f.Svg("throughput", "Operations a second of each stage", strings.Join(desc, "; "))}, true
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

func percentileFigure(rep *report.Report) (exhibit, bool) {
	var lines []figure.Series
	var times []float64
	var desc []string
	nines := 1.0
	add := func(name string, style int, dashed bool, h *metrics.Histogram) {
		points := percentiles(h)
		if len(points) < 2 {
			return
		}
		lines = append(lines, figure.Series{Name: name, Style: style, Dashed: dashed, Points: points,
			Marked: func(i int) bool { return i == 0 || points[i][0] == math.Trunc(points[i][0]) }})
		for _, p := range points {
			times = append(times, p[1])
			nines = max(nines, p[0])
		}
	}
	open := false
	for i, s := range rep.Summary {
		var all, service metrics.Histogram
		for _, run := range rep.Of(s) {
			all.Merge(&run.ResponseTimes)
			if run.ServiceTimes != nil {
				service.Merge(run.ServiceTimes)
			}
		}
		add(s.Stage, i%figure.Styles, false, &all)
		add("", i%figure.Styles, true, &service)
		open = open || service.Count() > 0
		l := report.NewLatency(&all)
		desc = append(desc, fmt.Sprintf("%s: p50 %s, p90 %s, p99 %s, p99.9 %s, max %s", s.Stage, text.Duration(l.P50), text.Duration(l.P90), text.Duration(l.P99), text.Duration(l.P999), text.Duration(l.Max)))
	}
	x := figure.Axis{Title: "share of the requests that took no longer", Lo: median, Hi: nines, Ticks: []float64{median},
		Label: func(nines float64) string { return strconv.FormatFloat(100-math.Pow(10, 2-nines), 'g', 7, 64) + " %" }}
	for n := 1.0; n <= nines+0.01; n++ {
		x.Ticks = append(x.Ticks, n)
	}
	caption := "All rounds of a stage together. To the right each step is ten times rarer; a line ends where fewer than ten requests took longer."
	title := "Response time"
	if open {
		title = "Response and service time"
		caption += " Solid: response time, from when a request was due. Dashed: service time, from when it was sent; what lies between is waiting for a free connection."
	}
	f := figure.LineChart(x, figure.LogAxis("time", times, figure.PlainSpan), lines)
	return exhibit{Title: title, Caption: caption, SVG: f.Svg("percentiles", title+" by percentile", strings.Join(desc, "; "))}, lines != nil
}

func whereFigure(rep *report.Report) (exhibit, bool) {
	tab := dataTable{Head: []string{"mean of a request", "queue", "lock", "table", "codec", "rest", "lock held"}}
	var rows []figure.Row
	var desc []string
	most := 0.0
	for _, s := range rep.Summary {
		if s.Where == nil {
			continue
		}
		shares, sum := s.Where.Parts(), time.Duration(0)
		cells := []string{s.Stage}
		for _, share := range shares {
			sum += *share
			cells = append(cells, text.Duration(*share))
		}
		cells = append(cells, text.Sig3(100*s.Held)+" %")
		most = max(most, float64(sum))
		tab.Rows = append(tab.Rows, cells)
		desc = append(desc, s.Stage+": "+named(tab.Head[1:], cells[1:]))
		rows = append(rows, figure.Row{Name: s.Stage, Value: text.Duration(sum), Draw: func(f *figure.Figure, x figure.Axis, y float64) {
			at := 0.0
			for i, share := range shares {
				v, name := float64(*share), tab.Head[1+i]
				left, right := x.At(at), x.At(at+v)
				f.Rect(fmt.Sprintf("part p%d", i), left, y-9, right-left, 18)
				if right-left > figure.Width(name)+6 {
					f.Text(fmt.Sprintf("mid on on%d", i), (left+right)/2, y+5, name)
				}
				at += v
			}
		}})
	}
	f := figure.RowChart(figure.LinearAxis("mean time of a request", most, figure.PlainSpan), rows, tab.Head[1:6]...)
	return exhibit{Title: "Where the time goes", SVG: f.Svg("where", "Mean time of a request by what it was spent on", strings.Join(desc, "; ")), Table: &tab,
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

func secondsFigure(rep *report.Report) (exhibit, bool) {
	const pitch, plot, side = 108.0, 66.0, 10.0
	full := func(run report.Run) []int64 { return run.Series[:min(len(run.Series), int(run.Dur/time.Second))] }
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
	x := figure.LinearAxis("second of the round", float64(longest), figure.Plain)
	y := figure.LinearAxis("operations in each second", most, figure.Plain)
	y.Ticks = []float64{0, y.Hi}
	x.From, x.To = figure.Width(figure.Plain(y.Hi))+12, figure.FigureWidth-side
	f := &figure.Figure{Height: pitch*float64(len(rep.Summary)) + 36}
	var desc []string
	for i, s := range rep.Summary {
		top := pitch*float64(i) + 26
		y.From, y.To = top+plot, top
		f.Text("", x.From, top-8, figure.Fit(s.Stage, 50))
		for _, tick := range y.Ticks {
			f.Line("grid", x.From, y.At(tick), x.To, y.At(tick))
			f.Text("end", x.From-8, y.At(tick)+5, figure.Plain(tick))
		}
		low, high := math.Inf(1), 0.0
		for _, run := range rep.Of(s) {
			var points [][2]float64
			for second, n := range full(run) {
				low, high = min(low, float64(n)), max(high, float64(n))
				points = append(points, [2]float64{x.At(float64(second) + 0.5), y.At(float64(n))})
			}
			if points != nil {
				f.Path(fmt.Sprintf("line thin s%d", i%figure.Styles), points)
			}
		}
		if low <= high {
			desc = append(desc, fmt.Sprintf("%s: %s to %s", s.Stage, text.Sig3(low), text.Sig3(high)))
		}
	}
	f.XAxis(x, y.From)
	return exhibit{Title: "Second by second", Caption: "Operations answered in each whole second of a round, a line for each round.",
		SVG: f.Svg("seconds", "Operations in each second of every round", strings.Join(desc, "; "))}, true
}

func balanceFigure(rep *report.Report) (exhibit, bool) {
	var rows []figure.Row
	var desc []string
	for _, s := range rep.Summary {
		var requests []float64
		sum := 0.0
		for _, run := range rep.Of(s) {
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
		rows = append(rows, figure.Row{Name: s.Stage, Value: value, Draw: func(f *figure.Figure, x figure.Axis, y float64) {
			at := 0.0
			for i, n := range requests {
				left, right := x.At(100*at/sum), x.At(100*(at+n)/sum)
				f.Rect("part node", left, y-9, right-left, 18)
				if name := "node " + strconv.Itoa(i); right-left > figure.Width(name)+6 {
					f.Text("mid on", (left+right)/2, y+5, name)
				}
				at += n
			}
		}})
	}
	f := figure.RowChart(figure.LinearAxis("percent of the requests", 100, figure.Plain), rows)
	return exhibit{Title: "Balance", Caption: "Which node answered how many of the requests, or parts of requests, over all rounds.",
		SVG: f.Svg("balance", "Share of the requests by node", strings.Join(desc, "; "))}, rows != nil
}
