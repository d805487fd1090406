package figure

import (
	"encoding/xml"
	"fmt"
	"html"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTicks(t *testing.T) {
	linear := func(most float64) Axis { return LinearAxis("", most, Plain) }
	log := func(values ...float64) Axis { return LogAxis("", values, Span) }
	for want, axes := range map[string][]Axis{
		"[0 2 4 6 8]":                      {linear(8)},
		"[0 5 10 15]":                      {linear(10.1)},
		"[0 5000 10000 15000 20000 25000]": {linear(24_400)},
		"[0 0.1 0.2 0.3]":                  {linear(0.3)},
		"[0 0.2 0.4 0.6 0.8 1]":            {linear(0), linear(math.NaN()), linear(math.Inf(1)), linear(5e-324), linear(1e308)},
		"[100 200 500 1000]":               {log(130, 900)},
		"[200 500]":                        {log(200, 500), log(300)},
		"[0.02 0.05 0.1]":                  {log(0.03, 0.1)},
		"[10 100 1000 10000 100000]":       {log(15, 70_000)},
		"[10 20]":                          {log(0, -3, math.NaN(), math.Inf(1), 12)},
		"[1 2]":                            {log()},
	} {
		for i, a := range axes {
			ends := a.Lo == a.Ticks[0] && a.Hi == a.Ticks[len(a.Ticks)-1]
			fits := a.Log == (a.Lo > 0) && a.Log == strings.Contains(a.Title, "logarithmic")
			if got := fmt.Sprintf("%.9g", a.Ticks); got != want || !ends || !fits {
				t.Errorf("%d: the ticks are %s on %v..%v (%s), want %s", i, got, a.Lo, a.Hi, a.Title, want)
			}
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
	says(t, LanesText([]Panel{staircase}), "\nstage <2>: on average 1.0 of 3 clients in the table\n")
	for i, doing := range Doings {
		says(t, strings.Join(strings.Fields(LanesText(nil)), " "), string(looks[i].letter)+" "+doing)
	}
}

// The SVG stands alone: see check, and says what it shows.
func TestLanesSVG(t *testing.T) {
	svg := LanesSVG([]Panel{staircase, staircase})
	check(t, svg)
	says(t, svg, "<desc>"+html.EscapeString(staircase.String()), ">client 3</text>", `<rect fill="`+looks[inTable].color+`" x="295"`)
	if bars := strings.Count(svg, "<rect"); bars != len(Doings)+2*5 {
		t.Errorf("%d bars, want 5 of each panel and those of the legend", bars)
	}
}

var (
	notANumber = regexp.MustCompile(`="[^"]*(NaN|Inf)[^"]*"|(width|height)="-[^"]*"`)
	viewBox    = regexp.MustCompile(`^<svg width="520" height="[0-9.]+" viewBox="0 0 520 ([0-9.]+)"`)
	fontSize   = regexp.MustCompile(`font: (\d+)px`)
	textAt     = regexp.MustCompile(`<text class="([^"]*)" x="([^"]*)" y="([^"]*)">([^<]*)</text>`)
)

// check checks that a figure is well-formed and stands alone, and that its texts are inside it and
// not on top of each other.
func check(t *testing.T, svg string) {
	t.Helper()
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Fatalf("the figure is not well-formed: %v", err)
	}
	frame, font := viewBox.FindStringSubmatch(svg), fontSize.FindStringSubmatch(svg)
	if frame == nil || font == nil || font[1] < "17" || strings.Contains(svg, "<desc></desc>") || strings.Contains(svg, "href") {
		t.Fatalf("the figure is not 520 wide with letters of 17, has no description, or loads something: %.200s", svg)
	}
	if bad := notANumber.FindString(svg); bad != "" {
		t.Errorf("the figure has %s", bad)
	}
	type box struct {
		from, y float64
		text    string
	}
	wide := func(b box) float64 { return textWidth(b.text) * 0.9 }
	var boxes []box
	for _, m := range textAt.FindAllStringSubmatch(svg, -1) {
		b := box{text: html.UnescapeString(m[4])}
		fmt.Sscan(m[2]+" "+m[3], &b.from, &b.y)
		switch class, _, _ := strings.Cut(m[1], " "); class {
		case "end":
			b.from -= wide(b)
		case "mid":
			b.from -= wide(b) / 2
		}
		if b.from < -letterWidth || b.from+wide(b) > width+letterWidth || b.y < 0 {
			t.Errorf("a text is outside of the figure: %+v", b)
		}
		for _, o := range boxes {
			if math.Abs(o.y-b.y) < letterHeight-1 && o.from < b.from+wide(b) && b.from < o.from+wide(o) {
				t.Errorf("two texts are on top of each other: %s and %s", o.text, b.text)
			}
		}
		boxes = append(boxes, b)
	}
}

// says checks that a figure says all of this.
func says(t *testing.T, svg string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(svg, want) {
			t.Errorf("there is no %q in %s", want, svg)
		}
	}
}

var stageNames = []string{"stage1_singlethread", "stage2_coarselock", "<script>", strings.Repeat("long", 25), "ä", "mine", "theirs", "stage1_singlethread-2", "9", "10"}

func TestRows(t *testing.T) {
	var bars, rows []Row
	for i, name := range stageNames {
		v := float64(i)
		bars = append(bars, Row{Name: name, Value: "1.23ms", Parts: []float64{v, 10, -5, math.NaN(), 1e300}})
		rows = append(rows, Row{Name: name, Value: "1 230 000 [1 220 000..1 240 000]", Dots: []float64{v, 2 * v, 1e300}, Low: v, Median: v, High: 2 * v})
	}
	svg := Rows("Where", LinearAxis("time", 30, Span), bars, "queue", "lock", "table", "codec", "rest")
	check(t, svg)
	says(t, svg, "<title>Where</title>", "<desc>stage1_singlethread: 1.23ms, queue 0, lock 10 ns,", ">lock</text>", ">&lt;script&gt;</text>", "longlo..longlong")
	svg = Rows("Throughput", LinearAxis("operations a second", 20, Plain), rows)
	check(t, svg)
	if n := strings.Count(svg, `class="dot `); n != 3*len(stageNames) {
		t.Errorf("%d dots, want 3 for each of %d rows", n, len(stageNames))
	}
	check(t, Rows("Sixteen nodes", LinearAxis("percent", 100, Plain), []Row{{Name: "a", Parts: []float64{50, 50}}},
		"node 0", "node 1", "node 2", "node 3", "node 4", "node 5", "node 6", "node 7"))
}

func TestLines(t *testing.T) {
	var lines []Series
	for i, name := range stageNames {
		v := float64(100 * i)
		lines = append(lines, Series{Name: name, Style: i % Styles, Points: [][2]float64{{1, v}, {8, v + 1}, {128, 900}}, Bars: [][2]float64{{v, v + 10}, {0, 1e300}, {900, 900}}})
	}
	lines = append(lines, Series{Style: Faint, Class: "dashed", Points: [][2]float64{{1, -1}, {1e300, math.NaN()}}}, Series{Name: "nothing"})
	lines[0].Class = "thin"
	x := Axis{Title: "connections", Lo: 1, Hi: 128, Log: true, Ticks: []float64{1, 8, 128}, Label: Plain}
	svg := Lines("Swept", x, LinearAxis("operations a second", 1000, Plain), lines)
	check(t, svg)
	// Eight names have a mark beside them, as have their points; a thin line has none.
	if got, want := strings.Count(svg, `class="mark`), 4*len(stageNames)-3; got != want {
		t.Errorf("%d marks, want %d", got, want)
	}
	says(t, svg, "; stage2_coarselock: 1 100, 8 101, 128 900;", `class="line thin s0"`, `class="line dashed s-1"`)
}

// A point with a note has an open mark. A note for which there is no room is only told.
func TestNotes(t *testing.T) {
	line := Series{Name: "stage3", Points: [][2]float64{{0, 1000}, {50, 1000}, {51, 1000}, {100, 0}}, Notes: []string{"", "13 %", "14 %", "52 %"}}
	svg := Lines("Refused", LinearAxis("rate", 100, Plain), LinearAxis("p99", 1000, Plain), []Series{line})
	check(t, svg)
	says(t, svg, `"mark s0"`, `"mark open s0"`,
		"<desc>stage3: 0 1 000, 50 1 000 (13 %), 51 1 000 (14 %), 100 0 (52 %)<", ">13 %</text>", ">52 %</text>")
}

func TestDots(t *testing.T) {
	clouds := []Cloud{
		{"stage2", [][][2]float64{{{0, 1e6}, {1e9, 2e6}, {2e9, 1e300}}}},
		{"stage3", [][][2]float64{{{0, 1e6}}, {{-1, 1e5}, {3e9, math.NaN()}}, {{5, 0}}}},
	}
	x, y := LinearAxis("due", 2e9, Span), LogAxis("took", []float64{1e5, 2e6}, Span)
	svg := Dots("Overload", x, y, clouds, "answered", "refused", "failed")
	check(t, svg)
	for kind, want := range []int{4, 2, 1} { // and one in the legend
		count := 0
		for _, m := range regexp.MustCompile(`class="dots d`+strconv.Itoa(kind)+` s\d" d="([^"]*)"`).FindAllStringSubmatch(svg, -1) {
			count += strings.Count(m[1], "M")
		}
		if count != want+1 {
			t.Errorf("%d marks of kind %d, want %d, and one in the legend", count, kind, want)
		}
	}
	says(t, svg, "<desc>stage2: 3 answered, 1 ms to ", "; stage3: 1 answered, 1 ms to 1 ms; stage3: 2 refused, ")
	if svg := Dots("None", x, y, []Cloud{{Name: "stage2", Dots: make([][][2]float64, 3)}}, "answered"); svg != "" {
		t.Errorf("nothing is drawn as %s", svg)
	}
}
