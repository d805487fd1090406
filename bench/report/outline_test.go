package report

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/machine"
	"lockstep/common/metrics"
)

func TestText(t *testing.T) {
	got := testReport(0).String()
	const want = `Operations a second, compared with stage2_coarselock: stage1_singlethread 0.750
times [0.750..0.750] (where 7 of 8 connections starved), mine no difference
shown.
Response time at p99, compared with stage2_coarselock: stage1_singlethread 0.167
times [0.167..0.167] (where 7 of 8 connections starved), mine no difference
shown.

throughput           ops/s
stage2_coarselock    8 040  [8 010..8 060]
stage1_singlethread  6 030  [6 010..6 050]
mine                 8 040  [8 000..8 080]
ops/s: median [97 % interval] of 6 rounds

ratio                               ops/s                   p99
stage1_singlethread  0.750 [0.750..0.750]  0.167 [0.167..0.167]
mine                  no difference shown   no difference shown

response time          p50    p90    p99   p99.9     max    mean
stage2_coarselock    996µs  996µs  996µs   996µs   999µs   996µs
stage1_singlethread  166µs  166µs  166µs  >166µs  >166µs  >166µs
mine                 996µs  996µs  996µs   996µs  1.00ms   996µs

CPU per request      server  client
stage2_coarselock    87.1µs  99.6µs
stage1_singlethread   116µs   133µs
mine                 87.1µs  99.6µs

stage1_singlethread: 6 × other, 42 unfinished, 7 of 8 connections starved (6
never greeted)
all others: no errors, no misses, nothing unfinished, nobody starved
Warning: stage1_singlethread, 6 of 6 rounds; round 1: the first error: dial
timeout.

8 connections, as fast as answers come; get=60,put=40 over 1 000 keys, uniform;
30-byte values; seed 1. go1.25, linux/amd64, 2 cores (Test CPU), shared by
servers and client.
`
	if got != want {
		t.Errorf("the report is\n%s\nwant\n%s", got, want)
	}
}

// An open loop of one stage that goes wrong in every way. Bytes are those of keys and values.
func TestTextOfTroubles(t *testing.T) {
	rep := newReport(5000, "servers")
	rep.Env = machine.Environment{Go: "go1.25", OS: "darwin", Arch: "arm64", Cores: 1, CPUs: 8}
	w := &rep.Config.Workload
	w.Arrival, w.Batch, w.Conn, w.Keys, w.Duration = "poisson", 4, "per-request", 1, time.Second
	r := testRound(4000)
	load.Record(&r.Slips, 300*ms)
	load.Record(&r.ServiceTimes, ms)
	load.Record(&r.ConnectTimes, 999)
	r.Nodes = []metrics.Snapshot{{Requests: 1000, Uptime: time.Second, Watched: 1, QueueWait: metrics.Timing{Count: 1000, Total: ms},
		Table: metrics.Timing{Count: 10, Total: 30 * us}, Turn: metrics.Timing{Count: 1000, Total: 9 * ms},
		Locks: metrics.Contention{Acquired: 25_000, Waited: 2 * ms}}}
	r.ServerCPU, r.Refusals, r.Misses, r.Mismatches, r.Unfinished, r.Bytes = 0, 5, 12_345, 1, 41, 3<<19
	r.Fail("busy", errors.New("why"))
	rep.Add("servers", 1, r)
	got, _, _ := forms(t, rep)
	const want = `INVALID: servers, round 1: the client was late although a connection was free:
by 300ms at p99, in a response time of 2.00ms (stop other programs on this
machine, or lower -rate)
servers: 4 000 operations a second, >2.00ms at p99.

throughput  ops/s  keys and values
servers     4 000       1.50 MiB/s
ops/s: one round: no interval

response time     p50     p90      p99    p99.9      max     mean
servers        2.00ms  2.00ms  >2.00ms  >2.00ms  >2.00ms  >2.00ms

CPU per request     server  client
servers          not known   200µs

service time     p50     p90     p99   p99.9     max    mean
servers       1.00ms  1.00ms  1.00ms  1.00ms  1.00ms  1.00ms

client late by    p50    p90    p99  p99.9    max   mean
servers         300ms  300ms  300ms  300ms  300ms  300ms

time to connect    p50    p90    p99  p99.9    max   mean
servers          999ns  999ns  999ns  999ns  999ns  999ns

a request's time   queue    lock   table   codec   rest  lock held
servers           1.00µs  2.00µs  3.00µs  4.00µs  990µs     7.50 %

servers: 1 × busy, 5 refused (busy) and sent again, 12 345 × miss, 1 × mismatch,
41 unfinished
Warning: servers, 1 of 1 round; round 1: stored keys were missing, and the
workload deletes none.

8 connections, 5 000 requests due a second, poisson; get=60,put=40 over 1 key,
uniform; 30-byte values; seed 1; batch=4; conn=per-request; duration=1s. go1.25,
darwin/arm64, 1 core; the client uses 8 at once.
`
	if got != want {
		t.Errorf("the report is\n%s\nwant\n%s", got, want)
	}
}

