package page

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/stats"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// The names of lines that end close to each other, or at the same height, or outside of
// the chart, do not overlap.
func TestNamesApart(t *testing.T) {
	y := figure.Axis{Lo: 0, Hi: 100, From: 300, To: 30}
	var lines []figure.Series
	for i, v := range []float64{0, 0, 0, 50, 51, 100, 100, 1000} {
		lines = append(lines, figure.Series{Name: "x", Style: i % figure.Styles, Points: [][2]float64{{0, v}}})
	}
	f := &figure.Figure{}
	f.Names(figure.Axis{Hi: 1, To: 400}, y, lines)
	var heights []float64
	for _, m := range textAt.FindAllStringSubmatch(f.Body.String(), -1) {
		heights = append(heights, parseNumber(t, m[2]))
	}
	if len(heights) != len(lines) {
		t.Fatalf("%d names, want %d", len(heights), len(lines))
	}
	for i := 1; i < len(heights); i++ {
		if gap := heights[i] - heights[i-1]; gap < figure.LetterHeight-0.2 {
			t.Errorf("two names are %v apart, want %v at least: %v", gap, figure.LetterHeight, heights)
		}
	}
	if last := heights[len(heights)-1]; last > y.From+figure.LetterHeight {
		t.Errorf("a name is at %v, below the chart, which ends at %v", last, y.From)
	}
}

// fullReport has everything that there is a figure for: an open loop, on two nodes, in
// rounds of some seconds, of so many stages.
func fullReport(stages ...string) *report.Report {
	cfg := cluster.Default()
	cfg.Workload.Rate = 3000
	rep := report.New(cfg, stages, true)
	rep.Nodes = 2
	for round := 1; round <= 3; round++ {
		for i, stage := range stages {
			n := int64(400 * (i + 1))
			r := testRound(n)
			r.Dur = 4*time.Second + time.Millisecond
			for second := range 5 {
				r.Answered(int(n/4)>>(second/4*3), time.Duration(second)*time.Second) // the last one is not whole
			}
			for range n {
				load.Record(&r.ServiceTimes, time.Duration(i+1)*100*time.Microsecond)
			}
			busy := metrics.Timing{Count: n / 2, Total: time.Duration(n) * 10 * time.Microsecond}
			r.Nodes = []metrics.Snapshot{{Requests: n / 2, QueueWait: busy, Turn: busy, Table: busy}, {Requests: n - n/2, Turn: busy}}
			rep.Add(stage, round, r)
		}
	}
	return rep
}

// pageOf returns the page of a report, which must be well-formed, complete in itself and
// without a figure that is none.
func pageOf(t *testing.T, rep *report.Report) string {
	t.Helper()
	data, err := Render(rep)
	if err != nil {
		t.Fatal(err)
	}
	dec := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok {
			checkElement(t, e)
		}
	}
	page := string(data)
	if bad := notANumber.FindString(page); bad != "" {
		t.Errorf("the page says %q", bad)
	}
	rest := strings.ReplaceAll(page, ` xmlns="http://www.w3.org/2000/svg"`, "")
	for _, outside := range []string{"http:", "https:", "url(", "@import", "<script", "src="} {
		if strings.Contains(rest, outside) {
			t.Errorf("the page has %s", outside)
		}
	}
	for _, svg := range strings.Split(page, "<svg")[1:] {
		checkTexts(t, svg)
	}
	return page
}

// checkTexts checks that the texts of a figure are inside of it, and not on top of each
// other.
func checkTexts(t *testing.T, svg string) {
	t.Helper()
	type box struct {
		from, to, y float64
		text        string
	}
	var boxes []box
	for _, m := range textAt.FindAllStringSubmatch(svg, -1) {
		text := html.UnescapeString(m[3])
		x, width := parseNumber(t, m[1]), float64(utf8.RuneCountInString(text))*figure.LetterWidth*0.9
		switch {
		case strings.Contains(m[0], `class="end`):
			x -= width
		case strings.Contains(m[0], `class="mid`):
			x -= width / 2
		}
		b := box{x, x + width, parseNumber(t, m[2]), text}
		if b.from < -figure.LetterWidth || b.to > figure.FigureWidth+figure.LetterWidth {
			t.Errorf("a text of a figure is at %.0f..%.0f, which is outside of 0..%.0f: %s", b.from, b.to, figure.FigureWidth, text)
		}
		for _, o := range boxes {
			if math.Abs(o.y-b.y) < figure.LetterHeight-1 && o.from < b.to && b.from < o.to {
				t.Errorf("two texts of a figure are on top of each other: %s and %s", o.text, b.text)
			}
		}
		boxes = append(boxes, b)
	}
}

