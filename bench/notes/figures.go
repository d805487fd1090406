package notes

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/text"
)

// figures draw an SVG of what was measured, by the KIND in the mark; "" if it lacks what they need.
var figures = map[string]struct {
	draw  func(*data) string
	needs string
}{
	"lanes":    {func(d *data) string { return figure.LanesSVG(d.lanes) }, "bench lanes"},
	"dots":     {dots, "-samples"},
	"rate":     {rate, "-sweep rate"},
	"gain":     {gain, "-sweep work of two stages"},
	"ceilings": {ceilings, "-sweep c from c=1, and what the servers measure"},
	"ports":    {ports, "-conn per-request, and a system that tells TIME_WAIT"},
}

// draw returns the figure of a kind.
func (d *data) draw(kind string) (string, error) {
	f, known := figures[kind]
	if !known || d.err != nil {
		return "", cmp.Or(d.err, fmt.Errorf("there is no figure of the kind %q", kind))
	}
	svg := f.draw(d)
	if svg == "" {
		return "", fmt.Errorf("%s: there is nothing to draw: the figure needs %s", d.name, f.needs)
	}
	return svg, nil
}

// dots draws how long each request took that has a sample.
func dots(d *data) string {
	var clouds []figure.Cloud
	var times []float64
	for _, stage := range d.report.Stages {
		c := figure.Cloud{Name: shortName(stage), Dots: make([][][2]float64, 3)}
		for _, run := range d.report.Runs {
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
	x := figure.LinearAxis("when the request was due", float64(d.report.Config.Workload.Duration), figure.Span)
	return figure.Dots("How long each request took", x, figure.LogAxis("response time", times, figure.Span), clouds, "answered", "refused", "failed, or not answered")
}

// curves are a line for each stage of a sweep, and the coordinates of all points.
type curves struct {
	lines  []figure.Series
	xs, ys []float64
}

// swept returns a column of a sweep; nothing if another property was swept. Points without a
// value are left out. The style of a stage is the same in all figures.
func (d *data) swept(property, column string) (c curves) {
	sweep := d.report.Sweep
	if sweep == nil || sweep.Property != property {
		return c
	}
	for _, stage := range d.report.Stages {
		n, _ := strconv.Atoi(number(stage))
		line := figure.Series{Name: shortName(stage), Style: (n + figure.Styles - 1) % figure.Styles}
		for _, p := range d.report.Points(stage) {
			v, err := d.value(d.rowName(stage, p.Point), column)
			if err != nil || v.Median <= 0 {
				continue
			}
			x, note := sweep.Number(p.Point), ""
			if property == "rate" && p.Refusals > 0 {
				note = fmt.Sprintf("%.0f %%", 100*float64(p.Refusals)/float64(p.Requests+p.Failed()))
			}
			line.Points = append(line.Points, [2]float64{x, v.Median})
			line.Bars = append(line.Bars, [2]float64{v.Low, v.High})
			line.Notes = append(line.Notes, note)
			c.xs, c.ys = append(c.xs, x), append(c.ys, v.Low, v.High)
		}
		if line.Points != nil {
			c.lines = append(c.lines, line)
		}
	}
	return c
}

// limit draws a dashed line to what cannot be exceeded, if there are others.
func (c *curves) limit(name string, x1, y1, x2, y2 float64) {
	if c.lines != nil {
		c.lines = append(c.lines, figure.Series{Name: name, Style: figure.Faint, Class: "dashed", Points: [][2]float64{{x1, y1}, {x2, y2}}})
	}
}

// rate draws the p99 over the rate at which requests are due, and the share of them that was refused.
func rate(d *data) string {
	c := d.swept("rate", "p99")
	x := figure.PropertyAxis("rate", c.xs)
	x.Title += " (%: refused)"
	return figure.Lines("p99 over the rate", x, figure.LogAxis("p99 of those answered", c.ys, figure.Span), c.lines)
}

// gain draws the throughput over the work, as a multiple of the first stage's.
func gain(d *data) string {
	c := d.swept("work", "ratio")
	x, y := figure.PropertyAxis("work", c.xs), figure.LinearAxis("throughput, times that of the first stage", slices.Max(append(c.ys, 1)), figure.Plain)
	c.limit("no gain", x.Lo, 1, x.Hi, 1)
	return figure.Lines("Gain over work", x, y, c.lines)
}

// ceilings draws the throughput over the connections N, and what limits it: the first stage's lock,
// held for S, its time in the table; the cores, by the CPU time that the last stage and the client
// need at the last point; and N requests in flight, each with the response time R of N=1.
func ceilings(d *data) string {
	c := d.swept("c", "ops")
	if c.lines == nil {
		return ""
	}
	perSecond := func(name string, columns ...string) float64 {
		sum := 0.0
		for _, column := range columns {
			v, _ := d.value(name, column)
			sum += v.Median
		}
		return 1e9 / sum
	}
	first := d.rowName(d.report.Stages[0], "1")
	lock, alone, cores := perSecond(first, "table"), perSecond(first, "mean"), float64(d.report.Env.Cores)*perSecond("", "server_cpu", "client_cpu")
	if math.IsInf(lock+alone+cores, 1) {
		return ""
	}
	x, y := figure.PropertyAxis("c", c.xs), figure.LogAxis("operations a second", append(c.ys, lock, cores), figure.Plain)
	n := min(x.Hi, y.Hi/alone)
	c.limit("1 / S", x.Lo, lock, x.Hi, lock)
	c.limit("cores / CPU", x.Lo, cores, x.Hi, cores)
	c.limit("N / R", 1, alone, n, n*alone)
	return figure.Lines("Throughput and its ceilings", x, y, c.lines)
}

// ports draws how many requests were answered, with a connection each, in a second and in the last
// minute, and how many ports were in TIME_WAIT, which lasts a minute.
func ports(d *data) string {
	lines := []figure.Series{{Name: "in a second"}, {Name: "in a minute", Style: 1}, {Name: "in TIME_WAIT", Style: 2}}
	var ok []int64
	failed, most := int64(0), 0.0
	add := func(line int, n int64) {
		lines[line].Points = append(lines[line].Points, [2]float64{float64(len(ok)), float64(n)})
		most = max(most, float64(n))
	}
	for _, run := range d.report.Runs {
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
