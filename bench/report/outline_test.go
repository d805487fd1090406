package report

import (
	"errors"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/machine"
	"lockstep/bench/stats"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

func TestText(t *testing.T) {
	got := testReport(func(*cluster.Config) {}).String()
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

// An open loop of one stage that goes wrong in every way.
func TestTextOfTroubles(t *testing.T) {
	cfg := cluster.Default()
	w := &cfg.Workload
	w.Rate, w.Arrival, w.Batch, w.Conn, w.Keys, w.Duration = 5000, "poisson", 4, "per-request", 1, time.Second
	rep := New(cfg, []string{"servers"}, false)
	rep.Env = machine.Environment{Go: "go1.25", OS: "darwin", Arch: "arm64", Cores: 1, CPUs: 8}
	r := testRound(4000)
	load.Record(&r.Slips, 300*ms)
	load.Record(&r.ServiceTimes, ms)
	load.Record(&r.ConnectTimes, 999)
	r.Nodes = []metrics.Snapshot{{Requests: 1000, Uptime: time.Second, Watched: 1, Locks: metrics.Contention{Acquired: 25_000, Waited: 2000 * us},
		QueueWait: metrics.Timing{Count: 1000, Total: 1000 * us}, Table: metrics.Timing{Count: 10, Total: 30 * us}, Turn: metrics.Timing{Count: 1000, Total: 9000 * us}}}
	r.ServerCPU, r.Refusals, r.Misses, r.Mismatches, r.Unfinished = 0, 5, 12_345, 1, 41
	r.Fail("busy", errors.New("why"))
	rep.Add("servers", 1, r)
	got := rep.String()
	const want = `INVALID: servers, round 1: the client was late although a connection was free:
by 300ms at p99, in a response time of 2.00ms (stop other programs on this
machine, or lower -rate)
servers: 4 000 operations a second, >2.00ms at p99.

throughput  ops/s
servers     4 000
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
	shown, _, _ := forms(t, rep)
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
	for _, test := range []struct {
		name string
		rep  func(rep *Report)
		want string
	}{
		{"noise floor", func(rep *Report) {
			rep.Stages = []string{"stage2_coarselock", "mine", "stage1_singlethread"}
			rep.AA = true
		},
			"compared with stage2_coarselock: mine 1.00 times [0.997..1.00] (noise floor), stage1_singlethread 0.750 times [0.750..0.750] (where 7 of 8 connections starved)."},
		{"within the noise", func(rep *Report) { rep.AA = true },
			"stage1_singlethread 0.750 times [0.750..0.750] (noise floor) (where 7 of 8 connections starved), mine no difference shown."},
		{"first stage starved", func(rep *Report) { rep.Stages = []string{"stage1_singlethread", "mine"} },
			"compared with stage1_singlethread (where 7 of 8 connections starved): mine 1.33 times"},
	} {
		rep := testReport(func(*cluster.Config) {})
		test.rep(rep)
		rep.Summarize()
		if got := strings.Join(rep.comparison(), " "); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q in it", test.name, got, test.want)
		}
	}
}

// Figures that are as long as they get fit, too.
func TestWidth(t *testing.T) {
	for _, rate := range []float64{0, 123_456} {
		rep := testReport(func(c *cluster.Config) { c.Workload.Rate = rate })
		rep.Summarize()
		for i := range rep.Summary {
			s := &rep.Summary[i]
			s.OpsPerSecond = stats.Interval{Median: 1_230_000, Low: 1_220_000, High: 1_240_000, Level: 0.969, Rounds: 6}
			if r := s.Ratio; r != nil {
				r.Interval, r.NoDifference, r.Floor = stats.Interval{Median: 1_230, Low: 1_220, High: 1_240, Level: 0.969, Rounds: 6}, false, rate > 0
				s.P99Ratio = r
			}
		}
		benchtest.CheckWidth(t, rep.String(), text.Columns)
	}
	rep := testSweep(t, "rate=1k,8k,900k", func(stage, _, round int) int64 { return int64(12_000 + 20_000*stage + 100*round) })
	rep.Stages = []string{"stage1_singlethread", "stage4_bucketlock"}
	for i := range rep.Runs {
		rep.Runs[i].Stage, rep.Runs[i].Starved, rep.Runs[i].Unfinished = rep.Stages[i%2], 7, 1e6
	}
	benchtest.CheckWidth(t, rep.String(), text.Columns)
}