func TestTextOfSweep(t *testing.T) {
	rep := testSweep(t, "keys=100,1k,10k", func(stage, point, round int) int64 {
		if stage == 1 && point == 2 {
			return 0
		}
		return int64((stage + 1) * (point + 1) * (1000 + 10*(round-2)))
	})
	rep.Runs[1].Warnings = []string{"Little's law: look"}
	shown, _, lines := forms(t, rep)
	wantAll(t, lines, "/stage=another/c=8/batch=1/keys=1000-2 ")
	wantAll(t, shown, "one still grows at keys=10 000: 3 000 operations a second, 2.67ms at p99.\nanother still grows at keys=1 000: ", `
keys    stage    ops/s      ±     p50     p99
100     one      1 000  1.0 %  8.00ms  8.00ms
100     another  2 000  1.0 %  4.00ms  4.00ms
1 000   one      2 000  1.0 %  4.00ms  4.00ms
1 000   another  4 000  1.0 %  2.00ms  2.00ms
10 000  one      3 000  1.0 %  2.67ms  2.67ms
ops/s: median ± range of 3 rounds; a verdict takes 6

ratio                        ops/s                   p99
100     another  2.00 [2.00..2.00]  0.500 [0.500..0.500]
1 000   another  2.00 [2.00..2.00]  0.500 [0.500..0.500]

no errors, no misses, nothing unfinished, nobody starved
Warning: another at keys=100, 1 of 3 rounds; round 1: Little's law: look.

Swept: keys. Otherwise: 8 connections`)
}

// A sweep of rates says where stages are saturated and where the client was measured,
// which is not a verdict on the whole.
func TestTextOfRates(t *testing.T) {
	rep := testSweep(t, "rate=1k,2k,4k,8k", func(stage, point, round int) int64 {
		return min(1000<<point, int64(3*(stage+1)*1000)) // at most 3000 and 6000
	})
	late := testRound(7500)
	load.Record(&late.Slips, time.Second)
	rep.AddAt("8000", "another", 4, late)
	busy, starved := testRound(500), testRound(500)
	busy.Errors, starved.Starved = map[string]int64{"server busy": 500}, 2
	for round := range 3 {
		rep.AddAt("1000", "busy", round, busy)
		rep.AddAt("2000", "busy", round, starved)
	}
	rep.Stages = append(rep.Stages, "busy")
	if rep.Verdict != "ok" {
		t.Errorf("the verdict is %q", rep.Verdict)
	}
	shown, _, _ := forms(t, rep)
	wantAll(t, strings.Join(strings.Fields(shown), " "),
		" 1 000 one 1 000 0 % 8.00ms 8.00ms",
		" 1 000 busy 500 0 % 16.0ms 16.0ms 50.0 %",
		" 2 000 busy 500 0 % 16.0ms 16.0ms 25.0 %",
		" 4 000 one 3 000 0 % 2.67ms >2.67ms saturated",
		" 8 000 another 6 000 25 % 1.33ms >1.33ms INVALID",
		" 1 000 busy 2.00 [2.00..2.00]",
		"one at rate=4 000: 3 000 unfinished",
		"INVALID: another at rate=8 000, round 4: the client was late although")
}

// What the first sentence claims, and what it does not.
func TestComparison(t *testing.T) {
	const baseline, slow, mine = "stage2_coarselock", "stage1_singlethread", "mine"
	for _, test := range []struct {
		stages []string
		aa     bool
		want   string
	}{
		{[]string{baseline, mine, slow}, true, "compared with stage2_coarselock: mine 1.00 times [0.997..1.00] (noise floor), " +
			"stage1_singlethread 0.750 times [0.750..0.750] (where 7 of 8 connections starved)."},
		{[]string{baseline, slow, mine}, true, // within the noise
			"stage1_singlethread 0.750 times [0.750..0.750] (noise floor) (where 7 of 8 connections starved), mine no difference shown."},
		{[]string{slow, mine}, false, "compared with stage1_singlethread (where 7 of 8 connections starved): mine 1.33 times"},
	} {
		rep := testReport(0)
		rep.Stages, rep.AA = test.stages, test.aa
		wantAll(t, strings.Join(rep.Outline().Sentences, " "), test.want)
	}
}

// Who was not served, why, and who had to dial again.
func TestNotServed(t *testing.T) {
	r := testRound(100)
	r.Connections, r.Starved, r.NeverGreeted, r.NotServed, r.RefusedDials = 16, 12, 12, "all 4 places are taken (max_connections)", 2345
	wantAll(t, strings.Join(strings.Fields(reportOf(r).String()), " "),
		"a (where 12 of 16 connections starved): 100 operations a second",
		"2 345 × refused and dialled again, 12 of 16 connections starved (12 never greeted: all 4 places are taken (max_connections))")
}

