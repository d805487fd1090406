package figure

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"lockstep/common/text"
)

// A Row is a bar of parts, or dots with their median and its interval.
type Row struct {
	Name, Value       string // stand above it
	Style             int    // 0 to Styles-1
	Parts             []float64
	Dots              []float64
	Low, Median, High float64 // of the dots
}

// Rows draws rows above each other over one axis; "" if there are none. The names are
// those of the parts.
func Rows(title string, x Axis, rows []Row, names ...string) string {
	const pitch = 54.0
	x.from, x.to = 5, width-28
	f, top := new(figure), 0.0
	if len(names) > 0 {
		top = f.legend(names, func(i int, x, y float64) { f.bar(fmt.Sprintf("part p%d", i%Shades), x, x+14, y) })
	}
	bottom := top + pitch*float64(len(rows)) + 6
	f.height = bottom + below
	for _, tick := range x.Ticks {
		f.line("grid", x.at(tick), top+4, x.at(tick), bottom)
	}
	for i, r := range rows {
		y := top + pitch*float64(i)
		f.text("", 0, y+letterHeight, text.Quote(r.Name, 50-len(r.Value)))
		f.text("end", width, y+letterHeight, r.Value)
		f.desc = append(f.desc, r.Name+": "+r.Value+f.row(x, y+37, r, names))
	}
	f.xAxis(x, bottom)
	return f.svg(title)
}

// row draws the dots or the parts of a row around y, and returns the parts in words.
func (f *figure) row(x Axis, y float64, r Row, names []string) (desc string) {
	class := fmt.Sprintf("s%d", r.Style)
	if len(r.Dots) > 1 {
		f.bar("band "+class, x.at(r.Low), x.at(r.High), y)
	}
	if len(r.Dots) > 0 {
		f.line("median "+class, x.at(r.Median), y-11, x.at(r.Median), y+11)
	}
	for i, v := range r.Dots { // the first at the top
		fmt.Fprintf(&f.body, `<circle class="dot %s" cx="%s" cy="%s" r="3"/>`, class, number(x.at(v)), number(y-7+14*(float64(i)+0.5)/float64(len(r.Dots))))
	}
	at := 0.0
	for i, v := range r.Parts {
		left, right := x.at(at), x.at(at+v)
		f.bar(fmt.Sprintf("part p%d %s", i%Shades, class), left, right, y)
		if right-left > textWidth(names[i])+6 {
			f.text("mid on", (left+right)/2, y+5, names[i])
		}
		desc += ", " + names[i] + " " + x.Label(v)
		at += v
	}
	return desc
}

// below is the height of xAxis.
const below = 2*letterHeight + 14

// axes draws the axes of a chart, which has this room, and its grid.
func (f *figure) axes(x, y *Axis, top, bottom, right float64) {
	ticks := 0.0
	for _, tick := range y.Ticks {
		ticks = max(ticks, textWidth(y.Label(tick)))
	}
	x.from, x.to = ticks+8, right
	y.from, y.to = bottom-below, top+44
	f.text("axis-title", 0, top+14, y.Title)
	for _, tick := range y.Ticks {
		f.line("grid", x.from, y.at(tick), x.to, y.at(tick))
		f.text("end", x.from-6, y.at(tick)+5, y.Label(tick))
	}
	f.xAxis(*x, y.from)
}

// xAxis draws what stands below a chart: as many labels as have room, and the title.
func (f *figure) xAxis(x Axis, y float64) {
	f.line("axis", x.from, y, x.to, y)
	free := math.Inf(-1)
	for _, tick := range x.Ticks {
		label := x.Label(tick)
		at, half := x.at(tick), textWidth(label)/2
		f.line("axis", at, y, at, y+4)
		if at-half > free && at+half < width+2 {
			f.text("mid", at, y+letterHeight+5, label)
			free = at + half + letterWidth
		}
	}
	f.text("mid axis-title", (x.from+x.to)/2, y+2*letterHeight+6, x.Title)
}

// A Series is a line of a chart.
type Series struct {
	Name   string // stands at its end; "": nothing does
	Style  int    // 0 to Styles-1, or Faint
	Class  string // "dashed", "thin", without marks, or ""
	Points [][2]float64
	Bars   [][2]float64 // an interval for each point, or nil
	Notes  []string     // stand beside the points, or nil; the mark of a point with a note is open
}

// Lines draws lines, each with its name at its end; "" if they have no points.
func Lines(title string, x, y Axis, lines []Series) string {
	lines = slices.DeleteFunc(slices.Clone(lines), func(s Series) bool { return len(s.Points) == 0 })
	f := &figure{height: 370}
	names := 0.0
	for _, s := range lines {
		names = max(names, textWidth(text.Quote(s.Name, maxName)))
	}
	f.axes(&x, &y, 0, f.height, width-names-28)
	for _, s := range lines {
		if told := f.series(x, y, s); s.Name != "" || told != nil {
			f.desc = append(f.desc, cmp.Or(s.Name, s.Class)+": "+strings.Join(told, ", "))
		}
	}
	f.names(x, y, lines)
	return f.svg(title)
}

