// Package figure draws charts as SVG: rows with bars or dots, lines, a dot for each request,
// and lanes. A figure stands alone: it has its style, which is legible on white and on black, and
// a desc that says in words what it shows. A page can have rules of its own for its classes:
// s0 to s7 for series and rows, p0 to p5 for the shades of the parts of a row.
package figure

import (
	_ "embed"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lockstep/common/text"
)

// A figure is an SVG in the making. Its letters are large because a narrow phone shows it
// at two thirds of its size.
type figure struct {
	body   strings.Builder
	height float64
	desc   []string // what it shows, in words
}

const (
	width        = 520.0
	letterWidth  = 10.0 // on average, of a wide font: which one is the reader's choice
	letterHeight = 20.0
	maxName      = 18 // bytes of the name of a line

	Styles = 8  // the number of styles of series and rows
	Shades = 6  // the number of shades of a style, for the parts of a row
	Faint  = -1 // the style of a series that was not measured
)

// style is that of all figures. Its colours have a contrast of 3:1 at least, to white and to the
// black of dark pages.
//
//go:embed style.css
var style string

// svg returns the figure; "" if it shows nothing.
func (f *figure) svg(title string) string {
	if f.desc == nil {
		return ""
	}
	return fmt.Sprintf(`<svg width="%[1]s" height="%[2]s" viewBox="0 0 %[1]s %[2]s" role="img" xmlns="http://www.w3.org/2000/svg"><style>%[3]s</style><title>%[4]s</title><desc>%[5]s</desc>%[6]s</svg>`,
		number(width), number(f.height), style, html.EscapeString(title), html.EscapeString(strings.Join(f.desc, "; ")), f.body.String())
}

// legend writes names beside each other, in as many rows as they need, each behind what draw
// draws to the right of x and around y. It returns where it ends.
func (f *figure) legend(names []string, draw func(i int, x, y float64)) (bottom float64) {
	at, y := 0.0, 16.0
	for i, name := range names {
		if at > 0 && at+20+textWidth(name) > width {
			at, y = 0, y+24
		}
		draw(i, at, y-6)
		f.text("", at+20, y, name)
		at += 36 + textWidth(name)
	}
	return y + 10
}

func (f *figure) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&f.body, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, number(x1), number(y1), number(x2), number(y2))
}

// bar draws a horizontal bar around y.
func (f *figure) bar(class string, x1, x2, y float64) {
	fmt.Fprintf(&f.body, `<rect class="%s" x="%s" y="%s" width="%s" height="18"/>`, class, number(x1), number(y-9), number(max(x2-x1, 0)))
}

// text writes to the right of x, to the left of it (class end) or around it (class mid).
func (f *figure) text(class string, x, y float64, s string) {
	fmt.Fprintf(&f.body, `<text class="%s" x="%s" y="%s">%s</text>`, class, number(x), number(y), html.EscapeString(s))
}

func (f *figure) path(class string, points [][2]float64) {
	var list []string
	for _, p := range points {
		list = append(list, number(p[0])+","+number(p[1]))
	}
	fmt.Fprintf(&f.body, `<polyline class="%s" points="%s"/>`, class, strings.Join(list, " "))
}

// marks differ in shape for readers who do not see their colours.
var marks = [Styles]string{
	"M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z", "M-4,-4h8v8h-8z", "M0,-5l5,9h-10z", "M0,-5.5l5,5.5l-5,5.5l-5,-5.5z",
	"M-4,-4l8,8m0,-8l-8,8", "M0,5l5,-9h-10z", "M0,-5v10m-5,-5h10", "M-5,-2h10v4h-10z",
}

func (f *figure) mark(class string, of int, x, y float64) {
	if of != Faint {
		fmt.Fprintf(&f.body, `<path class="%s s%d" transform="translate(%s,%s)" d="%s"/>`, class, of, number(x), number(y), marks[of])
	}
}

// number writes a coordinate to a tenth.
func number(v float64) string { return strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64) }

func textWidth(s string) float64 { return letterWidth * float64(utf8.RuneCountInString(s)) }