// An open loop that cannot keep up says so before anything else.
func TestSaturated(t *testing.T) {
	const againstA = "Response time at p99, compared with a: b "
	for _, test := range []struct {
		r          *load.Result
		unfinished int64
		dur        time.Duration
		want       string
	}{
		{testRound(5000), 0, time.Second, againstA + "no difference shown."},
		{testRound(4800), 200, time.Second, againstA}, // 96 %
		{closedLoop(1, 5000, 200*ms), 0, 1200 * ms, againstA + "125 times"},
		{testRound(4000), 1000, time.Second, "SATURATED: b keeps up with 80.0 % of the requests due.\n" + againstA},
		{testRound(5000), 0, 4 * time.Second, "SATURATED: b keeps up with 25.0 % of the requests due.\n"}, // all, in time to come
	} {
		test.r.Unfinished, test.r.Dur = test.unfinished, test.dur
		if got := compared(5000, testRound(5000), test.r).String(); !strings.HasPrefix(got, test.want) {
			t.Errorf("after %v, %d unfinished: the report begins with %.150q, want %q", test.dur, test.unfinished, got, test.want)
		}
	}
}

// A closed loop that does as much as before, but has a longer tail, is not "no difference".
func TestTailCompared(t *testing.T) {
	tail := testRound(980)
	for range 20 {
		tail.ResponseTimes.Record(55 * ms)
	}
	tail.Requests, tail.OK = 1000, 1000
	rep := compared(0, testRound(1000), tail)
	rep.Env.Missing = []string{"redis: not found"}
	wantAll(t, rep.String(), "\nredis: not found", "Operations a second, compared with a: b no difference shown.\n",
		"Response time at p99, compared with a: b 6.88 times [6.88..6.88].")
	if rep.AA = true; !rep.again().P99Ratio.Floor || !rep.Summary[1].Ratio.Floor {
		t.Error("the noise floor is not that of both figures")
	}
}

// Where the throughput ceases to grow, and what lies beyond.
func TestBends(t *testing.T) {
	for _, test := range []struct {
		sweep string
		ops   []int64
		want  []string
	}{
		{"c=8,1,2,4", []int64{4000, 1000, 2000, 3800}, []string{ // by value, not in the order given
			"one bends at c=4: 3 800 operations a second, 2.11ms at p99.", "one peaks, with little more, at c=8: 4 000 operations a second, 2.00ms at p99."}},
		{"c=1,2,4,8", []int64{1000, 2000, 3000, 4000}, []string{"one still grows at c=8: 4 000 operations a second, 2.00ms at p99."}},
		{"c=1,2,4,8", []int64{1000, 4000, 3000, 2000}, []string{"one peaks at c=2: 4 000 operations a second, 2.00ms at p99."}},
		{"rate=1k,2k,4k", []int64{1000, 2000, 4000}, []string{"one keeps up even at rate=4 000: 4 000 operations a second, 2.00ms at p99."}},
		{"rate=1k,2k,4k", []int64{500, 500, 500}, []string{"one is SATURATED at rate=1 000: 500 operations a second, >16.0ms at p99."}},
		{"rate=1k,2k,4k", []int64{1000, 2000, -2000}, []string{"one keeps up even at rate=2 000: 2 000 operations a second, 4.00ms at p99."}},
		{"rate=1k", []int64{-1000}, []string{"one has no valid point."}},
		{"c=1,2", []int64{1000, -2000}, []string{"one at c=1: 1 000 operations a second, 8.00ms at p99."}}, // no peak: who knows what follows
	} {
		rep := testSweep(t, test.sweep, func(stage, point, _ int) int64 { return max(test.ops[point], -test.ops[point]) * int64(1-stage) })
		for i := range rep.Runs {
			if test.ops[i%len(test.ops)] < 0 {
				rep.Runs[i].Invalid = "the client was late"
			}
		}
		// There is nothing of the other stage, which an interrupted sweep did not reach.
		if got := rep.Outline().Sentences; !slices.Equal(got, test.want) {
			t.Errorf("%s %v: %q, want %q", test.sweep, test.ops, got, test.want)
		}
	}
}

