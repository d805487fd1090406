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
	textAt     = regexp.MustCompile(`<text class="([^"]*)" x="([^"]*)" y="([^"]*)">([^<]*)</text>`)
)

// check checks that a figure is well-formed, and that its texts are inside it and not on
// top of each other.
func check(t *testing.T, svg string) {
	t.Helper()
	if err := xml.Unmarshal([]byte(svg), new(struct{})); err != nil {
		t.Fatalf("the figure is not well-formed: %v", err)
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
		lines = append(lines, Series{Name: name, Style: i % Styles, Class: "thin", Points: [][2]float64{{1, v}, {8, v + 1}, {128, 900}}, Bars: [][2]float64{{v, v + 10}, {0, 1e300}, {900, 900}}})
	}
	lines = append(lines, Series{Style: Faint, Class: "dashed", Points: [][2]float64{{1, -1}, {1e300, math.NaN()}}}, Series{Name: "nothing"})
	lines[0].Marked = func(i int) bool { return i == 1 }
	x := Axis{Title: "connections", Lo: 1, Hi: 128, Log: true, Ticks: []float64{1, 8, 128}, Label: Plain}
	svg := Lines("Swept", x, LinearAxis("operations a second", 1000, Plain), lines)
	check(t, svg)
	// Eight names have a mark beside them, as have their points; of the first only one has.
	if got, want := strings.Count(svg, `class="mark`), 4*len(stageNames)-2; got != want {
		t.Errorf("%d marks, want %d", got, want)
	}
	for _, want := range []string{"<desc>stage1_singlethread: 8 1; stage2_coarselock: 1 100, 8 101, 128 900;", `class="line thin s1"`, `class="line dashed s-1"`} {
		if !strings.Contains(svg, want) {
			t.Errorf("there is no %q in %.500s", want, svg)
		}
	}
}
