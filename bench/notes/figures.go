package notes

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/stats"
	"lockstep/common/client"
	"lockstep/common/text"
)

// figures draw an SVG from a report, by the KIND in the mark; "" if it lacks what they need.
var figures = map[string]struct {
	draw  func(*report.Report) string
	needs string
}{
	"dots":     {dots, "-samples"},
	"rate":     {rate, "-sweep rate"},
	"gain":     {gain, "-sweep work of two stages"},
	"ceilings": {ceilings, "-sweep c from c=1, and what the servers measure"},
	"ports":    {ports, "-conn per-request, and a system that tells TIME_WAIT"},
}

// draw returns the figure of a kind, "lanes" or one of figures.
func (d *data) draw(kind string) (svg string, err error) {
	f, known := figures[kind]
	switch {
	case d.err != nil:
		return "", d.err
	case kind == "lanes" && d.lanes != nil:
		return figure.LanesSVG(d.lanes), nil
	case kind == "lanes":
		f.needs = "bench lanes"
	case !known:
		return "", fmt.Errorf("there is no figure of the kind %q", kind)
	case d.report != nil:
		svg = f.draw(d.report)
	}
	if svg == "" {
		err = fmt.Errorf("%s: there is nothing to draw: the figure needs %s", d.name, f.needs)
	}
	return svg, err
}

// dots draws how long each request took that has a sample.
func dots(rep *report.Report) string {
	var clouds []figure.Cloud
	var times []float64
	length := float64(rep.Config.Workload.Duration)
	for _, stage := range rep.Stages {
		c := figure.Cloud{Name: shortName(stage), Dots: make([][][2]float64, 3)}
		for _, run := range rep.Runs {
			if run.Stage != stage || run.Round > 1 {
				continue
			}
			for _, s := range run.Samples {
				kind := slices.Index([]string{load.Answered, client.ErrBusy.Error(), s.Outcome}, s.Outcome)
				c.Dots[kind] = append(c.Dots[kind], [2]float64{float64(s.Due), float64(s.Done - s.Due)})
				times = append(times, float64(s.Done-s.Due))
			}
		}
		clouds = append(clouds, c)
	}
	return figure.Dots("How long each request took", figure.LinearAxis("when the request was due", length, figure.Span),
		figure.LogAxis("response time", times, figure.Span), clouds, "answered", "refused", "failed, or not answered")
}

// Curves have a line for each stage of a sweep, and the coordinates of all points.
type curves struct {
	lines  []figure.Series
	xs, ys []float64
}

// curvesOf returns what "of" says of each point of a sweep; nothing if another property was
// swept. Points without a value are left out. The style of a stage is the same in all figures.
func curvesOf(rep *report.Report, property string, of func(p report.Summary) stats.Interval) (s curves) {
	if rep.Sweep == nil || rep.Sweep.Property != property {
		return s
	}
	for _, stage := range rep.Stages {
		n, _ := strconv.Atoi(number(stage))
		line := figure.Series{Name: shortName(stage), Style: (n + figure.Styles - 1) % figure.Styles}
		for _, p := range rep.Points(stage) {
			if iv := of(p); iv.Median > 0 {
				line.Points = append(line.Points, [2]float64{rep.Sweep.Number(p.Point), iv.Median})
				line.Bars = append(line.Bars, [2]float64{iv.Low, iv.High})
				s.xs, s.ys = append(s.xs, rep.Sweep.Number(p.Point)), append(s.ys, iv.Low, iv.High)
				note := ""
				if property == "rate" && p.Refusals > 0 {
					note = fmt.Sprintf("%.0f %%", 100*float64(p.Refusals)/float64(p.Requests+p.Failed()))
				}
				line.Notes = append(line.Notes, note)
			}
		}
		if line.Points != nil {
			s.lines = append(s.lines, line)
		}
	}
	return s
}

