package notes

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/stats"
	"lockstep/common/client"
	"lockstep/common/text"
)

// drawn returns the figure of an experiment, or, if there is nothing to draw, an error that says
// what the figure needs.
func drawn(d []data, svg, needs string) (string, error) {
	if svg == "" {
		return "", fmt.Errorf("%s: there is nothing to draw: the figure needs %s", d[0].name, needs)
	}
	return svg, nil
}

// style is that of a stage in all figures.
func style(stage string) int {
	return int((strings.TrimPrefix(stage, "stage") + "0")[0]-'1') % figure.Styles
}

// dots draws how long each request took that has a sample.
func dots(d []data) (string, error) {
	var clouds []figure.Cloud
	var times []float64
	rep, last := d[0].report, 0.0
	for _, stage := range rep.Stages {
		c := figure.Cloud{Name: stage, Dots: make([][][2]float64, 3)}
		for _, run := range rep.Runs {
			if run.Stage != stage || run.Round > 1 {
				continue
			}
			for _, s := range run.Samples {
				kind := slices.Index([]string{load.Answered, client.ErrBusy.Error(), s.Outcome}, s.Outcome)
				c.Dots[kind] = append(c.Dots[kind], [2]float64{float64(s.Due), float64(s.Done - s.Due)})
				times, last = append(times, float64(s.Done-s.Due)), max(last, float64(s.Due))
			}
		}
		clouds = append(clouds, c)
	}
	return drawn(d, figure.Dots("How long each request took", figure.LinearAxis("when the request was due", last, figure.Span),
		figure.LogAxis("response time", times, figure.Span), clouds, "answered", "refused", "failed, or not answered"), "-samples")
}

// A sweep has a line for each stage, and the coordinates of all that is drawn.
type sweep struct {
	lines  []figure.Series
	xs, ys []float64
}

// sweepOf returns what value says of each point of a sweep, with a note. It is empty if another
// property was swept. Points without a value are left out.
func sweepOf(rep *report.Report, property string, value func(p report.Summary) (iv stats.Interval, note string)) (s sweep) {
	if rep.Sweep == nil || rep.Sweep.Property != property {
		return s
	}
	for _, stage := range rep.Stages {
		line := figure.Series{Name: stage, Style: style(stage)}
		for _, p := range rep.Points(stage) {
			if iv, note := value(p); iv.Median > 0 {
				x := rep.Sweep.Number(p.Point)
				line.Points, line.Bars = append(line.Points, [2]float64{x, iv.Median}), append(line.Bars, [2]float64{iv.Low, iv.High})
				line.Notes = append(line.Notes, note)
				s.xs, s.ys = append(s.xs, x), append(s.ys, iv.Low, iv.High)
			}
		}
		s.lines = append(s.lines, line)
	}
	s.lines = slices.DeleteFunc(s.lines, func(line figure.Series) bool { return line.Points == nil })
	return s
}

// limit adds a dashed line.
func (s *sweep) limit(name string, points ...[2]float64) {
	s.lines = append(s.lines, figure.Series{Name: name, Style: figure.Faint, Class: "dashed", Points: points})
}

// rate draws the p99 over the rate at which requests are due, and the share of them that was refused.
func rate(d []data) (string, error) {
	s := sweepOf(d[0].report, "rate", func(p report.Summary) (iv stats.Interval, note string) {
		if p.Refusals > 0 {
			note = text.Sig3(100*float64(p.Refusals)/float64(p.Requests+p.Failed())) + " %"
		}
		return p.P99, note
	})
	x := figure.PropertyAxis("rate", s.xs)
	x.Title += " (%: refused)"
	return drawn(d, figure.Lines("p99 over the rate", x, figure.LogAxis("p99 of the answered", s.ys, figure.Span), s.lines), "-sweep rate")
}