// series draws a line, and returns what is at its marks in words.
func (f *figure) series(x, y Axis, s Series) (told []string) {
	class := fmt.Sprintf("s%d", s.Style)
	var at [][2]float64
	for _, p := range s.Points {
		at = append(at, [2]float64{x.at(p[0]), y.at(p[1])})
	}
	for i, bar := range s.Bars {
		f.line("bar "+class, at[i][0], y.at(bar[0]), at[i][0], y.at(bar[1]))
	}
	f.path(strings.TrimSpace("line "+s.Class)+" "+class, at)
	if s.Class == "thin" {
		return nil
	}
	free := 0.0 // for notes, to the right of here
	for i, p := range s.Points {
		class, words := "mark", x.Label(p[0])+" "+y.Label(p[1])
		if i < len(s.Notes) && s.Notes[i] != "" {
			class, words = "mark open", words+" ("+s.Notes[i]+")"
			if half := textWidth(s.Notes[i]) / 2; at[i][0]-half >= free {
				f.text("mid", at[i][0], at[i][1]-10, s.Notes[i])
				free = at[i][0] + half
			}
		}
		f.mark(class, s.Style, at[i][0], at[i][1])
		told = append(told, words)
	}
	return told
}

// A Cloud is a chart of requests.
type Cloud struct {
	Name string
	Dots [][][2]float64 // by kind
}

// dots are the marks of Cloud.Dots by kind, small enough for thousands: a point, a cross, a
// triangle.
var dots = []string{"h0", "m-2.5,-2.5l5,5m0,-5l-5,5", "m-3,2.5h6l-3,-5.5z"}

// Dots draws clouds below each other over the same axes, with a mark for each request; "" if
// there are no requests. The kinds of requests, three at most, have these names.
func Dots(title string, x, y Axis, clouds []Cloud, kinds ...string) string {
	const pitch = 240.0
	f := new(figure)
	f.height = f.legend(kinds, func(i int, x, y float64) { f.dots(i, "M"+number(x+8)+","+number(y)) })
	for _, c := range clouds {
		f.axes(&x, &y, f.height, f.height+pitch, width-14)
		f.text("end", width, f.height+14, text.Quote(c.Name, maxName))
		f.height += pitch
		for i, points := range c.Dots {
			if len(points) == 0 {
				continue
			}
			var at []string
			lo, hi := math.Inf(1), math.Inf(-1)
			for _, p := range points {
				at = append(at, "M"+number(x.at(p[0]))+","+number(y.at(p[1])))
				lo, hi = min(lo, p[1]), max(hi, p[1])
			}
			f.dots(i, at...)
			f.desc = append(f.desc, fmt.Sprintf("%s: %s %s, %s to %s", c.Name, text.Count(int64(len(points))), kinds[i], y.Label(lo), y.Label(hi)))
		}
	}
	return f.svg(title)
}

// dots draws marks where paths begin.
func (f *figure) dots(kind int, at ...string) {
	fmt.Fprintf(&f.body, `<path class="dots d%d s%d" d="%s"/>`, kind, kind, strings.Join(at, dots[kind])+dots[kind])
}

// names writes the names of the lines beside their ends. Where these are close to each
// other, the names stand below each other.
func (f *figure) names(x, y Axis, lines []Series) {
	type end struct {
		Series
		x, y, to float64 // the end, and the height of the name
	}
	var ends []end
	for _, s := range lines {
		if last := s.Points[len(s.Points)-1]; s.Name != "" {
			ends = append(ends, end{Series: s, x: x.at(last[0]), y: y.at(last[1])})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return cmp.Compare(a.y, b.y) })
	// Names in the way move down, and up again where the chart ends.
	highest, lowest := y.to, y.from
	for i := range ends {
		ends[i].to = max(ends[i].y, highest)
		highest = ends[i].to + letterHeight
	}
	for i := range slices.Backward(ends) {
		ends[i].to = min(ends[i].to, lowest)
		lowest = ends[i].to - letterHeight
	}
	for _, e := range ends {
		f.path(fmt.Sprintf("leader s%d", e.Style), [][2]float64{{e.x, e.y}, {x.to + 3, e.y}, {x.to + 15, e.to}})
		f.mark("mark", e.Style, x.to+20, e.to)
		f.text("", x.to+28, e.to+5, text.Quote(e.Name, maxName))
	}
}
