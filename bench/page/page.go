// Package page renders a report as one HTML page: the words and tables of its text, and
// figures. The page has no scripts and loads nothing, so that it can be mailed.
package page

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/bench/figure"
	"lockstep/bench/report"
	"lockstep/common/text"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// content is what the template is filled with.
type content struct {
	report.Outline
	Title, Verdict, When, Command, Settings string
	Figures                                 []exhibit
}

// An exhibit is a figure with its title and what to know of it.
type exhibit struct {
	Title, Caption string
	SVG            template.HTML // "": there is nothing to show
}

// Render returns the content of the file that -html names. It is well-formed XML.
func Render(rep *report.Report) ([]byte, error) {
	settings, err := json.MarshalIndent(rep.Config, "", "  ")
	c := content{Outline: rep.Outline(), Title: title(rep), Verdict: rep.Verdict, When: rep.Env.Time.UTC().Format("2006-01-02 15:04 UTC"),
		Command: strings.Join(rep.Env.Command, " "), Settings: string(settings)}
	if rep.Sweep != nil {
		c.Figures = []exhibit{swept(rep), achieved(rep)}
	} else {
		c.Figures = []exhibit{throughput(rep), percentiles(rep), where(rep), seconds(rep), balance(rep)}
	}
	var b bytes.Buffer
	err = cmp.Or(err, pageTemplate.Execute(&b, c))
	return []byte(text.Printable(b.String())), err
}

// title says what was measured, and first if something is wrong, as it fits a browser's tab.
func title(rep *report.Report) string {
	kind, _, _ := strings.Cut(rep.Verdict, ":")
	return text.Quote(strings.TrimPrefix(strings.ToUpper(kind)+" - ", "OK - ")+"Lockstep: "+strings.Join(rep.Stages, ", "), 64)
}

// style returns the style of a stage, which is the same in all figures.
func style(rep *report.Report, stage string) int {
	return slices.Index(rep.Stages, stage) % figure.Styles
}

func rowChart(heading, caption string, x figure.Axis, rows []figure.Row, parts ...string) exhibit {
	return exhibit{heading, caption, template.HTML(figure.Rows(heading, x, rows, parts...))}
}

func lineChart(heading, caption string, x, y figure.Axis, series []figure.Series) exhibit {
	return exhibit{heading, caption, template.HTML(figure.Lines(heading, x, y, series))}
}

func throughput(rep *report.Report) exhibit {
	most := 0.0
	var stages []figure.Row
	for _, s := range rep.Summary {
		if s.Requests == 0 {
			continue
		}
		ops := s.OpsPerSecond
		row := figure.Row{Name: s.Stage, Style: style(rep, s.Stage), Value: strings.TrimSpace(text.Sig3(ops.Median) + " " + ops.Bounds()), Low: ops.Low, Median: ops.Median, High: ops.High}
		for _, run := range s.Runs {
			row.Dots = append(row.Dots, run.OpsPerSecond)
			most = max(most, run.OpsPerSecond)
		}
		stages = append(stages, row)
	}
	return rowChart("Throughput", "Each dot is a round, the first at the top; the line is their median and the band its interval.",
		figure.LinearAxis("operations a second", most, figure.Plain), stages)
}

// percentiles draws the quantiles that the tables have, but for those that are only bounds.
func percentiles(rep *report.Report) exhibit {
	var series []figure.Series
	var times []float64
	names, shares := []string{"p50", "p90", "p99", "p999"}, []string{"50 %", "90 %", "99 %", "99.9 %"}
	for _, s := range rep.Summary {
		line := figure.Series{Name: s.Stage, Style: style(rep, s.Stage)}
		for i, name := range names {
			if d := float64(s.Latency[name]); d > 0 && !slices.Contains(s.AtLeast, name) {
				line.Points = append(line.Points, [2]float64{float64(i), d})
				times = append(times, d)
			}
		}
		series = append(series, line)
	}
	x := figure.Axis{Title: "share of the requests that took no longer", Hi: 3, Ticks: []float64{0, 1, 2, 3},
		Label: func(i float64) string { return shares[int(i)] }}
	return lineChart("Response time", "Medians of the rounds. A mark is missing where as many requests were never answered that they may lie there.",
		x, figure.LogAxis("time", times, figure.Span), series)
}

func where(rep *report.Report) exhibit {
	parts := slices.DeleteFunc(slices.Clone(report.Parts), func(name string) bool {
		return !slices.ContainsFunc(rep.Summary, func(s report.Summary) bool { _, has := s.Where[name]; return has })
	})
	most := 0.0
	var stages []figure.Row
	for _, s := range rep.Summary {
		if s.Where == nil {
			continue
		}
		row, sum := figure.Row{Name: s.Stage, Style: style(rep, s.Stage)}, time.Duration(0)
		for _, name := range parts {
			row.Parts = append(row.Parts, float64(s.Where[name]))
			sum += s.Where[name]
		}
		row.Value, most = text.Duration(sum), max(most, float64(sum))
		stages = append(stages, row)
	}
	return rowChart("Where the time of a request goes", "Queue: waiting for a worker. Memory: waiting for memory. Lock: waiting for locks. Table: in the table, work included. "+
		"Codec: the rest of the server's turn, decoding and encoding. Rest: the network, the kernel, scheduling, the client.",
		figure.LinearAxis("mean time of a request", most, figure.Span), stages, parts...)
}

