package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
)

func TestParseSweep(t *testing.T) {
	for list, want := range map[string]string{
		"c=8": "8", "c= 8, 4": "8 4", "keys=1k,30k": "1000 30000", "rate=2.5k,5k": "2500 5000", "workers=1,8": "1 8",
		"value=16,16..1024": "16 16..1024", "work=0s,100us,1ms,spin 1ms": "0s 100µs 1ms spin 1ms",
	} {
		sw, err := parseSweep(list, cluster.Default())
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		if got := strings.Join(sw.Points, " "); got != want || len(sw.cfgs) != len(sw.Points) {
			t.Errorf("%s is %s with %d configurations, want %s", list, got, len(sw.cfgs), want)
		}
	}
	sw, err := parseSweep("work=0s,spin 1ms", cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []cluster.Work{{}, {Spin: true, Time: time.Millisecond}} {
		if got := sw.cfgs[i]; got.Server.Work != want || got.Server.Workers != 8 || got.Workload.Keys != 1000 {
			t.Errorf("point %d has the configuration %+v, want work %v and nothing else", i, got, want)
		}
	}
}

func TestSweepUsage(t *testing.T) {
	for args, want := range map[string]string{
		"-sweep c":                      `workload.connections: "" is not in`,
		"-sweep nodes=1,2":              `"nodes" is not PROPERTY=VALUES with one of the properties c, rate,`,
		"-sweep c=1,,2":                 `workload.connections: "" is not in`,
		"-sweep c=0,4":                  "workload.connections: 0 is not in 1..100000",
		"-sweep c=1,2,1":                "c: 1 is given twice",
		"-sweep keys=1000,1k":           "keys: 1000 is given twice",
		"-sweep c=1.5":                  "workload.connections: 1.5 is not in",
		"-sweep c=1,2 -c 3":             "c is swept, and a flag gives it one value",
		"-sweep c=1,2 -connections 3":   "c is swept, and a flag gives it one value",
		"-sweep work=0s,1ms -work 1ms":  "work is swept, and a flag gives it one value",
		"-sweep work=1":                 "server.work: 1 is not in",
		"-sweep batch=1,1024 -value 99": "-sweep: batch=1024: workload.batch: 1024 operations",
		"-sweep c=1,2 -rounds 0":        "-rounds: 0 is not in 1..1000",
	} {
		code, stdout, stderr := bench(t, append([]string{"compare"}, strings.Fields(args)...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("compare %s: exit code %d, stderr %q, want 2 and %q", args, code, stderr, want)
		}
	}
}

// What is not asked for is short, and what is asked for is not changed.
func TestSweepDefaults(t *testing.T) {
	for args, want := range map[string]string{
		"-sweep c=1,2":                           "3 rounds of 500ms",
		"-sweep c=1,2 -rounds 5 -duration 100ms": "5 rounds of 100ms",
		"-sweep c=1,2 -ops 10":                   "3 rounds of 0s",
		"-sweep rate=1k,2k -rounds 6 -value 100": "6 rounds of 500ms",
	} {
		o, err := parseCommand(t, "compare", strings.Fields(args)...)
		if err != nil {
			t.Fatal(err)
		}
		sw, err := o.useSweep()
		if err != nil {
			t.Fatal(err)
		}
		for i := range sw.cfgs {
			if got := fmt.Sprintf("%d rounds of %v", o.rounds, sw.cfgs[i].Workload.Duration); got != want {
				t.Errorf("%s, point %d: %s, want %s", args, i, got, want)
			}
		}
	}
}

// Each measurement is made on servers of its own, which have what the point says.
func TestCompareSweep(t *testing.T) {
	emptyFolder(t)
	m := mistake(t, "")
	path := filepath.Join(t.TempDir(), "out.json")
	code, stdout, stderr := bench(t, "compare", "-stages", "testdata/mistaken", "-sweep", "work=0s,20ms", "-rounds", "2",
		"-duration", "100ms", "-keys", "5", "-o", path)
	if code != exitOK {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	m.gone(4)
	var s struct {
		Sweep struct {
			Property string
			Points   []string
		}
		Runs    []struct{ Stage, Point string }
		Summary []struct {
			Stage, Point string
			OpsPerSecond struct {
				Median float64
				Rounds int
			} `json:"ops_per_s"`
		}
		Verdict string
	}
	readJSON(t, path, &s)
	if s.Sweep.Property != "work" || !slices.Equal(s.Sweep.Points, []string{"0s", "20ms"}) || s.Verdict != "ok" || len(s.Runs) != 4 || len(s.Summary) != 2 {
		t.Fatalf("the file holds %+v", s)
	}
	for i, sum := range s.Summary {
		if sum.Stage != "mistaken" || sum.Point != s.Sweep.Points[i] || sum.OpsPerSecond.Rounds != 2 {
			t.Errorf("summary %d is %+v", i, sum)
		}
	}
	// One lock, held for 20 ms an operation: 50 a second.
	if free, held := s.Summary[0].OpsPerSecond.Median, s.Summary[1].OpsPerSecond.Median; held > 51 || free < 2*held {
		t.Errorf("%v operations a second without work, %v with 20 ms of it", free, held)
	}
	for _, want := range []string{"mistaken: the highest median, ", "median [range] of 2 rounds", "\n0s mistaken ", "\n20ms mistaken ", "Swept: work, "} {
		if got := strings.Join(strings.Fields(stdout), " "); !strings.Contains(got, strings.Join(strings.Fields(want), " ")) {
			t.Errorf("there is no %q in\n%s", want, stdout)
		}
	}
}

// Interrupted after its first measurement, a sweep prints that one.
func TestSweepInterrupted(t *testing.T) {
	emptyFolder(t)
	m := mistake(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "out.json")
	type outcome struct {
		code           int
		stdout, stderr string
	}
	done := make(chan outcome, 1)
	go func() { // ends soon after cancel
		code, stdout, stderr := benchUntil(ctx, "compare", "-stages", "testdata/mistaken", "-sweep", "value=30,16..64", "-duration", "100ms", "-keys", "20", "-o", path)
		done <- outcome{code, stdout, stderr}
	}()
	m.started(2, false)
	cancel()
	select {
	case o := <-done:
		if o.code != exitInterrupted || o.stderr != "bench: interrupted\n" || !strings.HasPrefix(o.stdout, "INTERRUPTED\nmistaken: the highest median, ") {
			t.Errorf("exit code %d, stderr %q, stdout\n%s", o.code, o.stderr, o.stdout)
		}
		if s := readSaved(t, path); s.Verdict != "interrupted" || len(s.Runs) != 1 {
			t.Errorf("verdict %q with %d runs, want interrupted with 1", s.Verdict, len(s.Runs))
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on 10s after it was interrupted")
	}
	m.gone(2)
}

// testSweep is a sweep of two stages with made up rounds; ops says how many operations
// a second a stage has at a point.
func testSweep(t *testing.T, text string, ops func(stage, point, round int) int64) *Report {
	t.Helper()
	sw, err := parseSweep(text, cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	rep := newReport(cluster.Default(), []string{"one", "another"}, true)
	rep.Sweep = sw
	rep.Env = Environment{Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, Shared: true}
	for round := 1; round <= 3; round++ {
		for i, point := range sw.Points {
			for j, stage := range rep.Stages {
				if n := ops(j, i, round); n > 0 {
					rep.addAt(point, stage, round, testRound(n))
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
	checkWidth(t, got, tableColumns)
}

// At given rates the table says what was due, what was done, and where the client was
// measured; that is no verdict on the whole.
func TestSweepOfRates(t *testing.T) {
	rep := testSweep(t, "rate=1k,2k,4k,8k", func(stage, point, round int) int64 {
		return min([]int64{1000, 2000, 4000, 8000}[point], int64(3*(stage+1)*1000)) // 1 and 2 keep up with up to 3000, 6000
	})
	late := testRound(7500)
	record(&late.Slips, time.Second)
	rep.addAt("8000", "another", 4, late)
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
	checkWidth(t, got, 100)
	for want, ops := range map[string]int64{"one: saturated from the first rate on, 1 000 requests": 900, "one: keeps up with every rate, 2 000 requests": 2000} {
		rep := testSweep(t, "rate=1k,2k", func(_, point, _ int) int64 { return min(int64(1000*(point+1)), ops) })
		if got := rep.String(); !strings.HasPrefix(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

// A wrong answer is a verdict, wherever it was given.
func TestSweepWrongData(t *testing.T) {
	rep := testSweep(t, "c=1,2", func(int, int, int) int64 { return 100 })
	wrong := testRound(100)
	wrong.foundWrong(errors.New("key-017: blue"))
	rep.addAt("2", "one", 4, wrong)
	if want := "wrong data: one at c=2, round 4: key-017: blue"; rep.Verdict != want || !strings.HasPrefix(rep.String(), "WRONG DATA: one at c=2, round 4") {
		t.Errorf("the verdict is %q, want %q; the report is\n%s", rep.Verdict, want, rep)
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

// With -noretry a point has the refusals that its servers had.
func TestSweepNoRetry(t *testing.T) {
	var turns atomic.Int64
	cfg, _ := startCluster(t, 1, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := locked(n)
		return serveAll(ctx, ln, n, func(c *node.Conn) {
			if turns.Add(1)%5 == 0 {
				n.Refuse(c)
			} else {
				n.Answer(c, apply)
			}
		})
	})
	cfg.Workload.Duration = 50 * time.Millisecond
	for _, once := range []bool{false, true} {
		r, err := measureNew(t.Context(), cfg, once, 1)
		if err != nil {
			t.Fatal(err)
		}
		if (r.Errors[client.ErrBusy.Error()] > 0) != once || r.Refusals == 0 || r.Requests == 0 {
			t.Errorf("noretry %v: %d requests failed as busy, of %d refusals", once, r.Errors[client.ErrBusy.Error()], r.Refusals)
		}
	}
}

// A batch of a rate is so many operations.
func TestSweepDue(t *testing.T) {
	cfg := cluster.Default()
	cfg.Workload.Rate = 200
	sw, err := parseSweep("batch=1,8", cfg)
	if err != nil {
		t.Fatal(err)
	}
	rep := newReport(cfg, []string{"one"}, true)
	rep.Sweep = sw
	rep.addAt("8", "one", 1, testRound(100))
	if got := rep.due("8"); got != 1600 || !rep.saturated(&rep.Summary[0]) {
		t.Errorf("%v operations a second are due, want 1600, in 200 requests, of which 100 are too few", got)
	}
}
