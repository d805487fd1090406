package figure

import (
	"html"
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
