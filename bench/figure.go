package main

import (
	"cmp"
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A figure is an SVG in the making. A narrow phone shows it at two thirds of its size,
// which is why it has few and large letters.
type figure struct {
	body   strings.Builder
	height float64
}

const (
	figureWidth  = 520.0
	letterWidth  = 7.8 // of the figure's text, in the mean and not to its disadvantage
	letterHeight = 17.0
	maxName      = 24 // letters, of a line
	styles       = 8  // of series: colours and marks; the ninth has those of the first
)

// svg is the figure as an element of the page. Whoever cannot see it reads title and desc.
func (f *figure) svg(id, title, desc string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %s %s" role="img" aria-labelledby="%s-t %s-d" xmlns="http://www.w3.org/2000/svg">`+
		`<title id="%s-t">%s</title><desc id="%s-d">%s</desc>%s</svg>`,
		num(figureWidth), num(f.height), id, id, id, html.EscapeString(title), id, html.EscapeString(desc), f.body.String()))
}

func (f *figure) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&f.body, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, num(x1), num(y1), num(x2), num(y2))
}

func (f *figure) rect(class string, x, y, width, height float64) {
	fmt.Fprintf(&f.body, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, num(x), num(y), num(max(width, 0)), num(height))
}

// text writes from x on, or to the left of it (class end), or around it (class mid).
func (f *figure) text(class string, x, y float64, text string) {
	fmt.Fprintf(&f.body, `<text class="%s" x="%s" y="%s">%s</text>`, class, num(x), num(y), html.EscapeString(text))
}

// path joins points.
func (f *figure) path(class string, points [][2]float64) {
	fmt.Fprintf(&f.body, `<polyline class="%s" points="`, class)
	for i, p := range points {
		if i > 0 {
			f.body.WriteByte(' ')
		}
		f.body.WriteString(num(p[0]) + "," + num(p[1]))
	}
	f.body.WriteString(`"/>`)
}

// The marks of the series, which differ in shape for who does not see their colours.
var marks = [styles]string{
	"M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
	"M-4,-4h8v8h-8z",
	"M0,-5l5,9h-10z",
	"M0,-5.5l5,5.5l-5,5.5l-5,-5.5z",
	"M-4,-4l8,8m0,-8l-8,8",
	"M0,5l5,-9h-10z",
	"M0,-5v10m-5,-5h10",
	"M-5,-2h10v4h-10z",
}

func (f *figure) mark(style int, x, y float64) {
	if style != faint {
		fmt.Fprintf(&f.body, `<path class="mark s%d" transform="translate(%s,%s)" d="%s"/>`, style, num(x), num(y), marks[style])
	}
}

// num is a coordinate to a tenth. What is no number must not break the page.
func num(v float64) string {
	if math.IsNaN(v) || math.Abs(v) > 1e6 {
		v = 0
	}
	return strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64)
}

// width is about how wide a text is.
func width(text string) float64 { return letterWidth * float64(utf8.RuneCountInString(text)) }

// fit cuts out the middle of a text that has more than n letters.
func fit(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	return string(r[:n/2]) + "…" + string(r[len(r)-(n-1)/2:])
}

// An axis maps values to places. Its ticks are at round numbers.
type axis struct {
	title    string // with the unit
	lo, hi   float64
	log      bool
	ticks    []float64
	label    func(float64) string
	from, to float64 // where lo and hi lie
}

// at is where v lies; what is outside the axis lies at its nearer end.
func (a axis) at(v float64) float64 {
	lo, hi := a.lo, a.hi
	if a.log {
		v, lo, hi = math.Log(v), math.Log(lo), math.Log(hi)
	}
	share := (v - lo) / (hi - lo)
	if !(share > 0) {
		share = 0
	}
	return a.from + min(share, 1)*(a.to-a.from)
}

// linearAxis begins at 0 and ends at a tick, at or above most.
func linearAxis(title string, most float64, label func(float64) string) axis {
	if !(most > 0) || math.IsInf(most, 0) {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most))-1)
	for i := 0; most/step > 5; i++ { // 1, 2, 5, 10, ...
		step *= []float64{2, 2.5, 2}[i%3]
	}
	a := axis{title: title, label: label}
	for n := 0.0; n < math.Ceil(most/step-1e-9)+1; n++ {
		a.ticks = append(a.ticks, n*step)
	}
	a.hi = a.ticks[len(a.ticks)-1]
	return a
}

// logAxis begins and ends at ticks around the values: at 1, 2 and 5 times the powers of
// ten, or, if these are many, at the powers alone. Values that are not above 0 have no
// place on it.
func logAxis(title string, values []float64, label func(float64) string) axis {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return !(v > 0) || math.IsInf(v, 0) })
	if len(values) == 0 {
		values = []float64{1}
	}
	lo, hi := slices.Min(values), slices.Max(values)
	ticks := logTicks(lo, hi, 1, 2, 5)
	if len(ticks) > 8 {
		ticks = logTicks(lo, hi, 1)
	}
	return axis{title: title + " (logarithmic)", lo: ticks[0], hi: ticks[len(ticks)-1], log: true, ticks: ticks, label: label}
}

