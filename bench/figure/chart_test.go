package figure

import (
	"encoding/xml"
	"html"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	notANumber = regexp.MustCompile(`="[^"]*(NaN|Inf)[^"]*"|(width|height)="-[^"]*"`)
	hex        = regexp.MustCompile(`#([0-9a-f]{6})\b`)
	points     = regexp.MustCompile(`points="([^"]+)"|translate\(([^)]+)\)|class="dots [^"]*" d="([^"]+)"`)
	begins     = regexp.MustCompile(`M([0-9.,-]+)`)
	viewBox    = regexp.MustCompile(`^<svg width="520" height="[0-9.]+" viewBox="0 0 520 ([0-9.]+)"`)
	fontSize   = regexp.MustCompile(`font: (\d+)px`)
	textAt     = regexp.MustCompile(`<text class="([^"]*)" x="([^"]*)" y="([^"]*)">([^<]*)</text>`)
)

// contrast is that of two colours in the WCAG 2.2, from 1 to 21.
func contrast(a, b string) float64 {
	luminance := func(hex string) (sum float64) {
		rgb, _ := strconv.ParseUint(hex, 16, 24)
		for i, weight := range []float64{0.0722, 0.7152, 0.2126} {
			c := float64(rgb>>(8*i)&255) / 255
			if c /= 12.92; c > 0.04045/12.92 {
				c = math.Pow((12.92*c+0.055)/1.055, 2.4)
			}
			sum += weight * c
		}
		return sum
	}
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// check checks that a figure is well-formed and stands alone, that its marks and lines are inside
// it, and that its texts are inside it and not on top of each other.
func check(t *testing.T, svg string) {
	t.Helper()
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Fatalf("the figure is not well-formed: %v", err)
	}
	frame, font := viewBox.FindStringSubmatch(svg), fontSize.FindStringSubmatch(svg)
	if frame == nil || font == nil || font[1] < "17" || strings.Contains(svg, "<desc></desc>") || strings.Contains(svg, "href") {
		t.Fatalf("the figure is not 520 wide with letters of 17, has no description, or loads something: %.200s", svg)
	}
	for _, colour := range hex.FindAllStringSubmatch(svg, -1) {
		for _, paper := range []string{"ffffff", "0d1117"} {
			if got := contrast(colour[1], paper); got < 3 {
				t.Errorf("#%s on #%s has a contrast of %.2f, want 3", colour[1], paper, got)
			}
		}
	}
	height, _ := strconv.ParseFloat(frame[1], 64)
	for _, m := range points.FindAllStringSubmatch(svg, -1) {
		at := strings.Fields(m[1] + m[2])
		for _, begin := range begins.FindAllStringSubmatch(m[3], -1) {
			at = append(at, begin[1])
		}
		for _, point := range at {
			left, above, _ := strings.Cut(point, ",")
			x, errX := strconv.ParseFloat(left, 64)
			y, errY := strconv.ParseFloat(above, 64)
			if errX != nil || errY != nil || x < 0 || x > width || y < 0 || y > height {
				t.Errorf("%s is outside of the figure, which is %v high", point, height)
			}
		}
	}
	if bad := notANumber.FindString(svg); bad != "" {
		t.Errorf("the figure has %s", bad)
	}
	type box struct {
		from, to, y float64
		text        string
	}
	var boxes []box
	for _, m := range textAt.FindAllStringSubmatch(svg, -1) {
		x, _ := strconv.ParseFloat(m[2], 64)
		y, _ := strconv.ParseFloat(m[3], 64)
		b := box{x, x, y, html.UnescapeString(m[4])}
		wide := textWidth(b.text) * 0.9
		switch class, _, _ := strings.Cut(m[1], " "); class {
		case "end":
			b.from -= wide
		case "mid":
			b.from, b.to = x-wide/2, x+wide/2
		default:
			b.to += wide
		}
		if b.from < -letterWidth || b.to > width+letterWidth || b.y < 0 {
			t.Errorf("a text is at %.0f..%.0f, %.0f, outside of 0..%.0f or above 0: %s", b.from, b.to, b.y, width, b.text)
		}
		for _, o := range boxes {
			if math.Abs(o.y-b.y) < letterHeight-1 && o.from < b.to && b.from < o.to {
				t.Errorf("two texts are on top of each other: %s and %s", o.text, b.text)
			}
		}
		boxes = append(boxes, b)
	}
}

