package figure

import (
	"cmp"
	_ "embed"
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"lockstep/common/text"
)

// A figure is an SVG in the making. A narrow phone shows it at two thirds of its size,
// which is why it has few and large letters.
type Figure struct {
	Body   strings.Builder
	Height float64
}

const (
	FigureWidth  = 520.0
	LetterWidth  = 7.8 // of the figure's text, in the mean and not to its disadvantage
	LetterHeight = 17.0
	maxName      = 24 // letters, of a line
	Styles       = 8  // of series: colours and marks; the ninth has those of the first
)

// svg is the figure as an element of the page. Whoever cannot see it reads title and desc.
func (f *Figure) Svg(id, title, desc string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %s %s" role="img" aria-labelledby="%s-t %s-d" xmlns="http://www.w3.org/2000/svg">`+
		`<title id="%s-t">%s</title><desc id="%s-d">%s</desc>%s</svg>`,
		Num(FigureWidth), Num(f.Height), id, id, id, html.EscapeString(title), id, html.EscapeString(desc), f.Body.String()))
}

func (f *Figure) Line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&f.Body, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, Num(x1), Num(y1), Num(x2), Num(y2))
}

func (f *Figure) Rect(class string, x, y, width, height float64) {
	fmt.Fprintf(&f.Body, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, Num(x), Num(y), Num(max(width, 0)), Num(height))
}

// text writes from x on, or to the left of it (class end), or around it (class mid).
func (f *Figure) Text(class string, x, y float64, text string) {
	fmt.Fprintf(&f.Body, `<text class="%s" x="%s" y="%s">%s</text>`, class, Num(x), Num(y), html.EscapeString(text))
}

// path joins points.
func (f *Figure) Path(class string, points [][2]float64) {
	fmt.Fprintf(&f.Body, `<polyline class="%s" points="`, class)
	for i, p := range points {
		if i > 0 {
			f.Body.WriteByte(' ')
		}
		f.Body.WriteString(Num(p[0]) + "," + Num(p[1]))
	}
	f.Body.WriteString(`"/>`)
}

// The marks of the series, which differ in shape for who does not see their colours.
var marks = [Styles]string{
	"M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
	"M-4,-4h8v8h-8z",
	"M0,-5l5,9h-10z",
	"M0,-5.5l5,5.5l-5,5.5l-5,-5.5z",
	"M-4,-4l8,8m0,-8l-8,8",
	"M0,5l5,-9h-10z",
	"M0,-5v10m-5,-5h10",
	"M-5,-2h10v4h-10z",
}

func (f *Figure) mark(style int, x, y float64) {
	if style != Faint {
		fmt.Fprintf(&f.Body, `<path class="mark s%d" transform="translate(%s,%s)" d="%s"/>`, style, Num(x), Num(y), marks[style])
	}
}

// num is a coordinate to a tenth. What is no number must not break the page.
func Num(v float64) string {
	if math.IsNaN(v) || math.Abs(v) > 1e6 {
		v = 0
	}
	return strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64)
}

// width is about how wide a text is.
func Width(text string) float64 { return LetterWidth * float64(utf8.RuneCountInString(text)) }

// fit cuts out the middle of a text that has more than n letters.
func Fit(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	return string(r[:n/2]) + "…" + string(r[len(r)-(n-1)/2:])
}

// An axis maps values to places. Its ticks are at round numbers.
type Axis struct {
	Title    string // with the unit
	Lo, Hi   float64
	Log      bool
	Ticks    []float64
	Label    func(float64) string
	From, To float64 // where lo and hi lie
}

// at is where v lies; what is outside the axis lies at its nearer end.
func (a Axis) At(v float64) float64 {
	lo, hi := a.Lo, a.Hi
	if a.Log {
		v, lo, hi = math.Log(v), math.Log(lo), math.Log(hi)
	}
	share := (v - lo) / (hi - lo)
	if !(share > 0) {
		share = 0
	}
	return a.From + min(share, 1)*(a.To-a.From)
}

// linearAxis begins at 0 and ends at a tick, at or above most.
func LinearAxis(title string, most float64, label func(float64) string) Axis {
	if !(most > 0) || math.IsInf(most, 0) {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most))-1)
	for i := 0; most/step > 5; i++ { // 1, 2, 5, 10, ...
		step *= []float64{2, 2.5, 2}[i%3]
	}
	a := Axis{Title: title, Label: label}
	for n := 0.0; n < math.Ceil(most/step-1e-9)+1; n++ {
		a.Ticks = append(a.Ticks, n*step)
	}
	a.Hi = a.Ticks[len(a.Ticks)-1]
	return a
}

// logAxis begins and ends at ticks around the values: at 1, 2 and 5 times the powers of
// ten, or, if these are many, at the powers alone. Values that are not above 0 have no
// place on it.
func LogAxis(title string, values []float64, label func(float64) string) Axis {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return !(v > 0) || math.IsInf(v, 0) })
	if len(values) == 0 {
		values = []float64{1}
	}
	lo, hi := slices.Min(values), slices.Max(values)
	ticks := logTicks(lo, hi, 1, 2, 5)
	if len(ticks) > 8 {
		ticks = logTicks(lo, hi, 1)
	}
	return Axis{Title: title + " (logarithmic)", Lo: ticks[0], Hi: ticks[len(ticks)-1], Log: true, Ticks: ticks, Label: label}
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
type Row struct {
	Name, Value string
	Draw        func(f *Figure, x Axis, y float64)
}

