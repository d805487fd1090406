package figure

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lockstep/common/text"
)

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

// Text draws the panel in so many columns of letters. A letter shows what took most of its time.
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
