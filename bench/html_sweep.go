package main

import (
	"cmp"
	"fmt"
	"lockstep/common/text"
	"slices"
	"strings"
)

// fillSweep is fill, for a sweep.
func (p *page) fillSweep() {
	rep := p.Report
	var sentences []string
	for _, stage := range rep.Stages {
		sentences = append(sentences, rep.sweepSentence(stage))
		p.Notes = append(p.Notes, rep.sweepTroubles(stage))
	}
	p.Sentence = strings.Join(sentences, " ")
	p.Rule = "Operations a second: " + rep.Summary[0].OpsPerSecond.rule() + "."
	p.Tables = []dataTable{newTable(rep.sweepTable())}
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
	*Summary
}

// sweptPoints are those of a stage that were measured, by value.
func sweptPoints(rep *Report, stage string) (points []sweptPoint) {
	for _, point := range rep.Sweep.Points {
		if s := rep.point(stage, point); s != nil {
			points = append(points, sweptPoint{rep.Sweep.number(point), s})
		}
	}
	slices.SortFunc(points, func(a, b sweptPoint) int { return cmp.Compare(a.value, b.value) })
	return points
}

// sweptFigure is the throughput against the swept property.
func sweptFigure(rep *Report) exhibit {
	var lines []series
	var values []float64
	var desc []string
	most := 0.0
	due := series{name: "due", style: faint, dashed: true}
	for i, stage := range rep.Stages {
		s := series{name: stage, style: i % styles}
		for _, p := range sweptPoints(rep, stage) {
			ops := p.OpsPerSecond
			s.points = append(s.points, [2]float64{p.value, ops.Median})
			s.bars = append(s.bars, [2]float64{ops.Low, ops.High})
			values = append(values, p.value)
			most = max(most, ops.High, rep.due(p.Point))
			desc = append(desc, fmt.Sprintf("%s at %s %s", stage, rep.Sweep.label(p.Point), text.Sig3(ops.Median)))
			if d := rep.due(p.Point); d > 0 && i == 0 {
				due.points = append(due.points, [2]float64{p.value, d})
			}
		}
		lines = append(lines, s)
	}
	if due.points != nil {
		lines = append(lines, due)
	}
	x := sweptAxis(rep.Sweep.Property, values)
	f := lineChart(x, linearAxis("operations a second", most, plain), lines)
	return exhibit{Title: "Throughput", Caption: "Medians of the rounds, with a bar for the interval: " + rep.Summary[0].OpsPerSecond.rule() + ".",
		SVG: f.svg("swept", "Operations a second of each stage by "+x.title, strings.Join(desc, "; "))}
}

// sweptAxis begins at 0, or, where the points span much, as those that double do, is
// logarithmic, with the points as its ticks.
func sweptAxis(property string, values []float64) axis {
	title := sweptTitles[property]
	lo, hi := slices.Min(values), slices.Max(values)
	switch {
	case property == "work":
		return linearAxis(title, hi, plainSpan)
	case property == "rate", lo == 0, hi < 8*lo:
		return linearAxis(title, hi, plain)
	}
	slices.Sort(values)
	return axis{title: title + " (logarithmic)", lo: lo, hi: hi, log: true, ticks: slices.Compact(values), label: plain}
}

// achievedFigure is the response time against the throughput that the stages achieved.
func achievedFigure(rep *Report) exhibit {
	var lines []series
	var times []float64
	var desc []string
	most := 0.0
	for i, stage := range rep.Stages {
		p50, p99 := series{style: i % styles, dashed: true}, series{name: stage, style: i % styles}
		for _, p := range sweptPoints(rep, stage) {
			ops, l := p.OpsPerSecond.Median, p.Latency
			if l.P50 <= 0 { // nothing was answered
				continue
			}
			p50.points = append(p50.points, [2]float64{ops, float64(l.P50)})
			p99.points = append(p99.points, [2]float64{ops, float64(l.P99)})
			times = append(times, float64(l.P50), float64(l.P99))
			most = max(most, ops)
			desc = append(desc, fmt.Sprintf("%s at %s: %s a second, p50 %s, p99 %s", stage, rep.Sweep.label(p.Point), text.Sig3(ops), text.Duration(l.P50), text.Duration(l.P99)))
		}
		lines = append(lines, p99, p50)
	}
	f := lineChart(linearAxis("operations a second, achieved", most, plain), logAxis("response time", times, plainSpan), lines)
	return exhibit{Title: "Response time and throughput",
		Caption: "A mark is a point of the sweep, and the line follows the swept property upwards. Solid: p99. Dashed: p50.",
		SVG:     f.svg("achieved", "Response time of each stage by what it achieved", strings.Join(desc, "; "))}
}