// An Axis maps values to coordinates.
type Axis struct {
	Title    string // with the unit
	Lo, Hi   float64
	Log      bool
	Ticks    []float64
	Label    func(float64) string
	from, to float64 // the coordinates of Lo and Hi
}

// at returns the coordinate of v, or that of the nearer end if v is outside the axis.
func (a Axis) at(v float64) float64 {
	lo, hi := a.Lo, a.Hi
	if a.Log {
		v, lo, hi = math.Log(v), math.Log(lo), math.Log(hi)
	}
	share := (v - lo) / (hi - lo)
	if !(share > 0) {
		share = 0
	}
	return a.from + min(share, 1)*(a.to-a.from)
}

// absurd is larger than any measurement.
const absurd = 1e30

// LinearAxis returns an axis from 0 to a round number that is at least most.
func LinearAxis(title string, most float64, label func(float64) string) Axis {
	if !(most > 1/absurd && most < absurd) {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most))-1)
	for i := 0; most/step > 5; i++ { // 1, 2, 5, 10, ...
		step *= []float64{2, 2.5, 2}[i%3]
	}
	var ticks []float64
	for n := 0.0; n < math.Ceil(most/step-1e-9)+1; n++ {
		ticks = append(ticks, n*step)
	}
	return Axis{Title: title, Hi: ticks[len(ticks)-1], Ticks: ticks, Label: label}
}

// LogAxis returns a logarithmic axis around the values. Its ticks are 1, 2 and 5 times
// the powers of ten, or only the powers if those are many. It leaves out values that are
// not positive.
func LogAxis(title string, values []float64, label func(float64) string) Axis {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return !(v > 1/absurd && v < absurd) })
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

// logTicks returns steps times the powers of ten, from the last up to lo to the first from hi on.
func logTicks(lo, hi float64, steps ...float64) (ticks []float64) {
	const about = 1e-9 // the error of a power
	for e := math.Floor(math.Log10(lo)) - 1; e < math.Log10(hi)+2; e++ {
		for _, step := range steps {
			ticks = append(ticks, step*math.Pow(10, e))
		}
	}
	above := slices.IndexFunc(ticks, func(tick float64) bool { return tick > lo*(1+about) })
	last := slices.IndexFunc(ticks, func(tick float64) bool { return tick >= hi*(1-about) })
	return ticks[above-1 : max(above, last)+1]
}

// sweptTitles are the titles of axes, by property.
var sweptTitles = map[string]string{
	"c": "connections", "rate": "requests due a second", "batch": "operations in a request", "depth": "requests in flight on a connection",
	"keys": "keys", "value": "bytes in a value", "buckets": "buckets", "work": "time of an operation in the table",
	"workers": "workers", "queue": "requests that may wait",
}

// PropertyAxis returns an axis for the values of a swept property. It begins at 0, or is logarithmic
// if the values span a wide range, as they do if each is twice the one before.
func PropertyAxis(property string, values []float64) Axis {
	title, lo, hi := sweptTitles[property], slices.Min(append(values, math.Inf(1))), slices.Max(append(values, 0))
	switch {
	case property == "work":
		return LinearAxis(title, hi, Span)
	case property == "rate", lo == 0, hi < 8*lo:
		return LinearAxis(title, hi, Plain)
	}
	slices.Sort(values)
	return Axis{Title: title + " (logarithmic)", Lo: lo, Hi: hi, Log: true, Ticks: slices.Compact(values), Label: Plain}
}

