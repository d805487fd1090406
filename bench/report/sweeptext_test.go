package report

import (
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/common/cluster"
)

// testSweep is a sweep of two stages with made up rounds; ops says how many operations
// a second a stage has at a point.
func testSweep(t *testing.T, text string, ops func(stage, point, round int) int64) *Report {
	t.Helper()
	sw, err := experiment.ParseSweep(text, cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	rep := New(cluster.Default(), []string{"one", "another"}, true)
	rep.Sweep = sw
	rep.Env = Environment{Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, Shared: true}
	for round := 1; round <= 3; round++ {
		for i, point := range sw.Points {
			for j, stage := range rep.Stages {
				if n := ops(j, i, round); n > 0 {
					rep.AddAt(point, stage, round, testRound(n))
				}
			}
		}
	}
	return rep
}

func TestSweepText(t *testing.T) {
	rep := testSweep(t, "keys=100,1k,10k", func(stage, point, round int) int64 {
		if stage == 1 && point == 2 {
			return 0 // not measured
		}
		return int64((stage + 1) * (point + 1) * (1000 + 10*(round-2)))
	})
	rep.Runs[1].Warnings = []string{"Little's law: look"}
	got := rep.String()
	const want = `one: the highest median, 3 000 operations a second, at keys=10 000.
another: the highest median, 4 000 operations a second, at keys=1 000.

keys      stage  ops/s                     p50     p99  not served                    ratio
100         one  1 000    [990..1 010]  8.00ms  8.00ms
100     another  2 000  [1 980..2 020]  4.00ms  4.00ms              2.00 times [2.00..2.00]
1 000       one  2 000  [1 980..2 020]  4.00ms  4.00ms
1 000   another  4 000  [3 960..4 040]  2.00ms  2.00ms              2.00 times [2.00..2.00]
10 000      one  3 000  [2 970..3 030]  2.67ms  2.67ms
Operations a second: median [range] of 3 rounds, a 75 % interval.

one: no errors, no misses, nothing unfinished, nobody starved.
another: no errors, no misses, nothing unfinished, nobody starved. Warning: 1 of
6 rounds; keys=100, round 1: Little's law: look.

Swept: keys, on new servers for each point of each round. Otherwise: 8
connections, as fast as answers come; get=60,put=40 over 1 000 keys, uniform;
values of 30 bytes; seed 1. go1.25, linux/amd64, 2 cores, all shared by servers
and client. CPU is a request's.
`
	if got != want {
		t.Errorf("the report is\n%s\nwant\n%s", got, want)
	}
	benchtest.CheckWidth(t, got, tableColumns)
}

// At given rates the table says what was due, what was done, and where the client was
// measured; that is no verdict on the whole.
func TestSweepOfRates(t *testing.T) {
	rep := testSweep(t, "rate=1k,2k,4k,8k", func(stage, point, round int) int64 {
		return min([]int64{1000, 2000, 4000, 8000}[point], int64(3*(stage+1)*1000)) // 1 and 2 keep up with up to 3000, 6000
	})
	late := testRound(7500)
	load.Record(&late.Slips, time.Second)
	rep.AddAt("8000", "another", 4, late)
	if rep.Verdict != "ok" {
		t.Errorf("the verdict is %q", rep.Verdict)
	}
	got := rep.String()
	for _, want := range []string{
		"one: keeps up with 2 000 requests a second, and is saturated at 4 000.\n",
		"another: keeps up with 4 000 requests a second, and is saturated at 8 000.\n",
		"\n1 000 one 1 000 [1 000..1 000] 8.00ms 8.00ms\n",
		"\n4 000 one 3 000 [3 000..3 000] 2.67ms 2.67ms saturated\n",
		"\n8 000 another 6 000 [6 000..7 500] 1.33ms 1.33ms INVALID",
	} {
		if !strings.Contains(strings.Join(strings.Fields(got), " "), strings.TrimSpace(want)) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	benchtest.CheckWidth(t, got, 100)
	for want, ops := range map[string]int64{"one: saturated from the first rate on, 1 000 requests": 900, "one: keeps up with every rate, 2 000 requests": 2000} {
		rep := testSweep(t, "rate=1k,2k", func(_, point, _ int) int64 { return min(int64(1000*(point+1)), ops) })
		if got := rep.String(); !strings.HasPrefix(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

// The laws are those of the point: 2 requests in flight on each connection there.
func TestSweepLaws(t *testing.T) {
	rep := testSweep(t, "depth=1,2", func(int, int, int) int64 { return 100 })
	for _, run := range rep.Runs {
		if broken := len(run.Warnings) > 0; broken != (run.Point == "2") {
			t.Errorf("8 requests in flight on 8 connections, at depth=%s: warnings %q", run.Point, run.Warnings)
		}
	}
}

// A batch of a rate is so many operations.
func TestSweepDue(t *testing.T) {
	cfg := cluster.Default()
	cfg.Workload.Rate = 200
	sw, err := experiment.ParseSweep("batch=1,8", cfg)
	if err != nil {
		t.Fatal(err)
	}
	rep := New(cfg, []string{"one"}, true)
	rep.Sweep = sw
	rep.AddAt("8", "one", 1, testRound(100))
	if got := rep.Due("8"); got != 1600 || !rep.saturated(&rep.Summary[0]) {
		t.Errorf("%v operations a second are due, want 1600, in 200 requests, of which 100 are too few", got)
	}
}