func logTicks(lo, hi float64, steps ...float64) (ticks []float64) {
	const about = 1e-9 // what a power may be off by
	for e := math.Floor(math.Log10(lo) + about); ; e++ {
		for _, step := range steps {
			tick := step * math.Pow(10, e)
			if len(ticks) > 0 && tick <= lo*(1+about) {
				ticks = ticks[:0]
			}
			ticks = append(ticks, tick)
			if len(ticks) > 1 && tick >= hi*(1-about) {
				return ticks
			}
		}
	}
}

// A row of a chart of bars: its name and what it comes to above, and what draw draws
// below, around y.
type row struct {
	name, value string
	draw        func(f *figure, x axis, y float64)
}

// rowChart has rows above each other, and one axis for all. The legend, if there is one,
// names what a row is made of, class p0 first.
func rowChart(x axis, rows []row, legend ...string) *figure {
	const pitch = 50.0
	x.from, x.to = 5, figureWidth-28
	f, top, at := new(figure), 0.0, x.from
	for i, name := range legend {
		f.rect(fmt.Sprintf("part p%d", i), at, 4, 12, 12)
		f.text("", at+17, 15, name)
		at += width(name) + 36
		top = 26
	}
	f.height = top + pitch*float64(len(rows)) + 52
	bottom := f.height - 46
	for _, tick := range x.ticks {
		f.line("grid", x.at(tick), top+4, x.at(tick), bottom)
	}
	for i, r := range rows {
		y := top + pitch*float64(i)
		f.text("", 0, y+letterHeight, fit(r.name, 62-utf8.RuneCountInString(r.value)))
		f.text("end", figureWidth, y+letterHeight, r.value)
		r.draw(f, x, y+34)
	}
	f.xAxis(x, bottom)
	return f
}

// xAxis writes what stands below a chart: as many ticks as have room, and the title.
func (f *figure) xAxis(x axis, y float64) {
	f.line("axis", x.from, y, x.to, y)
	free := math.Inf(-1)
	for _, tick := range x.ticks {
		text := x.label(tick)
		at, half := x.at(tick), width(text)/2
		f.line("axis", at, y, at, y+4)
		if at-half > free && at+half < figureWidth+2 {
			f.text("mid", at, y+letterHeight+5, text)
			free = at + half + letterWidth
		}
	}
	f.text("mid axis-title", (x.from+x.to)/2, y+2*letterHeight+6, x.title)
}

const faint = -1 // the style of what was not measured

// A series is a line of a chart.
type series struct {
	name   string // stands at its end; "": nothing does
	style  int    // of the marks and the colour; faint: no marks
	dashed bool
	points [][2]float64
	marked func(i int) bool // which points have a mark; nil: all
	bars   [][2]float64     // at each point, an interval; or nil
}

// lineChart has lines, each with its name at its end.
func lineChart(x, y axis, lines []series) *figure {
	const top = 30.0
	f := &figure{height: 350}
	names, ticks := 0.0, 0.0
	for _, s := range lines {
		names = max(names, width(fit(s.name, maxName)))
	}
	for _, tick := range y.ticks {
		ticks = max(ticks, width(y.label(tick)))
	}
	x.from, x.to = ticks+8, figureWidth-names-28
	y.from, y.to = f.height-48, top
	f.text("axis-title", 0, 14, y.title)
	for _, tick := range y.ticks {
		f.line("grid", x.from, y.at(tick), x.to, y.at(tick))
		f.text("end", x.from-6, y.at(tick)+5, y.label(tick))
	}
	f.xAxis(x, y.from)
	for _, s := range lines {
		f.series(x, y, s)
	}
	f.names(x, y, lines)
	return f
}

func (f *figure) series(x, y axis, s series) {
	class := fmt.Sprintf("line s%d", s.style)
	if s.dashed {
		class += " dashed"
	}
	var at [][2]float64
	for i, p := range s.points {
		at = append(at, [2]float64{x.at(p[0]), y.at(p[1])})
		if s.bars != nil {
			f.line(fmt.Sprintf("bar s%d", s.style), at[i][0], y.at(s.bars[i][0]), at[i][0], y.at(s.bars[i][1]))
		}
	}
	f.path(class, at)
	for i, p := range at {
		if s.marked == nil || s.marked(i) {
			f.mark(s.style, p[0], p[1])
		}
	}
}

// names writes the names of the lines beside their ends, and where these are close to
// each other, below each other.
func (f *figure) names(x, y axis, lines []series) {
	type end struct {
		series
		x, y, to float64 // from where, and at which height the name stands
	}
	var ends []end
	for _, s := range lines {
		if n := len(s.points); n > 0 && s.name != "" {
			at := y.at(s.points[n-1][1])
			ends = append(ends, end{s, x.at(s.points[n-1][0]), at, at})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return cmp.Compare(a.y, b.y) })
	// Half way between where they come to stand if those in the way move down, and up; and
	// not below the chart.
	down, up, lowest := math.Inf(-1), math.Inf(1), y.from
	for i := range ends {
		down = max(ends[i].y, down+letterHeight)
		ends[i].to = down / 2
	}
	for i := range slices.Backward(ends) {
		up = min(ends[i].y, up-letterHeight)
		ends[i].to = min(ends[i].to+up/2, lowest)
		lowest = ends[i].to - letterHeight
	}
	for _, e := range ends {
		f.path(fmt.Sprintf("leader s%d", e.style), [][2]float64{{e.x, e.y}, {x.to + 3, e.y}, {x.to + 15, e.to}})
		f.mark(e.style, x.to+20, e.to)
		f.text("", x.to+28, e.to+5, fit(e.name, maxName))
	}
}