var stageNames = []string{"stage1_singlethread", "stage2_coarselock", "<script>", strings.Repeat("long", 25), "ä", "mine", "theirs", "stage1_singlethread-2", "9", "10"}

func TestRows(t *testing.T) {
	var bars, dots []Row
	for i, name := range stageNames {
		v := float64(i)
		bars = append(bars, Row{Name: name, Value: "1.23ms", Parts: []float64{v, 10, -5, math.NaN(), 1e300}})
		dots = append(dots, Row{Name: name, Value: "1 230 000 [1 220 000..1 240 000]", Dots: []float64{v, 2 * v, 1e300}, Low: v, Median: v, High: 2 * v})
	}
	svg := Rows("Where", LinearAxis("time", 30, Span), bars, "queue", "lock", "table", "codec", "rest")
	check(t, svg)
	for _, want := range []string{"<title>Where</title>", "<desc>stage1_singlethread: 1.23ms, queue 0, lock 10 ns,", ">lock</text>", ">&lt;script&gt;</text>", "longlo..longlong"} {
		if !strings.Contains(svg, want) {
			t.Errorf("there is no %q in %.500s", want, svg)
		}
	}
	svg = Rows("Throughput", LinearAxis("operations a second", 20, Plain), dots)
	check(t, svg)
	if n := strings.Count(svg, `class="dot `); n != 3*len(stageNames) {
		t.Errorf("%d dots, want 3 for each of %d rows", n, len(stageNames))
	}
	if svg := Rows("One round", LinearAxis("", 20, Plain), []Row{{Dots: []float64{7}, Low: 7, Median: 7, High: 7}}); strings.Contains(svg, `"band`) {
		t.Error("one dot has an interval")
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
	for _, want := range []string{"; stage2_coarselock: 1 100, 8 101, 128 900;", `class="line thin s0"`, `class="line dashed s-1"`} {
		if !strings.Contains(svg, want) {
			t.Errorf("there is no %q in %.500s", want, svg)
		}
	}
}

// A point with a note has an open mark. A note for which there is no room is only told.
func TestNotes(t *testing.T) {
	line := Series{Name: "stage3", Points: [][2]float64{{0, 1000}, {50, 1000}, {51, 1000}, {100, 0}}, Notes: []string{"", "13 %", "14 %", "52 %"}}
	svg := Lines("Refused", LinearAxis("rate", 100, Plain), LinearAxis("p99", 1000, Plain), []Series{line})
	check(t, svg)
	if n := strings.Count(svg, `"mark open s0"`); n != 3 {
		t.Errorf("%d open marks, want 3: those with a note", n)
	}
	for _, want := range []string{"<desc>stage3: 0 1 000, 50 1 000 (13 %), 51 1 000 (14 %), 100 0 (52 %)<", ">13 %</text>", ">52 %</text>"} {
		if !strings.Contains(svg, want) {
			t.Errorf("there is no %q in %s", want, svg)
		}
	}
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
		marks := 0
		for _, m := range regexp.MustCompile(`class="dots d`+strconv.Itoa(kind)+` s\d" d="([^"]*)"`).FindAllStringSubmatch(svg, -1) {
			marks += strings.Count(m[1], "M")
			if strings.Count(m[1], "M") != strings.Count(m[1], dots[kind]) {
				t.Errorf("kind %d has other marks: %s", kind, m[1])
			}
		}
		if marks != want+1 {
			t.Errorf("%d marks of kind %d, want %d, and one in the legend", marks, kind, want)
		}
	}
	if want := "<desc>stage2: 3 answered, 1 ms to "; !strings.Contains(svg, want) || !strings.Contains(svg, "; stage3: 1 answered, 1 ms to 1 ms; stage3: 2 refused, ") {
		t.Errorf("there is no %q, or nothing of stage3, in %s", want, svg)
	}
	if svg := Dots("None", x, y, []Cloud{{Name: "stage2", Dots: make([][][2]float64, 3)}}, "answered"); svg != "" {
		t.Errorf("nothing is drawn as %s", svg)
	}
}
