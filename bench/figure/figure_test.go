package figure

import (
	"html"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTicks(t *testing.T) {
	linear := func(most float64) Axis { return LinearAxis("", most, Plain) }
	log := func(values ...float64) Axis { return LogAxis("", values, Span) }
	unmeasured := []float64{0, 0.2, 0.4, 0.6, 0.8, 1}
	for i, test := range []struct {
		a    Axis
		want []float64
	}{
		{linear(8), []float64{0, 2, 4, 6, 8}},
		{linear(10), []float64{0, 2, 4, 6, 8, 10}},
		{linear(10.1), []float64{0, 5, 10, 15}},
		{linear(24_400), []float64{0, 5000, 10_000, 15_000, 20_000, 25_000}},
		{linear(26_000), []float64{0, 10_000, 20_000, 30_000}},
		{linear(0.3), []float64{0, 0.1, 0.2, 0.3}},
		{linear(100), []float64{0, 20, 40, 60, 80, 100}},
		{linear(0), unmeasured},
		{linear(math.NaN()), unmeasured},
		{linear(math.Inf(1)), unmeasured},
		{linear(5e-324), unmeasured},
		{linear(1e308), unmeasured},
		{log(130, 900), []float64{100, 200, 500, 1000}},
		{log(200, 500), []float64{200, 500}},
		{log(300), []float64{200, 500}},
		{log(1000), []float64{1000, 2000}},
		{log(0.03, 0.1), []float64{0.02, 0.05, 0.1}},
		{log(15, 70_000), []float64{10, 100, 1000, 10_000, 100_000}},
		{log(0, -3, math.NaN(), math.Inf(1), 12), []float64{10, 20}},
		{log(), []float64{1, 2}},
	} {
		a := test.a
		same := slices.EqualFunc(a.Ticks, test.want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*b })
		if !same || a.Lo != a.Ticks[0] || a.Hi != a.Ticks[len(a.Ticks)-1] || a.Log != strings.Contains(a.Title, "logarithmic") || a.Log != (a.Lo > 0) {
			t.Errorf("%d: the ticks are %v on %v..%v (%s), want %v", i, a.Ticks, a.Lo, a.Hi, a.Title, test.want)
		}
	}
}

func TestAxisAt(t *testing.T) {
	linear := Axis{Lo: 0, Hi: 10, from: 100, to: 200}
	log := Axis{Lo: 1, Hi: 100, Log: true, from: 200, to: 100} // upwards
	empty := Axis{Lo: 3, Hi: 3, from: 5, to: 6}
	for _, test := range []struct {
		a       Axis
		v, want float64
	}{
		{linear, 0, 100}, {linear, 5, 150}, {linear, 10, 200}, {linear, 11, 200}, {linear, -1, 100}, {linear, math.NaN(), 100}, {linear, math.Inf(1), 200},
		{log, 1, 200}, {log, 10, 150}, {log, 100, 100}, {log, 0, 200}, {log, -1, 200}, {log, math.Inf(1), 100},
		{empty, 3, 5},
	} {
		if got := test.a.at(test.v); !(math.Abs(got-test.want) < 1e-9) {
			t.Errorf("on %v..%v, %v is at %v, want %v", test.a.Lo, test.a.Hi, test.v, got, test.want)
		}
	}
}

func TestTickLabels(t *testing.T) {
	for _, test := range [][2]string{ // got and want
		{Plain(0), "0"}, {Plain(0.2), "0.2"}, {Plain(5), "5"}, {Plain(20_000), "20 000"}, {Plain(1e6), "1 000 000"}, {Plain(1e18), "1e+18"},
		{Span(0), "0"}, {Span(1), "1 ns"}, {Span(500), "500 ns"}, {Span(1000), "1 µs"}, {Span(2e6), "2 ms"}, {Span(1.5e6), "1.5 ms"}, {Span(1e9), "1 s"}, {Span(6e10), "60 s"},
		{number(-1.26), "-1.3"},
	} {
		if test[0] != test[1] {
			t.Errorf("%q is written for %q", test[0], test[1])
		}
	}
}

// Two clients of one lock, and one that is not served.
var staircase = Panel{Title: "stage <2>", Span: 16 * time.Millisecond, Lanes: [][]Stretch{
	{{inTable, 0, 8 * time.Millisecond}, {4, 8 * time.Millisecond, 10 * time.Millisecond}, {0, 10 * time.Millisecond, 16 * time.Millisecond}},
	{{2, 0, 8 * time.Millisecond}, {inTable, 8 * time.Millisecond, 16 * time.Millisecond}},
	nil,
}}

func TestLanesText(t *testing.T) {
	want := "  client 1  ####>...\n  client 2  xxxx####\n  client 3          \n"
	if got := staircase.Text(8); got != want {
		t.Errorf("drawn as\n%s\nwant\n%s", got, want)
	}
	want = "stage <2>: 0.4 idle, 0.5 waiting for a lock, 1.0 in the table, 0.1 writing the answer"
	if got := staircase.String(); got != want {
		t.Errorf("said as %q, want %q", got, want)
	}
	if got, want := LanesText([]Panel{staircase}), "\nstage <2>: on average 1.0 of 3 clients in the table\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	for i, doing := range Doings {
		if want := string(looks[i].letter) + " " + doing; !strings.Contains(strings.Join(strings.Fields(LanesText(nil)), " "), want) {
			t.Errorf("the legend lacks %q", want)
		}
		for j := range i {
			if looks[i].letter == looks[j].letter || looks[i].height == looks[j].height || looks[i].color == looks[j].color {
				t.Errorf("%q and %q look alike", doing, Doings[j])
			}
		}
	}
}

// The SVG stands alone: see check, and says what it shows.
func TestLanesSVG(t *testing.T) {
	svg := LanesSVG([]Panel{staircase, staircase})
	check(t, svg)
	for _, want := range []string{"<svg width=\"520\" height=\"", "<desc>" + html.EscapeString(staircase.String()), ">client 3</text>", "<rect fill=\"" + looks[inTable].color + "\" x=\"295\""} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in %s", want, svg)
		}
	}
	if bars := strings.Count(svg, "<rect"); bars != len(Doings)+2*5 {
		t.Errorf("%d bars, want 5 of each panel and those of the legend", bars)
	}
}