var (
	notANumber = regexp.MustCompile(`\b(NaN|[+-]?Inf)\b`)
	textAt     = regexp.MustCompile(`<text class="[^"]*" x="([^"]*)" y="([^"]*)">([^<]*)</text>`)
)

func parseNumber(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Error(err)
	}
	return v
}

// checkElement checks that a figure says in words what it shows, and has no coordinate
// below 0.
func checkElement(t *testing.T, e xml.StartElement) {
	t.Helper()
	attrs := make(map[string]string)
	for _, a := range e.Attr {
		attrs[a.Name.Local] = a.Value
	}
	if e.Name.Local == "svg" && (attrs["role"] != "img" || attrs["aria-labelledby"] == "" || attrs["viewBox"] == "") {
		t.Errorf("a figure has the attributes %v", attrs)
	}
	for _, name := range []string{"width", "height"} {
		if v := attrs[name]; strings.HasPrefix(v, "-") {
			t.Errorf("an element %s has the %s %s", e.Name.Local, name, v)
		}
	}
}

func TestPage(t *testing.T) {
	page := pageOf(t, fullReport("stage1_singlethread", "stage2_coarselock"))
	for _, want := range []string{
		"<h1>Response time at p99, compared with stage1_singlethread: stage2_coarselock 0.500 times [0.500..0.500]",
		"<td>0.500 times [0.500..0.500]</td>", // the words of the text report
		"Operations a second: median [range] of 3 rounds, a 75 % interval.",
		"<li>no errors, no misses, nothing unfinished, nobody starved</li>",
		"<h2>Throughput</h2>", "<h2>Response and service time</h2>", "<h2>Where the time goes</h2>", "<h2>Second by second</h2>", "<h2>Balance</h2>",
		"Dashed: service time", "time (logarithmic)", ">99 %</text>", "node 1</text>",
		"stage1_singlethread: 100 to 100;", // and not what came after the last whole second
		"3 000 requests a second due", "&#34;keys&#34;: 1000",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(page, "alarm\">") {
		t.Error("there is an alarm where all is well")
	}
	if n := strings.Count(page, "<circle class=\"dot"); n != 6 {
		t.Errorf("%d dots, want one for each of 6 rounds", n)
	}
}

// A section whose data are missing is left out, and nothing that was not measured is drawn.
func TestPageOfLittle(t *testing.T) {
	cfg := cluster.Default()
	empty := report.New(cfg, []string{"a"}, true)
	if page := pageOf(t, empty); !strings.Contains(page, "No round was measured.") || strings.Contains(page, "<svg") {
		t.Error("the page of no rounds says something else")
	}
	empty.Verdict = "failed: it <died>\nits last words:\n    panic: \x1b[2J"
	if page := pageOf(t, empty); !strings.Contains(page, "its last words:\n    panic: \ufffd[2J</p>") {
		t.Error("the page does not say why there are no rounds")
	}
	idle := report.New(cfg, []string{"a", "b"}, true)
	idle.Add("a", 1, &load.Result{Counts: load.Counts{Connections: 8, Starved: 8}, Dur: time.Second})
	idle.Add("b", 1, &load.Result{})
	page := pageOf(t, idle)
	for _, none := range []string{"<h2>Response time", "<h2>Where", "<h2>Second", "<h2>Balance"} {
		if strings.Contains(page, none) {
			t.Errorf("the page of rounds in which nothing was answered has %s", none)
		}
	}
	one := report.New(cfg, []string{"a"}, true)
	one.Add("a", 1, testRound(50))
	if page := pageOf(t, one); !strings.Contains(page, "one round: nothing is known about chance") || strings.Contains(page, `"band`) {
		t.Error("the page of one round claims an interval")
	}
}

// What a page is made of may have been written by somebody else.
func TestPageHostile(t *testing.T) {
	const nasty = `<script>alert(1)</script>&"'--><svg/onload=x>]]>`
	rep := fullReport(nasty, strings.Repeat("long", 25), "\x1b[31m\u202e", "ä")
	rep.Env.CPUModel, rep.Env.Command = nasty, []string{nasty, "\x00", "", "it's"}
	rep.Runs[0].Warnings = []string{nasty}
	rep.Verdict = "invalid: " + nasty
	rep.Summary = rep.Summarize()
	page := pageOf(t, rep)
	for _, bad := range []string{"<script", "<svg/", "\x1b", "\u202e", "\x00"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if !strings.Contains(page, "&lt;script&gt;alert(1)") {
		t.Error("the page does not show the name as it is")
	}
}

// Many stages, with names and figures as long as they get, and twenty times apart.
func TestPageCrowded(t *testing.T) {
	names := []string{"stage1_singlethread", "stage2_coarselock", "stage3_threadpool", "stage4_bucketlock", "stage2_coarselock-2",
		"stage3_threadpool-2", "stage4_bucketlock-2", "mine", "theirs", "stage4_bucketlock@a_very_long_name_of_a_file"}
	rep := fullReport(names...)
	for i := range rep.Summary {
		rep.Summary[i].OpsPerSecond = stats.Interval{Median: 1_230_000, Low: 1_220_000, High: 1_240_000, Level: 0.969, Rounds: 6}
	}
	pageOf(t, rep)
}

func TestPageOfSweep(t *testing.T) {
	for _, text := range []string{"c=1,2,4,128", "rate=100,500,1000", "work=0s,1ms,5ms", "keys=100", "batch=1,3,5", "c=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"} {
		rep := testSweep(t, text, func(stage, point, round int) int64 {
			if stage == 1 && point == 0 {
				return 0 // not measured
			}
			return int64(100 * (stage + point + round))
		})
		page := pageOf(t, rep)
		for _, want := range []string{"<h2>Throughput</h2>", "<h2>Response time and throughput</h2>", rep.SweepSentence("one"), "Swept: " + rep.Sweep.Property} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page has no %q", text, want)
			}
		}
		if got := strings.Contains(page, ">due</text>"); got != (rep.Sweep.Property == "rate") {
			t.Errorf("%s: there is a line of what was due: %v", text, got)
		}
		if got := strings.Contains(page, sweptTitles[rep.Sweep.Property]+" (logarithmic)"); got != (rep.Sweep.Property == "c") {
			t.Errorf("%s: the axis is logarithmic: %v", text, got)
		}
	}
}

