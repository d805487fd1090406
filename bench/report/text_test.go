package report

import (
	"errors"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/stats"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

func TestReportText(t *testing.T) {
	got := testReport(func(*cluster.Config) {}).String()
	const want = `Operations a second, compared with stage2_coarselock: stage1_singlethread 0.750
times [0.750..0.750], no difference shown for mine.

throughput           ops/s                                       ratio
stage2_coarselock    8 040  [8 010..8 060]
stage1_singlethread  6 030  [6 010..6 050]  0.750 times [0.750..0.750]
mine                 8 040  [8 000..8 080]         no difference shown
median [97 % interval] of 6 rounds

response time          p50    p99   p99.9     max  server CPU  client CPU
stage2_coarselock    996µs  996µs   996µs   999µs      87.1µs      99.6µs
stage1_singlethread  166µs  166µs  >166µs  >166µs       116µs       133µs
mine                 996µs  996µs   996µs  1.00ms      87.1µs      99.6µs

stage2_coarselock: no errors, no misses, nothing unfinished, nobody starved
stage1_singlethread: 6 × other, 42 unfinished, 7 of 8 connections starved (6
never greeted)
mine: no errors, no misses, nothing unfinished, nobody starved
Warning: stage1_singlethread, 6 of 6 rounds; round 1: the first error: dial
timeout.

8 connections, as fast as answers come; get=60,put=40 over 1 000 keys, uniform;
values of 30 bytes; seed 1. go1.25, linux/amd64, 2 cores (Test CPU), all shared
by servers and client. CPU is a request's.
`
	if got != want {
		t.Errorf("the report is\n%s\nwant\n%s", got, want)
	}
}

// An open loop of one stage that goes wrong in every way.
func TestReportTextTroubles(t *testing.T) {
	cfg := cluster.Default()
	w := &cfg.Workload
	w.Rate, w.Arrival, w.Batch, w.Conn = 5000, "poisson", 4, "per-request"
	rep := New(cfg, []string{"servers"}, false)
	rep.Env = Environment{Go: "go1.25", OS: "darwin", Arch: "arm64", Cores: 8, CPUs: 8, ClockStep: time.Microsecond}
	r := testRound(4000)
	load.Record(&r.Slips, 300*time.Millisecond)
	load.Record(&r.ServiceTimes, time.Millisecond)
	load.Record(&r.ConnectTimes, 999*time.Nanosecond)
	r.Refusals = 5
	const us = time.Microsecond
	r.Nodes = []metrics.Snapshot{{Requests: 1000, Uptime: time.Second, Watched: 1, Locks: metrics.Contention{Acquired: 25_000, Waited: 2000 * us},
		QueueWait: metrics.Timing{Count: 1000, Total: 1000 * us}, Table: metrics.Timing{Count: 10, Total: 30 * us}, Turn: metrics.Timing{Count: 1000, Total: 9000 * us}}}
	r.ServerCPU, r.Wrong, r.Misses, r.Mismatches = 0, 0, 12_345, 3
	r.Fail("busy", errors.New("why"))
	rep.Add("servers", 1, r)
	got := rep.String()
	const want = `INVALID: servers, round 1: the client was late although a connection was free:
by 300ms at p99, in a response of 2.00ms (stop what else runs on this machine,
or lower -rate)
servers: 4 000 operations a second, 2.00ms at p99.

throughput  ops/s
servers     4 000
one round: nothing is known about chance

response time     p50     p99   p99.9     max  server CPU  client CPU
servers        2.00ms  2.00ms  2.00ms  2.00ms   not known       200µs

service time     p50     p99   p99.9     max
servers       1.00ms  1.00ms  1.00ms  1.00ms

client late by    p50    p99  p99.9    max
servers         300ms  300ms  300ms  300ms

time to connect      p50      p99    p99.9      max
servers          <1.00µs  <1.00µs  <1.00µs  <1.00µs

a request's time   queue    lock   table   codec   rest  lock held
servers           1.00µs  2.00µs  3.00µs  4.00µs  990µs     7.50 %

servers: 1 × busy, 5 refused (busy) and sent again, 12 345 misses, 3 mismatches
servers answered 4 000 requests a second of the 5 000 due.
Warning: servers, 1 of 1 rounds; round 1: keys were missing that had been
stored, and nobody deletes any.

8 clients, a connection for each request, 5 000 requests a second due, poisson;
get=60,put=40 in batches of 4 over 1 000 keys, uniform; values of 30 bytes; seed
1. go1.25, darwin/arm64, 8 cores. CPU is a request's.
`
	if got != want {
		t.Errorf("the report is\n%s\nwant\n%s", got, want)
	}
}

// What the first sentence claims, and what it does not.
func TestSentence(t *testing.T) {
	for _, test := range []struct {
		name string
		rep  func(rep *Report)
		want string
	}{
		{"few rounds", func(rep *Report) { rep.Runs = rep.Runs[:15] },
			"compared with stage2_coarselock: stage1_singlethread 0.750 times [0.750..0.750], mine 1.00 times [0.997..1.00]. " +
				"No verdict: so few rounds (5) give a range, and six an interval."},
		{"against itself", func(rep *Report) {
			rep.Stages = []string{"stage2_coarselock", "mine", "stage1_singlethread"}
			rep.AA = true
		},
			"compared with stage2_coarselock: mine itself 1.00 times [0.997..1.00], stage1_singlethread 0.750 times [0.750..0.750]."},
		{"within the noise", func(rep *Report) {
			rep.Stages = []string{"stage2_coarselock", "stage1_singlethread", "mine"}
			rep.AA = true
		}, "stage1_singlethread itself 0.750 times [0.750..0.750], no difference shown for mine."},
		{"first one starved", func(rep *Report) { rep.Stages = []string{"stage1_singlethread", "mine"} },
			"compared with stage1_singlethread (where 7 of 8 connections starved): mine 1.33 times"},
	} {
		rep := testReport(func(*cluster.Config) {})
		test.rep(rep)
		rep.Summary = rep.Summarize()
		if got := rep.Sentence(); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q in it", test.name, got, test.want)
		}
	}
}

func TestReportTextBeforeTheFirstRound(t *testing.T) {
	rep := New(cluster.Default(), []string{"a"}, true)
	rep.Verdict = "interrupted"
	if got, want := rep.String(), "INTERRUPTED\nNo round was measured.\n"; got != want {
		t.Errorf("the report is %q, want %q", got, want)
	}
}

func TestReportWidth(t *testing.T) {
	for _, rate := range []float64{0, 123_456} {
		rep := testReport(func(c *cluster.Config) { c.Workload.Rate = rate })
		benchtest.CheckWidth(t, rep.String(), 80)
		for i := range rep.Summary { // figures as long as they get
			s := &rep.Summary[i]
			s.OpsPerSecond = stats.Interval{Median: 1_230_000, Low: 1_220_000, High: 1_240_000, Level: 0.969, Rounds: 6}
			s.Latency = Latency{12_300, 12_300, 12_300, 12_300, 12_300, 12_300}
			if r := s.Ratio; r != nil {
				r.Interval, r.NoDifference = stats.Interval{Median: 1_230, Low: 1_220, High: 1_240, Level: 0.969, Rounds: 6}, false
			}
		}
		benchtest.CheckWidth(t, rep.String(), 100)
		if rate > 0 && !strings.HasPrefix(rep.String(), "Response time at p99, compared with ") {
			t.Errorf("the report of an open loop begins with %.40q", rep.String())
		}
	}
}
