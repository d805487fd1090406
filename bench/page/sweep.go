package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lockstep/bench/figure"
	"lockstep/bench/report"
	"lockstep/common/text"
)

// fillSweep is fill, for a sweep.
func (p *content) fillSweep() {
	rep := p.Report
	var sentences []string
	for _, stage := range rep.Stages {
		sentences = append(sentences, rep.SweepSentence(stage))
		p.Notes = append(p.Notes, rep.SweepTroubles(stage))
	}
	p.Sentence = strings.Join(sentences, " ")
	p.Rule = "Operations a second: " + rep.Summary[0].OpsPerSecond.Rule() + "."
	p.Tables = []dataTable{newTable(rep.SweepTable())}
	p.Figures = []exhibit{sweptFigure(rep), achievedFigure(rep)}
}

// sweptTitles say what the swept properties are, for an axis.
var sweptTitles = map[string]string{
	"c": "connections", "rate": "requests due a second", "batch": "operations in a request", "depth": "requests in flight on a connection",
	"keys": "keys", "value": "bytes in a value", "buckets": "buckets", "work": "time of an operation in the table",
	"workers": "workers", "queue": "requests that may wait",
}

// A sweptPoint is what a stage came to at a value of the swept property.
type sweptPoint struct {
	value float64
	*report.Summary
}

// sweptPoints are those of a stage that were measured, by value.
func sweptPoints(rep *report.Report, stage string) (points []sweptPoint) {
	for _, point := range rep.Sweep.Points {
		if s := rep.Point(stage, point); s != nil {
			points = append(points, sweptPoint{rep.Sweep.Number(point), s})
		}
	}
	slices.SortFunc(points, func(a, b sweptPoint) int { return cmp.Compare(a.value, b.value) })
	return points
}

// sweptFigure is the throughput against the swept property.
func sweptFigure(rep *report.Report) exhibit {
	var lines []figure.Series
	var values []float64
	var desc []string
	most := 0.0
	due := figure.Series{Name: "due", Style: figure.Faint, Dashed: true}
	for i, stage := range rep.Stages {
		s := figure.Series{Name: stage, Style: i % figure.Styles}
		for _, p := range sweptPoints(rep, stage) {
			ops := p.OpsPerSecond
			s.Points = append(s.Points, [2]float64{p.value, ops.Median})
			s.Bars = append(s.Bars, [2]float64{ops.Low, ops.High})
			values = append(values, p.value)
			most = max(most, ops.High, rep.Due(p.Point))
			desc = append(desc, fmt.Sprintf("%s at %s %s", stage, rep.Sweep.Label(p.Point), text.Sig3(ops.Median)))
			if d := rep.Due(p.Point); d > 0 && i == 0 {
				due.Points = append(due.Points, [2]float64{p.value, d})
			}
		}
		lines = append(lines, s)
	}
	if due.Points != nil {
		lines = append(lines, due)
	}
	x := sweptAxis(rep.Sweep.Property, values)
	f := figure.LineChart(x, figure.LinearAxis("operations a second", most, figure.Plain), lines)
	return exhibit{Title: "Throughput", Caption: "Medians of the rounds, with a bar for the interval: " + rep.Summary[0].OpsPerSecond.Rule() + ".",
		SVG: f.Svg("swept", "Operations a second of each stage by "+x.Title, strings.Join(desc, "; "))}
}

// sweptAxis begins at 0, or, where the points span much, as those that double do, is
// logarithmic, with the points as its ticks.
func sweptAxis(property string, values []float64) figure.Axis {
	title := sweptTitles[property]
	lo, hi := slices.Min(values), slices.Max(values)
	switch {
	case property == "work":
		return figure.LinearAxis(title, hi, figure.PlainSpan)
	case property == "rate", lo == 0, hi < 8*lo:
		return figure.LinearAxis(title, hi, figure.Plain)
	}
	slices.Sort(values)
	return figure.Axis{Title: title + " (logarithmic)", Lo: lo, Hi: hi, Log: true, Ticks: slices.Compact(values), Label: figure.Plain}
}

// achievedFigure is the response time against the throughput that the stages achieved.
func achievedFigure(rep *report.Report) exhibit {
	var lines []figure.Series
	var times []float64
	var desc []string
	most := 0.0
	for i, stage := range rep.Stages {
		p50, p99 := figure.Series{Style: i % figure.Styles, Dashed: true}, figure.Series{Name: stage, Style: i % figure.Styles}
		for _, p := range sweptPoints(rep, stage) {
			ops, l := p.OpsPerSecond.Median, p.Latency
			if l.P50 <= 0 { // nothing was answered
				continue
			}
			p50.Points = append(p50.Points, [2]float64{ops, float64(l.P50)})
			p99.Points = append(p99.Points, [2]float64{ops, float64(l.P99)})
			times = append(times, float64(l.P50), float64(l.P99))
			most = max(most, ops)
			desc = append(desc, fmt.Sprintf("%s at %s: %s a second, p50 %s, p99 %s", stage, rep.Sweep.Label(p.Point), text.Sig3(ops), text.Duration(l.P50), text.Duration(l.P99)))
		}
		lines = append(lines, p99, p50)
	}
	f := figure.LineChart(figure.LinearAxis("operations a second, achieved", most, figure.Plain), figure.LogAxis("response time", times, figure.PlainSpan), lines)
	return exhibit{Title: "Response time and throughput",
		Caption: "A mark is a point of the sweep, and the line follows the swept property upwards. Solid: p99. Dashed: p50.",
		SVG:     f.Svg("achieved", "Response time of each stage by what it achieved", strings.Join(desc, "; "))}
}