// gain draws the throughput over the work, as a multiple of the first stage's.
func gain(d []data) (string, error) {
	s := sweepOf(d[0].report, "work", func(p report.Summary) (iv stats.Interval, note string) {
		if p.Ratio != nil {
			iv = p.Ratio.Interval
		}
		return iv, ""
	})
	x, y := figure.PropertyAxis("work", s.xs), figure.LinearAxis("throughput, times that of "+d[0].report.Stages[0], slices.Max(append(s.ys, 1)), figure.Plain)
	if s.lines != nil {
		s.limit("no gain", [2]float64{x.Lo, 1}, [2]float64{x.Hi, 1})
	}
	return drawn(d, figure.Lines("Gain over work", x, y, s.lines), "-sweep work of two stages")
}

// ceilings draws the throughput over the connections N, and what limits it: the first stage's lock,
// held for S, its time in the table; the cores, by the CPU time that the last stage and the client
// need at the last point; and N requests in flight, each with the response time R of N=1.
func ceilings(d []data) (string, error) {
	rep, first, last := d[0].report, report.Summary{}, report.Summary{}
	s := sweepOf(rep, "c", func(p report.Summary) (iv stats.Interval, note string) {
		if p.Stage == rep.Stages[0] && p.Point == "1" {
			first = p
		}
		last = p
		return p.OpsPerSecond, ""
	})
	lock, cores, alone := 1/first.Where["table"].Seconds(), 1e9*float64(rep.Env.Cores)/(last.ServerCPUPerRequest+last.ClientCPUPerRequest), 1/first.Latency["mean"].Seconds()
	if math.IsInf(lock+cores+alone, 0) {
		s = sweep{}
	}
	x, y := figure.PropertyAxis("c", s.xs), figure.LogAxis("operations a second", append(s.ys, lock, cores), figure.Plain)
	if s.lines != nil {
		s.limit("1 / S", [2]float64{x.Lo, lock}, [2]float64{x.Hi, lock})
		s.limit("cores / CPU", [2]float64{x.Lo, cores}, [2]float64{x.Hi, cores})
		n := min(x.Hi, y.Hi/alone)
		s.limit("N / R alone", [2]float64{1, alone}, [2]float64{n, n * alone})
	}
	return drawn(d, figure.Lines("Throughput and its ceilings", x, y, s.lines), "-sweep c from c=1, and the servers' times")
}

// ports draws how many requests with a connection each were answered, and how many ports they took:
// one stays in TIME_WAIT for a minute.
func ports(d []data) (string, error) {
	unmarked := func(int) bool { return false }
	answered := figure.Series{Name: "answered in a second", Marked: unmarked}
	minute := figure.Series{Name: "in a minute", Style: 1, Marked: unmarked}
	waiting := figure.Series{Name: "in TIME_WAIT", Style: 2}
	var series []int64
	failed, most := int64(0), 0.0
	for _, run := range d[0].report.Runs {
		for _, n := range run.Series[:min(len(run.Series), int(run.Dur/time.Second))] {
			series = append(series, n)
			sum := int64(0)
			for _, n := range series[max(len(series)-60, 0):] {
				sum += n
			}
			end := float64(len(series))
			answered.Points, minute.Points = append(answered.Points, [2]float64{end - 0.5, float64(n)}), append(minute.Points, [2]float64{end, float64(sum)})
			most = max(most, float64(sum))
		}
		if run.TimeWait > 0 {
			waiting.Points = append(waiting.Points, [2]float64{float64(len(series)), float64(run.TimeWait)})
		}
		most, failed = max(most, float64(run.TimeWait)), failed+run.FailedDials.Sum()
	}
	if waiting.Points == nil {
		return drawn(d, "", "-conn per-request, where TIME_WAIT is known")
	}
	return figure.Lines("Ports over time", figure.LinearAxis("seconds; failed dials: "+text.Count(failed), float64(len(series)), figure.Plain),
		figure.LinearAxis("requests, ports", most, figure.Plain), []figure.Series{answered, minute, waiting}), nil
}
