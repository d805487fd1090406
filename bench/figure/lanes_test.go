package figure

import (
	"strings"
	"testing"
	"time"
)

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
	want = "idle 19 %, waiting for a lock 25 %, in the table 50 %, writing the answer 6 %"
	if got := staircase.Shares(); got != want {
		t.Errorf("shares %q, want %q", got, want)
	}
	if got := staircase.Together(); got != 1 {
		t.Errorf("%d in the table at the same time, want 1: one leaves when the other enters", got)
	}
	overlap := Panel{Span: 3, Lanes: [][]Stretch{{{inTable, 0, 2}}, {{inTable, 1, 3}}, {{2, 0, 3}}}}
	if got := overlap.Together(); got != 2 {
		t.Errorf("%d in the table at the same time, want 2", got)
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
	for _, want := range []string{"<svg width=\"520\" height=\"", "<desc>stage &lt;2&gt;: " + staircase.Shares(), ">client 3</text>", "<rect fill=\"" + looks[inTable].color + "\" x=\"295\""} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in %s", want, svg)
		}
	}
	if bars := strings.Count(svg, "<rect"); bars != len(Doings)+2*5 {
		t.Errorf("%d bars, want 5 of each panel and those of the legend", bars)
	}
}
