package page

import (
	"encoding/xml"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// testRound returns a round of 1 s with 8 connections that are always busy.
func testRound(requests int64) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: requests, Answers: workload.Answers{OK: requests}}, Dur: time.Second}
	for range requests {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(requests))
	}
	return r
}

// fullReport has data for every figure: an open loop on two nodes, in rounds of some
// seconds.
func fullReport(stages ...string) *report.Report {
	cfg := cluster.Default()
	cfg.Workload.Rate = 100
	rep := report.New(cfg, stages, true)
	for round := 1; round <= 3; round++ {
		for i, stage := range stages {
			n := int64(400 * (i + 1))
			r := testRound(n)
			r.Dur = 4*time.Second + time.Millisecond
			r.Series = []int64{n / 4, n / 4, n / 4, n / 4, n / 32} // the last second is cut off
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

var notANumber = regexp.MustCompile(`\b(NaN|[+-]?Inf)\b`)

// render returns the page of a report, and checks that it is well-formed and loads nothing.
func render(t *testing.T, rep *report.Report) string {
	t.Helper()
	data, err := Render(rep)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(data, new(struct{})); err != nil {
		t.Fatalf("the page is not well-formed: %v", err)
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
	return page
}

// saved returns a report as it is read back.
func saved(t *testing.T, rep *report.Report) *report.Report {
	data, _ := rep.JSON()
	again, err := report.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestPage(t *testing.T) {
	rep := fullReport("stage1_singlethread", "stage2_coarselock")
	page := render(t, rep)
	for _, want := range append(rep.Outline().Notes,
		"<h1>Response time at p99, compared with stage1_singlethread: stage2_coarselock 0.500 times [0.500..0.500]",
		"<tr><th scope=\"row\">stage2_coarselock</th><td>0.500 [0.500..0.500]</td></tr>", // as in the text
		"<title>Lockstep: stage1_singlethread, stage2_coarselock</title>", "<table style=\"--columns: 6\">",
		"<p class=\"faint\">ops/s: median [range] of 3 rounds",
		"<h2>Throughput</h2>", "<h2>Response time</h2>", "<h2>Where the time of a request goes</h2>", "<h2>Second by second</h2>", "<h2>Balance</h2>",
		"time (logarithmic)", ">99 %</text>",
		"<details><summary>How it was measured</summary>", "100 requests due a second", "&#34;keys&#34;: 1000",
	) {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if render(t, saved(t, rep)) != page {
		t.Error("the page of the saved report is another one")
	}
	if strings.Contains(page, `alarm">`) {
		t.Error("there is an alarm although all is well")
	}
	if points := regexp.MustCompile(`points="[^"]*"`).FindString(string(seconds(rep).SVG)); strings.Count(points, " ") != 3 {
		t.Errorf("the line of a round of 4 seconds has %s", points)
	}
}

// The colour of a stage is the same in every figure, whichever stages a figure leaves out, and
// parts of a row are shades of it.
func TestColours(t *testing.T) {
	rep := fullReport("idle", "one", "another")
	rep.Runs = slices.DeleteFunc(rep.Runs, func(run report.Run) bool { return run.Stage == "idle" })
	rep = saved(t, rep)
	for _, draw := range []func(*report.Report) exhibit{throughput, percentiles, where, seconds, balance} {
		e := draw(rep)
		for i, want := range []bool{false, true, true, false} {
			if got := strings.Contains(string(e.SVG), fmt.Sprintf(` s%d"`, i)); got != want {
				t.Errorf("%s: something has the colour of stage %d: %v, want %v", e.Title, i, got, want)
			}
		}
	}
}

// luminance is that of a colour in the WCAG 2.2, written as "0d1117" or "fff".
func luminance(hex string) (sum float64) {
	digits := len(hex) / 3
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		part, _ := strconv.ParseUint(hex[i*digits:(i+1)*digits], 16, 8)
		c := float64(part) / (math.Pow(16, float64(digits)) - 1)
		sum += weight * math.Pow((c+0.055)/1.055, 2.4) // of the darkest, nearly
	}
	return sum
}

// Text on the page has a contrast of 4.5:1 at least (WCAG 2.2, 1.4.3), in the light scheme and in the
// dark one, and the lines and marks of a figure 3:1, also where it stands alone.
func TestContrast(t *testing.T) {
	schemes := regexp.MustCompile(`:root \{ --paper: #(\w+); --ink: #(\w+); --faint: #(\w+); --rule: #\w+; --alarm: #(\w+); \}`).FindAllStringSubmatch(pageText, -1)
	drawn := figure.Rows("", figure.LinearAxis("", 1, figure.Plain), []figure.Row{{}})
	colours := regexp.MustCompile(`#([0-9a-f]{6})`).FindAllStringSubmatch(drawn, -1)
	if len(schemes) != 2 || len(colours) < figure.Styles {
		t.Fatalf("%d schemes and %d colours, want 2 and at least %d", len(schemes), len(colours), figure.Styles)
	}
	check := func(least float64, colour, paper string) {
		a, b := luminance(colour), luminance(paper)
		if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < least {
			t.Errorf("%s on %s: contrast %.2f, want %v", colour, paper, got, least)
		}
	}
	for _, scheme := range schemes {
		for _, words := range scheme[2:] {
			check(4.5, words, scheme[1])
		}
		for _, colour := range colours {
			check(3, colour[1], scheme[1])
			check(3, colour[1], "0d1117") // GitHub's, and darker than the dark scheme's
		}
	}
}

// A title says first if something is wrong.
func TestTitle(t *testing.T) {
	for want, rep := range map[string]*report.Report{
		"Lockstep: a, b, c, d":     {Verdict: "ok", Stages: []string{"a", "b", "c", "d"}},
		"INVALID - Lockstep: a":    {Verdict: "invalid: a, round 1: the client was late", Stages: []string{"a"}},
		"INTERRUPTED - Lockstep: ": {Verdict: "interrupted"},
	} {
		if got := title(rep); got != want {
			t.Errorf("the title is %q, want %q", got, want)
		}
	}
}

// A figure without data is left out.
func TestPageOfLittle(t *testing.T) {
	cfg := cluster.Default()
	empty := report.New(cfg, []string{"a"}, true)
	if page := render(t, empty); !strings.Contains(page, "No round was measured.") || strings.Contains(page, "<svg") {
		t.Error("the page of no rounds says something else")
	}
	empty.Verdict = "failed: it <died>\nits last words:\n    panic: \x1b[2J"
	if page := render(t, empty); !strings.Contains(page, "its last words:\n    panic: \\x1b[2J</p>") {
		t.Error("the page does not say why there are no rounds")
	}
	idle := report.New(cfg, []string{"a", "b"}, true)
	idle.Add("a", 1, &load.Result{Counts: load.Counts{Connections: 8, Starved: 8}, Dur: time.Second})
	idle.Add("b", 1, &load.Result{})
	if strings.Contains(render(t, idle), "<h2>") {
		t.Error("the page of rounds in which nothing was answered has a figure")
	}
}

func TestPageHostile(t *testing.T) {
	const nasty = `<script>alert(1)</script>&"'--><svg/onload=x>]]>`
	rep := fullReport(nasty, strings.Repeat("long", 25), "\x1b[31m\u202e", "ä")
	rep.Env.CPUModel, rep.Env.Command = nasty, []string{nasty, "\x00"}
	rep.Runs[0].Warnings = []string{nasty}
	rep.Verdict = "invalid: " + nasty
	page := render(t, rep)
	for _, bad := range []string{"<script", "<svg/", "\x1b", "\u202e", "\x00"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

func TestPageOfSweep(t *testing.T) {
	for _, text := range []string{"c=1,2,4,128", "rate=100,500,1000", "work=0s,1ms,5ms", "keys=100", "batch=1,3,5"} {
		sweep, _ := experiment.ParseSweep(text, cluster.Default())
		rep := report.New(cluster.Default(), []string{"one", "another"}, true)
		rep.Sweep = sweep
		render(t, rep)
		for i, point := range sweep.Points {
			rep.AddAt(point, "one", 1, testRound(int64(100*(i+1))))
			rep.AddAt(point, "another", 1, testRound(int64(100*i))) // nothing is answered at the first
		}
		page := render(t, rep)
		for what, want := range map[string]bool{
			"<h2>Throughput</h2>": true, "<h2>Response time and throughput</h2>": true, rep.Outline().Sentences[1]: true,
			">due</text>": sweep.Property == "rate", ">connections (logarithmic)<": sweep.Property == "c",
		} {
			if got := strings.Contains(page, what); got != want {
				t.Errorf("%s: the page has %q: %v, want %v", text, what, got, want)
			}
		}
	}
}

// The curve is that of the tables, without what is only a bound.
func TestPercentiles(t *testing.T) {
	rep := report.New(cluster.Default(), []string{"a", "b"}, true)
	r := testRound(1000)
	rep.Add("a", 1, r)
	r.Unfinished = 50
	rep.Add("b", 1, r)
	rep.Summarize()
	svg := string(percentiles(rep).SVG)
	if !strings.Contains(svg, "a: 50 % ") || !regexp.MustCompile(`99.9 % [^;]*; b: 50 % \S+ \S+, 90 % \S+ \S+<`).MatchString(svg) {
		t.Errorf("the figure says %.300q, want four times of a and two of b", svg)
	}
}

// A file of any content is refused or shown. (The seeds are long: use -fuzzminimizetime 1x.)
func FuzzParseReport(f *testing.F) {
	rep := report.New(cluster.Default(), []string{"a", "b"}, true)
	rep.Add("a", 1, testRound(20))
	rep.Add("b", 1, testRound(10))
	ofSweep := report.New(cluster.Default(), []string{"a"}, true)
	ofSweep.Sweep, _ = experiment.ParseSweep("rate=10,20", cluster.Default())
	ofSweep.AddAt("20", "a", 1, testRound(20))
	for _, rep := range []*report.Report{rep, ofSweep, fullReport("a", "b")} {
		data, _ := rep.JSON()
		f.Add(data)
	}
	const one = `{"schema":2,"config":{},"stages":["a","a"],"aa":true,"runs":[{"stage":"a",%s}]}`
	f.Add(fmt.Appendf(nil, one, `"ok":4611686018427387904,"histogram":{"buckets":[[1,18446744073709551615],[3,7]],"max_ns":-1,"sum_ns":-1}`))
	f.Add(fmt.Appendf(nil, one, `"ok":-1,"dur_ns":-9223372036854775808,"requests":-1,"starved":-1,"ok_each_second":[-1,9223372036854775807,0,0],"nodes":[{"requests":-1,"uptime_ns":1,"watched":-1},{}]`))
	f.Add(fmt.Appendf(nil, one, `"ok":1,"dur_ns":9223372036854775807,"ops_per_s":1e300,"lock_held":-1e300,"server_cpu_ns_per_request":1e308,"latency_ns":{"p50":-1,"p99":9223372036854775807},"where_ns":null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := report.Parse(data)
		if err != nil || notANumber.Match(data) {
			return
		}
		if text := rep.String(); notANumber.MatchString(text) {
			t.Errorf("the text says %q:\n%s", notANumber.FindString(text), text)
		}
		render(t, rep)
		_, noBench := rep.Gobench()
		if _, noJSON := rep.JSON(); noBench != nil || noJSON != nil {
			t.Error(noBench, noJSON)
		}
	})
}