// limit draws a dashed line to what cannot be exceeded, if there are others.
func (s *curves) limit(name string, x1, y1, x2, y2 float64) {
	if s.lines != nil {
		s.lines = append(s.lines, figure.Series{Name: name, Style: figure.Faint, Class: "dashed", Points: [][2]float64{{x1, y1}, {x2, y2}}})
	}
}

// rate draws the p99 over the rate at which requests are due, and the share of them that was refused.
func rate(rep *report.Report) string {
	s := curvesOf(rep, "rate", func(p report.Summary) stats.Interval { return p.P99 })
	x := figure.PropertyAxis("rate", s.xs)
	x.Title += " (%: refused)"
	return figure.Lines("p99 over the rate", x, figure.LogAxis("p99 of those answered", s.ys, figure.Span), s.lines)
}

// gain draws the throughput over the work, as a multiple of the first stage's.
func gain(rep *report.Report) string {
	s := curvesOf(rep, "work", func(p report.Summary) (iv stats.Interval) {
		if p.Ratio != nil {
			iv = p.Ratio.Interval
		}
		return iv
	})
	x, y := figure.PropertyAxis("work", s.xs), figure.LinearAxis("throughput, times that of "+shortName(rep.Stages[0]), slices.Max(append(s.ys, 1)), figure.Plain)
	s.limit("no gain", x.Lo, 1, x.Hi, 1)
	return figure.Lines("Gain over work", x, y, s.lines)
}

// ceilings draws the throughput over the connections N, and what limits it: the first stage's lock,
// held for S, its time in the table; the cores, by the CPU time that the last stage and the client
// need at the last point; and N requests in flight, each with the response time R of N=1.
func ceilings(rep *report.Report) string {
	first, last := report.Summary{}, report.Summary{}
	s := curvesOf(rep, "c", func(p report.Summary) stats.Interval {
		if p.Stage == rep.Stages[0] && p.Point == "1" {
			first = p
		}
		last = p
		return p.OpsPerSecond
	})
	lock, alone := 1/first.Where["table"].Seconds(), 1/first.Latency["mean"].Seconds()
	cores := float64(rep.Env.Cores) / (last.ServerCPUPerRequest + last.ClientCPUPerRequest) * 1e9
	if math.IsInf(lock+alone+cores, 1) {
		s.lines = nil
	}
	x, y := figure.PropertyAxis("c", s.xs), figure.LogAxis("operations a second", append(s.ys, lock, cores), figure.Plain)
	n := min(x.Hi, y.Hi/alone)
	s.limit("1 / S", x.Lo, lock, x.Hi, lock)
	s.limit("cores / CPU", x.Lo, cores, x.Hi, cores)
	s.limit("N / R", 1, alone, n, n*alone)
	return figure.Lines("Throughput and its ceilings", x, y, s.lines)
}

// ports draws how many requests were answered, with a connection each, in a second and in the last
// minute, and how many ports were in TIME_WAIT, which lasts a minute.
func ports(rep *report.Report) string {
	lines := []figure.Series{{Name: "in a second"}, {Name: "in a minute", Style: 1}, {Name: "in TIME_WAIT", Style: 2}}
	var ok []int64
	failed, most := int64(0), 0.0
	add := func(line int, n int64) {
		lines[line].Points = append(lines[line].Points, [2]float64{float64(len(ok)), float64(n)})
		most = max(most, float64(n))
	}
	for _, run := range rep.Runs {
		for _, n := range run.Series[:min(len(run.Series), int(run.Dur/time.Second))] {
			ok = append(ok, n)
			add(0, n)
			for _, earlier := range ok[max(len(ok)-60, 0) : len(ok)-1] {
				n += earlier
			}
			add(1, n)
		}
		if failed += run.FailedDials.Sum(); run.TimeWait > 0 {
			add(2, run.TimeWait)
		}
	}
	if len(ok) == 0 || lines[2].Points == nil {
		lines = nil
	}
	return figure.Lines("Ports over time", figure.LinearAxis("seconds; failed dials: "+text.Count(failed), float64(len(ok)), figure.Plain),
		figure.LinearAxis("requests answered, ports", most, figure.Plain), lines)
}