func seconds(rep *report.Report) exhibit {
	var series []figure.Series
	most, longest := 0.0, 0.0
	for _, s := range rep.Summary {
		name := s.Stage
		for _, run := range s.Runs {
			one := figure.Series{Name: name, Style: style(rep, s.Stage), Class: "thin"}
			for second, n := range run.Series[:min(len(run.Series), max(int(run.Dur/time.Second), 0))] {
				one.Points = append(one.Points, [2]float64{float64(second) + 0.5, float64(n)})
				most, longest = max(most, float64(n)), max(longest, float64(second)+1)
			}
			if len(one.Points) >= 3 {
				series, name = append(series, one), ""
			}
		}
	}
	return lineChart("Second by second", "Operations answered in each whole second, a line for each round.",
		figure.LinearAxis("second of the round", longest, figure.Plain), figure.LinearAxis("operations in a second", most, figure.Plain), series)
}

func balance(rep *report.Report) exhibit {
	var stages []figure.Row
	var names []string
	for _, run := range rep.Runs {
		for i := len(names); i < len(run.Nodes); i++ {
			names = append(names, "node "+strconv.Itoa(i))
		}
	}
	for _, s := range rep.Summary {
		requests, sum := make([]float64, len(names)), 0.0
		for _, run := range s.Runs {
			for i, n := range run.Nodes {
				requests[i] += float64(n.Requests)
				sum += float64(n.Requests)
			}
		}
		if len(names) < 2 || sum == 0 {
			continue
		}
		for i := range requests {
			requests[i] *= 100 / sum
		}
		stages = append(stages, figure.Row{Name: s.Stage, Style: style(rep, s.Stage), Parts: requests, Value: text.Sig3(slices.Min(requests)) + " to " + text.Sig3(slices.Max(requests)) + " %"})
	}
	return rowChart("Balance", "Which node answered how many of the requests, or parts of requests, in all rounds.",
		figure.LinearAxis("percent of the requests", 100, figure.Plain), stages, names...)
}

// swept draws the throughput by the swept property.
func swept(rep *report.Report) exhibit {
	var series []figure.Series
	var values []float64
	most := 0.0
	due := figure.Series{Name: "due", Style: figure.Faint, Class: "dashed"}
	for i, stage := range rep.Stages {
		s := figure.Series{Name: stage, Style: style(rep, stage)}
		for _, p := range rep.Points(stage) {
			if p.Requests == 0 {
				continue
			}
			x, ops, w := rep.Sweep.Number(p.Point), p.OpsPerSecond, rep.Workload(p.Point)
			s.Points = append(s.Points, [2]float64{x, ops.Median})
			s.Bars = append(s.Bars, [2]float64{ops.Low, ops.High})
			values, most = append(values, x), max(most, ops.High, w.Rate*float64(w.Batch))
			if w.Rate > 0 && i == 0 {
				due.Points = append(due.Points, [2]float64{x, w.Rate * float64(w.Batch)})
			}
		}
		series = append(series, s)
	}
	return lineChart("Throughput", "Medians of the rounds, each with a bar for its interval.",
		figure.PropertyAxis(rep.Sweep.Property, values), figure.LinearAxis("operations a second", most, figure.Plain), append(series, due))
}

// achieved draws the response time by the throughput that was achieved.
func achieved(rep *report.Report) exhibit {
	var series []figure.Series
	var times []float64
	most := 0.0
	for _, stage := range rep.Stages {
		p50, p99 := figure.Series{Style: style(rep, stage), Class: "dashed"}, figure.Series{Name: stage, Style: style(rep, stage)}
		for _, p := range rep.Points(stage) {
			for name, line := range map[string]*figure.Series{"p50": &p50, "p99": &p99} {
				if d := float64(p.Latency[name]); d > 0 && !slices.Contains(p.AtLeast, name) {
					line.Points = append(line.Points, [2]float64{p.OpsPerSecond.Median, d})
					times, most = append(times, d), max(most, p.OpsPerSecond.Median)
				}
			}
		}
		series = append(series, p99, p50)
	}
	return lineChart("Response time and throughput", "Each mark is a point of the sweep; a line follows the swept property upwards. Solid: p99. Dashed: p50. A time is missing where it may be that of a request without an answer.",
		figure.LinearAxis("operations a second, achieved", most, figure.Plain), figure.LogAxis("response time", times, figure.Span), series)
}