// Where nothing was answered, there is no response time to draw.
func TestPageOfSweepIdle(t *testing.T) {
	rep := testSweep(t, "keys=10,100", func(stage, point, round int) int64 { return int64(100 * (1 - stage) * (1 - point)) })
	rep.AddAt("100", "one", 1, &load.Result{Dur: time.Second})
	pageOf(t, rep)
	if n := strings.Count(string(achievedFigure(rep).SVG), `class="mark`); n != 3 {
		t.Errorf("%d marks, want 3: of p50, of p99, and beside the name", n)
	}
}

// A line of percentiles ends where too few requests are left to speak of.
func TestPercentiles(t *testing.T) {
	var h metrics.Histogram
	for i := range 10_000 {
		h.Record(time.Duration(i+1) * time.Microsecond)
	}
	points := percentiles(&h)
	if first, last := points[0], points[len(points)-1]; first[0] != median || last[0] != 3 {
		t.Errorf("of 10 000 the line has nines from %v to %v, want %v to 3", first[0], last[0], median)
	}
	for _, p := range points {
		if p[0] == 2 && (p[1] < 9.9e6 || p[1] > 10e6) {
			t.Errorf("p99 is %v ns, want 9.9 ms", p[1])
		}
	}
	if points := percentiles(new(metrics.Histogram)); points != nil {
		t.Errorf("of nothing the line has %d points", len(points))
	}
}

func TestCommandLine(t *testing.T) {
	if got, want := commandLine([]string{"bench", "run", "a b", "it's", "", "-o=x.json"}), `bench run 'a b' 'it'\''s' '' -o=x.json`; got != want {
		t.Errorf("the command is %s, want %s", got, want)
	}
}

// Whatever is in a file, reading it and showing what could be read does not panic.
func FuzzParseReport(f *testing.F) {
	rep := report.New(cluster.Default(), []string{"a", "b"}, true)
	rep.Add("a", 1, testRound(20))
	data, err := rep.Json()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(fmt.Sprintf(`{"schema":2,"config":{},"stages":["a"],"runs":[{"stage":"a","ok":%d,"histogram":{"buckets":[[1,18446744073709551615],[3,7]],"max_ns":-1,"sum_ns":-1}}]}`, int64(1)<<62)))
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := report.Parse(data)
		if err != nil {
			return
		}
		_ = rep.String()
		pageOf(t, rep)
		if _, err := rep.Gobench(); err != nil {
			t.Error(err)
		}
	})
}