// Plain writes a round number with all its digits and no more.
func Plain(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return text.Count(int64(v))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// Span writes a round number of nanoseconds with its unit.
func Span(ns float64) string {
	if ns == 0 {
		return "0"
	}
	units := []string{"ns", "µs", "ms", "s"}
	for ns >= 999.5 && len(units) > 1 {
		ns, units = ns/1000, units[1:]
	}
	return strconv.FormatFloat(ns, 'g', 3, 64) + " " + units[0]
}

// A Panel is a picture of concurrency: a lane for each client of one stage.
type Panel struct {
	Title string        `json:"stage"`
	Span  time.Duration `json:"span_ns"`
	Lanes [][]Stretch   `json:"lanes"` // one that the server does not serve is empty
}

// A Stretch is a time in which a lane did one thing.
type Stretch struct {
	Doing int           `json:"doing"` // an index of Doings
	From  time.Duration `json:"from_ns"`
	To    time.Duration `json:"to_ns"`
}

// Doings are what a lane can do.
var Doings = []string{"idle", "waiting for a worker", "waiting for a lock", "in the table", "writing the answer"}

// looks are how the SVG and the text show Doings: they differ in height, and not only in colour.
var looks = []struct {
	color  string
	height float64
	letter byte
}{{"#8a8a8a", 2, '.'}, {"#a371d9", 6, '-'}, {"#cf6a1c", 10, 'x'}, {"#2f7ed8", 18, '#'}, {"#3a9d5d", 14, '>'}}

// LanesSVG draws the panels above each other, over the same time; "" if there are none.
func LanesSVG(panels []Panel) string {
	const left, pitch = 84.0, 22.0
	f := new(figure)
	y := f.legend(Doings, func(i int, x, y float64) { f.look(i, x, x+14, y) }) + 4
	for _, p := range panels {
		x := Axis{Hi: float64(p.Span), from: left, to: width - 14}
		f.text("", 0, y+18, p.Title)
		y += 40
		top := y
		for n, lane := range p.Lanes {
			f.text("end", left-10, y+5, fmt.Sprintf("client %d", n+1))
			for _, s := range lane {
				f.look(s.Doing, x.at(float64(s.From)), x.at(float64(s.To)), y)
			}
			y += pitch
		}
		for ms := time.Duration(0); ms <= p.Span; ms += 4 * time.Millisecond {
			f.line("grid", x.at(float64(ms)), top-10, x.at(float64(ms)), y-8)
			f.text("mid", x.at(float64(ms)), y+10, fmt.Sprint(ms.Milliseconds()))
		}
		f.text("end", left-24, y+10, "ms")
		y += 24
		f.desc = append(f.desc, p.String())
	}
	f.height = y
	return f.svg("What each client's request was doing")
}

// look draws what a lane does as a bar around y.
func (f *figure) look(doing int, x1, x2, y float64) {
	l := looks[doing]
	fmt.Fprintf(&f.body, `<rect fill="%s" x="%s" y="%s" width="%s" height="%s"/>`, l.color, number(x1), number(y-l.height/2), number(max(x2-x1, 0.4)), number(l.height))
}

// Clients returns how many clients did each of Doings, on average over the time; one that is not
// served counts nowhere.
func (p Panel) Clients() []float64 {
	clients := make([]float64, len(Doings))
	for _, s := range slices.Concat(p.Lanes...) {
		clients[s.Doing] += float64(s.To-s.From) / float64(p.Span)
	}
	return clients
}

// String says the same in words.
func (p Panel) String() string {
	var words []string
	for i, n := range p.Clients() {
		if n >= 0.05 {
			words = append(words, fmt.Sprintf("%.1f %s", n, Doings[i]))
		}
	}
	return p.Title + ": " + strings.Join(words, ", ")
}

const inTable = 3 // of Doings

// Text draws the panel in this many columns of letters. A letter shows what took most of its time.
func (p Panel) Text(columns int) string {
	var b strings.Builder
	for n, lane := range p.Lanes {
		fmt.Fprintf(&b, "  client %-2d ", n+1)
		for c := range columns {
			from, to := p.Span*time.Duration(c)/time.Duration(columns), p.Span*time.Duration(c+1)/time.Duration(columns)
			letter, longest := byte(' '), time.Duration(0)
			for _, s := range lane {
				if d := min(to, s.To) - max(from, s.From); d > longest {
					letter, longest = looks[s.Doing].letter, d
				}
			}
			b.WriteByte(letter)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// LanesText draws the panels below each other, in columns of letters, with a legend.
func LanesText(panels []Panel) string {
	var legend []string
	for i, doing := range Doings {
		legend = append(legend, string(looks[i].letter)+" "+doing)
	}
	drawn := text.Wrap(strings.Join(legend, "  "), text.Columns)
	for _, p := range panels {
		drawn += fmt.Sprintf("\n%s: on average %.1f of %d clients in the table\n%s", p.Title, p.Clients()[inTable], len(p.Lanes), p.Text(64))
	}
	return drawn
}