// rowChart has rows above each other, and one axis for all. The legend, if there is one,
// names what a row is made of, class p0 first.
func RowChart(x Axis, rows []Row, legend ...string) *Figure {
	const pitch = 50.0
	x.From, x.To = 5, FigureWidth-28
	f, top, at := new(Figure), 0.0, x.From
	for i, name := range legend {
		f.Rect(fmt.Sprintf("part p%d", i), at, 4, 12, 12)
		f.Text("", at+17, 15, name)
		at += Width(name) + 36
		top = 26
	}
	f.Height = top + pitch*float64(len(rows)) + 52
	bottom := f.Height - 46
	for _, tick := range x.Ticks {
		f.Line("grid", x.At(tick), top+4, x.At(tick), bottom)
	}
	for i, r := range rows {
		y := top + pitch*float64(i)
		f.Text("", 0, y+LetterHeight, Fit(r.Name, 62-utf8.RuneCountInString(r.Value)))
		f.Text("end", FigureWidth, y+LetterHeight, r.Value)
		r.Draw(f, x, y+34)
	}
	f.XAxis(x, bottom)
	return f
}

// xAxis writes what stands below a chart: as many ticks as have room, and the title.
func (f *Figure) XAxis(x Axis, y float64) {
	f.Line("axis", x.From, y, x.To, y)
	free := math.Inf(-1)
	for _, tick := range x.Ticks {
		text := x.Label(tick)
		at, half := x.At(tick), Width(text)/2
		f.Line("axis", at, y, at, y+4)
		if at-half > free && at+half < FigureWidth+2 {
			f.Text("mid", at, y+LetterHeight+5, text)
			free = at + half + LetterWidth
		}
	}
	f.Text("mid axis-title", (x.From+x.To)/2, y+2*LetterHeight+6, x.Title)
}

const Faint = -1 // the style of what was not measured

// A series is a line of a chart.
type Series struct {
	Name   string // stands at its end; "": nothing does
	Style  int    // of the marks and the colour; faint: no marks
	Dashed bool
	Points [][2]float64
	Marked func(i int) bool // which points have a mark; nil: all
	Bars   [][2]float64     // at each point, an interval; or nil
}

// lineChart has lines, each with its name at its end.
func LineChart(x, y Axis, lines []Series) *Figure {
	const top = 30.0
	f := &Figure{Height: 350}
	names, ticks := 0.0, 0.0
	for _, s := range lines {
		names = max(names, Width(Fit(s.Name, maxName)))
	}
	for _, tick := range y.Ticks {
		ticks = max(ticks, Width(y.Label(tick)))
	}
	x.From, x.To = ticks+8, FigureWidth-names-28
	y.From, y.To = f.Height-48, top
	f.Text("axis-title", 0, 14, y.Title)
	for _, tick := range y.Ticks {
		f.Line("grid", x.From, y.At(tick), x.To, y.At(tick))
		f.Text("end", x.From-6, y.At(tick)+5, y.Label(tick))
	}
	f.XAxis(x, y.From)
	for _, s := range lines {
		f.series(x, y, s)
	}
	f.Names(x, y, lines)
	return f
}

func (f *Figure) series(x, y Axis, s Series) {
	class := fmt.Sprintf("line s%d", s.Style)
	if s.Dashed {
		class += " dashed"
	}
	var at [][2]float64
	for i, p := range s.Points {
		at = append(at, [2]float64{x.At(p[0]), y.At(p[1])})
		if s.Bars != nil {
			f.Line(fmt.Sprintf("bar s%d", s.Style), at[i][0], y.At(s.Bars[i][0]), at[i][0], y.At(s.Bars[i][1]))
		}
	}
	f.Path(class, at)
	for i, p := range at {
		if s.Marked == nil || s.Marked(i) {
			f.mark(s.Style, p[0], p[1])
		}
	}
}

// names writes the names of the lines beside their ends, and where these are close to
// each other, below each other.
func (f *Figure) Names(x, y Axis, lines []Series) {
	type end struct {
		Series
		x, y, to float64 // from where, and at which height the name stands
	}
	var ends []end
	for _, s := range lines {
		if n := len(s.Points); n > 0 && s.Name != "" {
			at := y.At(s.Points[n-1][1])
			ends = append(ends, end{s, x.At(s.Points[n-1][0]), at, at})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return cmp.Compare(a.y, b.y) })
	// Half way between where they come to stand if those in the way move down, and up; and
	// not below the chart.
	down, up, lowest := math.Inf(-1), math.Inf(1), y.From
	for i := range ends {
		down = max(ends[i].y, down+LetterHeight)
		ends[i].to = down / 2
	}
	for i := range slices.Backward(ends) {
		up = min(ends[i].y, up-LetterHeight)
		ends[i].to = min(ends[i].to+up/2, lowest)
		lowest = ends[i].to - LetterHeight
	}
	for _, e := range ends {
		f.Path(fmt.Sprintf("leader s%d", e.Style), [][2]float64{{e.x, e.y}, {x.To + 3, e.y}, {x.To + 15, e.to}})
		f.mark(e.Style, x.To+20, e.to)
		f.Text("", x.To+28, e.to+5, Fit(e.Name, maxName))
	}
}

// plain writes a tick: a round number without more digits than it has.
func Plain(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return text.Count(int64(v))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// plainSpan writes a tick that is a time in nanoseconds.
func PlainSpan(ns float64) string {
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