// Five to eight rows, whose shares are those of the requests, for a single stage only.
func TestHistogram(t *testing.T) {
	r := closedLoop(1, 1, 80*ms)
	for i := range time.Duration(1000) { // 100 µs to 1.1 ms
		r.ResponseTimes.Record((100 + i) * us)
	}
	r.Requests, r.OK = 1001, 1001
	shown, _, _ := forms(t, reportOf(r))
	wantAll(t, shown, "\nresponse time  requests\nup to ")
	drawn := reportOf(r).Outline().Histogram[0].Rows
	first, last := drawn[0], drawn[len(drawn)-1]
	if len(drawn) < 5 || len(drawn) > 8 || len(first[2]) != len(last[2]) ||
		last[0] != "up to 80.0ms" || last[1] != "0.1 %" || strings.Count(last[2], "#") != 1 {
		t.Errorf("the rows are %q", drawn)
	}
	if details := compared(0, r, r).Outline().Histogram; details != nil {
		t.Errorf("of two stages: %q", details)
	}
}

// At most ten rows of whole seconds, where each request has a connection.
func TestOverTime(t *testing.T) {
	r := testRound(100)
	load.Record(&r.ConnectTimes, ms)
	r.Dur, r.TimeWait = 10500*ms, 26402
	r.Series = []int64{400, 400, 40, 40, 40, 40, 0, 80, 8} // none is answered in the last second and a half
	tables := reportOf(r).Outline().Tables
	last := tables[len(tables)-1]
	const want = "[[from 0 s 400] [from 2 s 40.0] [from 4 s 40.0] [from 6 s 40.0] [from 8 s 4.00] [from 10 s 0]]"
	if got := fmt.Sprint(last.Rows); got != want || strings.Join(last.Foot, "") != "26 402 sockets in TIME_WAIT at the end" {
		t.Errorf("%s, foot %q, want %s", got, last.Foot, want)
	}
	r.ConnectTimes = nil
	if len(reportOf(r).Outline().Tables) != len(tables)-2 { // without the times to connect, too
		t.Error("connections are kept, and there is a table")
	}
}

// Other programs that keep more than a quarter of a core busy are warned of, where it is known
// what servers and client have used.
func TestOtherPrograms(t *testing.T) {
	for _, test := range []struct {
		machine, server time.Duration
		shared          bool
		want            string
	}{
		{2000 * ms, 700 * ms, true, "a, round 2: 0.500 cores. Stop them and measure again."},
		{2000 * ms, 700 * ms, false, "a, round 2: 1.20 cores. Stop them and measure again."}, // the servers are on another machine
		{1740 * ms, 700 * ms, true, ""},
		{2000 * ms, 0, true, ""}, // of foreign servers it may not be known
	} {
		r := testRound(100)
		r.MachineCPU, r.ServerCPU = test.machine, test.server
		rep := newReport(0, "a")
		rep.Env.Shared = test.shared
		rep.Add("a", 1, testRound(100))
		rep.Add("a", 2, r)
		_, got, _ := strings.Cut(strings.Join(rep.Outline().Notes, "\n"), "used more than a quarter of a core in 1 of 2 rounds; ")
		if got != test.want {
			t.Errorf("%+v: the notes end in %q", test, got)
		}
	}
}

// The format of a line: https://go.dev/design/14313-benchmark-format.
var benchmarkLine = regexp.MustCompile(`^(Benchmark\S+ [1-9][0-9]*( [0-9.]+ \S+)+|Unit \S+ better=(higher|lower)|[a-z]+: .+|)$`)

// Foreign strings cannot forge a line.
func TestGobench(t *testing.T) {
	rep := testReport(0)
	rep.Nodes, rep.Env.CPUModel = 1, "x\nBenchmarkForged 1 1 ns/op"
	rep.Stages = append(rep.Stages, "a/b c\n=\x1b[2J")
	rep.Add(rep.Stages[3], 1, testRound(100))
	_, _, data := forms(t, rep)
	for _, line := range strings.Split(data, "\n") {
		if !benchmarkLine.MatchString(line) {
			t.Errorf("not in the format: %q", line)
		}
	}
	if n := strings.Count(data, "\nBenchmark"); n != len(rep.Runs) {
		t.Errorf("%d benchmarks, want one for each of %d rounds", n, len(rep.Runs))
	}
	if first, second := strings.Index(data, "/stage=stage2"), strings.Index(data, "/stage=mine"); first > second {
		t.Error("the baseline is not the first, as in the tables")
	}
	wantAll(t, data, "BenchmarkLockstep/stage=stage2_coarselock/c=8/batch=1-2 8010 124843.9 ns/op 8010.0 ops/s",
		"/stage=a_b_c_=\\x1b[2J/c=8/", "goos: linux\ngoarch: amd64\n", "cpu: x BenchmarkForged 1 1 ns/op\n", "config: arrival=",
		" mix=get=60,put=40 ", " keys=1000 ", " buckets=1024 ", "Unit p99-ns better=lower\n", " server-cpu-ns/req ")
	_, _, data = forms(t, testSweep(t, "c=1,2", func(int, int, int) int64 { return 100 }))
	wantAll(t, data, "/stage=another/c=2/batch=1-2 ")
}
