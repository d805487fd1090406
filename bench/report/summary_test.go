package report

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

const (
	us = time.Microsecond
	ms = time.Millisecond
)

// closedLoop returns a round of 1 s in which each connection had n requests of this length.
func closedLoop(connections int, n int64, length time.Duration) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: connections}, Dur: time.Second}
	for range int64(connections) * n {
		r.ResponseTimes.Record(length)
		r.Requests++
		r.OK++
	}
	return r
}

// Little's law, the utilization law, and what makes a round invalid.
func TestLaws(t *testing.T) {
	law := func(r *load.Result, depth int) string {
		return strings.Join(littlesLaw(r, cluster.Workload{Depth: depth}), "; ")
	}
	starved, failing, down := closedLoop(1, 100, 10*ms), closedLoop(8, 50, 10*ms), closedLoop(8, 50, 10*ms)
	starved.Connections, starved.Starved = 8, 7
	failing.FailedTime = 4 * time.Second
	down.Fail(client.ErrDown.Error(), client.ErrDown)
	openLoop := func(slip, length time.Duration) *load.Result {
		r := closedLoop(8, 100, length)
		load.Record(&r.Slips, slip)
		return r
	}
	busy := func(servers, clients time.Duration) *load.Result {
		return &load.Result{Dur: time.Second, ServerCPU: servers, ClientCPU: clients}
	}
	with := func(r *load.Result, stalled, longest time.Duration, cores float64) string {
		r.Stalled, r.Stall, r.Cores = stalled, longest, cores
		return invalid(r, 2)
	}
	used := func(clients time.Duration) string { // of 2 s, beside servers that used 1 s
		return strings.Join(reportOf(busy(time.Second, clients)).Runs[0].Warnings, "; ")
	}
	for _, test := range []struct{ name, got, want string }{ // "" for none
		{"busy", law(closedLoop(8, 100, 10*ms), 1), ""},
		{"slightly less", law(closedLoop(8, 95, 10*ms), 1), ""},
		{"half the time idle", law(closedLoop(8, 50, 10*ms), 1), "only 4.00 of 8.00"},
		{"too many", law(closedLoop(8, 110, 10*ms), 1), "is 8.80, and at most 8.00"},
		{"seven of eight starve", law(starved, 1), ""},
		{"half of the time fails", law(failing, 1), ""},
		{"a server was down", law(down, 1), ""},
		{"two in flight each", law(closedLoop(8, 200, 10*ms), 2), ""},
		{"one of two in flight", law(closedLoop(8, 100, 10*ms), 2), "only 8.00 of 16.0"},
		{"the last are cut off", law(closedLoop(8, 1, 600*ms), 1), ""},
		{"nothing was done", law(&load.Result{Counts: load.Counts{Connections: 8, Starved: 8}, Dur: time.Second}, 1), ""},
		{"no round", law(&load.Result{}, 1), ""},

		{"slightly more CPU than there is", used(1050 * ms), ""}, // systems count to about 5 %
		{"more CPU than there is", used(1200 * ms), "utilization law"},

		{"stopped for a tenth", with(closedLoop(8, 100, ms), 101*ms, 50*ms, 2), "had no CPU for 101ms of 1.00s"},
		{"stopped for less", with(closedLoop(8, 100, ms), 99*ms, 50*ms, 2), ""},
		{"stopped once in an open loop", with(openLoop(0, 50*ms), 30*ms, 30*ms, 2), "had no CPU for 30.0ms, and the response time is 50.0ms"},
		{"stopped for little of the response", with(openLoop(0, 200*ms), 30*ms, 30*ms, 2), ""},
		{"a quota used up", with(busy(500*ms, 190*ms), 0, 0, 0.2), "0.190 of the 0.200 cores that its quota allows"},
		{"a quota not used up", with(busy(500*ms, 100*ms), 0, 0, 0.2), ""},
		{"closed loop", invalid(closedLoop(8, 100, ms), 2), ""},
		{"late by less than clocks can tell", invalid(openLoop(ms, ms), 2), ""},
		{"late by little of the response", invalid(openLoop(5*ms, 50*ms), 2), ""},
		{"late by half of the response", invalid(openLoop(5*ms, 10*ms), 2), "although a connection was free: by 5.00ms"},
		{"shared, both busy", invalid(busy(900*ms, 1100*ms), 2), ""},
		{"the client has all", invalid(busy(100*ms, 1850*ms), 2), "used up its CPU, 1.85 of 2 cores"},
		{"the servers have cores of their own", invalid(busy(1900*ms, 1900*ms), 2), ""},
		{"the servers' CPU is not known", invalid(busy(0, 1900*ms), 2), ""},
	} {
		if (test.got == "") != (test.want == "") || !strings.Contains(test.got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, test.got, test.want)
		}
	}
}

func TestParts(t *testing.T) {
	r := closedLoop(1, 40, 100*us)
	r.Nodes = []metrics.Snapshot{
		{Requests: 10, QueueWait: metrics.Timing{Count: 5, Total: 100 * us}, Watched: 1, Locks: metrics.Contention{Waited: 40 * us},
			Table: metrics.Timing{Count: 1, Total: 3 * us}, Turn: metrics.Timing{Count: 5, Total: 600 * us}, MemoryWait: metrics.Timing{Count: 1, Total: 400 * us}},
		{Requests: 30, QueueWait: metrics.Timing{Count: 30, Total: 300 * us}, Table: metrics.Timing{Count: 2, Total: 2 * us},
			Turn: metrics.Timing{Count: 30, Total: 200 * us}},
	}
	// For 40 requests: 400 µs in the queue, 400 for memory, 40 for locks, 10 × 3 + 30 × 1 in the table and
	// 800 in turns, with the wait for memory.
	want := Times{"queue": 10 * us, "memory": 10 * us, "lock": us, "table": 1500, "codec": 7500}
	for service, rest := range map[time.Duration]time.Duration{100 * us: 70 * us, 50 * us: 20 * us, 0: 0} {
		want["rest"] = rest
		if got := parts(r, service); !maps.Equal(got, want) {
			t.Errorf("service time %v: %v, want %v", service, got, want)
		}
	}
	if r.Client = load.Pipelined; parts(r, 100*us) != nil {
		t.Error("requests that share a turn have parts of it each")
	}
	if got := parts(closedLoop(1, 40, us), us); got != nil {
		t.Errorf("servers that said nothing: %v", got)
	}
	// A server without a queue, a lock or a wait for memory has no such parts.
	r = closedLoop(1, 10, us)
	r.Nodes = []metrics.Snapshot{{Requests: 10, Table: metrics.Timing{Count: 1, Total: 100}, Turn: metrics.Timing{Count: 10, Total: 5 * us}}}
	if got, want := parts(r, us), (Times{"table": 100, "codec": 400, "rest": 500}); !maps.Equal(got, want) {
		t.Errorf("a server without a queue: %v, want %v", got, want)
	}
}

func TestMedians(t *testing.T) {
	var runs []*Run
	for i := range time.Duration(3) {
		run := &Run{Figures: Figures{Latency: Times{"p99": i, "max": i}, ClientCPUPerRequest: float64(i)}}
		if i < 2 {
			run.Where = Times{"queue": 10 * i, "lock": 1}
		}
		runs = append(runs, run)
	}
	got := medians(runs)
	if !maps.Equal(got.Latency, Times{"p99": 1, "max": 2}) || !maps.Equal(got.Where, Times{"queue": 5, "lock": 1}) || got.Service != nil || got.ClientCPUPerRequest != 1 {
		t.Errorf("the medians are %+v", got)
	}
}

// What was never answered took longer than all that was: a quantile that lies among it is a
// bound in text, JSON and for benchstat, and others count it. The other kinds of time are of
// what was done, and stay as they are.
func TestUnanswered(t *testing.T) {
	stage := func(unfinished int64, neverGreeted int) *load.Result {
		r := closedLoop(8, 0, 0)
		for i := range 1000 {
			r.ResponseTimes.Record(time.Duration(i+1) * ms)
			for _, h := range []**metrics.Histogram{&r.ServiceTimes, &r.Slips, &r.ConnectTimes} {
				load.Record(h, time.Duration(i+1)*us)
			}
		}
		r.Requests, r.OK, r.Unfinished, r.Starved, r.NeverGreeted = 1000, 1000, unfinished, neverGreeted, neverGreeted
		return r
	}
	for _, test := range []struct {
		name    string
		r       *load.Result
		p99     time.Duration // or a bound
		atLeast string
		bench   string // the end of the line for benchstat
	}{
		{"all answered", stage(0, 0), 990 * ms, "", " 0 failed"},
		{"half a percent unfinished", stage(5, 0), 995 * ms, "max mean p999", " 5 failed"},
		{"a tenth unfinished", stage(111, 0), time.Second, "max mean p99 p999", " 111 failed"},
		{"most unfinished", stage(9000, 0), time.Second, "max mean p50 p90 p99 p999", " 9000 failed"},
		{"never greeted", stage(0, 7), 997 * ms, "max mean p999", " 7 failed"},
	} {
		rep := New(cluster.Default(), []string{"a"}, false)
		rep.Add("a", 1, test.r)
		rep.Summarize()
		run := rep.Runs[0]
		if got := strings.Join(run.AtLeast, " "); got != test.atLeast || !slices.Equal(rep.Summary[0].AtLeast, run.AtLeast) || (run.Latency["p99"]-test.p99).Abs() > 10*ms {
			t.Errorf("%s: p99 %v, at least are %s, want %v and %s", test.name, run.Latency["p99"], got, test.p99, test.atLeast)
		}
		shown, data, lines := forms(t, rep)
		if strings.Contains(data, `"at_least":["max",`) != (test.atLeast != "") {
			t.Errorf("%s: the JSON does not mark what is at least:\n%s", test.name, data)
		}
		_, line, _ := strings.Cut(lines, "\nBenchmark")
		if !strings.HasSuffix(line, test.bench+"\n") ||
			strings.Contains(line, " p99-ns") != !strings.Contains(test.atLeast, "p99 ") ||
			strings.Contains(line, " max-ns") != (test.atLeast == "") || strings.Contains(line, " mean-ns") != (test.atLeast == "") {
			t.Errorf("%s: the line for benchstat is %s", test.name, line)
		}
		for _, kind := range []string{"service-", "late-", "connect-"} {
			wantAll(t, line, " 501759.0 "+kind+"p50-ns", " 1000000.0 "+kind+"max-ns")
		}
		if strings.Count(shown, " 502µs  901µs  991µs  999µs  1.00ms  500µs\n") != 3 {
			t.Errorf("%s: requests without an answer change other times than the response time:\n%s", test.name, shown)
		}
	}
}

// A ratio to a bound is "at most", that of a bound "at least", and two bounds have none.
func TestRatioOfBounds(t *testing.T) {
	cfg := cluster.Default()
	cfg.Workload.Rate = 1000
	for want, stages := range map[string][2]int64{ // the requests of the first stage and the second; 400 are unanswered if negative
		"2.00 times": {400, 200}, "at most 0.500 times": {-200, 400}, "at least 2.00 times": {400, -200},
		"no difference shown": {-400, 200}, "not comparable": {-200, -400},
	} {
		rep := New(cfg, []string{"a", "b"}, false)
		for i, n := range stages {
			r := testRound(max(n, -n))
			r.Unfinished = 400 * max(-n/max(n, -n), 0)
			rep.Add(rep.Stages[i], 1, r)
		}
		if rep.Summarize(); rep.Summary[1].Ratio.String() != want {
			t.Errorf("%v: %q, want %q", stages, rep.Summary[1].Ratio, want)
		}
	}
}

// Of a round in which nobody was answered there is no figure, in whichever form.
func TestNoFiguresOfNothing(t *testing.T) {
	cfg := cluster.Default()
	cfg.Workload.Rate = 1000
	r := &load.Result{Counts: load.Counts{Connections: 8}, Dur: time.Second, ClientCPU: time.Second}
	load.Record(&r.Slips, time.Second)
	r.Fail("other", errors.New("OOM"))
	rep := New(cfg, []string{"redis"}, true)
	rep.Add("redis", 1, r)
	const failed = "failed: redis, round 1: no request was answered: OOM"
	if rep.Verdict != failed || len(rep.Outline().Tables) != 0 {
		t.Errorf("the verdict is %q, want %q, and there are tables:\n%s", rep.Verdict, failed, rep)
	}
	if _, data, lines := forms(t, rep); !strings.Contains(data, `"latency_ns":null`) || strings.Contains(data, `"p99"`) ||
		strings.Contains(lines, "\nBenchmark") {
		t.Errorf("there are figures in\n%s\n%s", data, lines)
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
	cfg := cluster.Default()
	cfg.Workload.Rate = 5000
	for name, test := range map[string]struct {
		unfinished int64
		dur        time.Duration
		want       string
	}{
		"all answered":         {0, time.Second, "Response time at p99, compared with a: b no difference shown."},
		"almost all":           {200, time.Second, "Response time at p99, compared with a: b "}, // 96 %
		"the last takes a bit": {0, 1040 * ms, "Response time at p99, compared with a: b "},
		"requests are long":    {0, 1200 * ms, "Response time at p99, compared with a: b 125 times"},
		"not all":              {1000, time.Second, "SATURATED: b keeps up with 80.0 % of the requests due.\nResponse time at p99, compared with a: b "},
		"all, in time to come": {0, 4 * time.Second, "SATURATED: b keeps up with 25.0 % of the requests due.\n"},
	} {
		rep := New(cfg, []string{"a", "b"}, true)
		for round := 1; round <= 6; round++ {
			r := testRound(5000 - test.unfinished)
			r.Unfinished, r.Dur = test.unfinished, test.dur
			if name == "requests are long" {
				r.ResponseTimes = closedLoop(1, r.Requests, 200*ms).ResponseTimes
			}
			rep.Add("a", round, testRound(5000))
			rep.Add("b", round, r)
		}
		if got := rep.String(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: the report begins with %.150q, want %q", name, got, test.want)
		}
	}
}

// A closed loop that does as much as before, but has a longer tail, is not "no difference".
func TestTailCompared(t *testing.T) {
	rep := New(cluster.Default(), []string{"a", "b"}, true)
	for round := 1; round <= 6; round++ {
		tail := testRound(980)
		for range 20 {
			tail.ResponseTimes.Record(55 * ms)
		}
		tail.Requests, tail.OK = 1000, 1000
		rep.Add("a", round, testRound(1000))
		rep.Add("b", round, tail)
	}
	rep.Env.Missing = []string{"redis: not found"}
	wantAll(t, rep.String(), "\nredis: not found")
	wantAll(t, strings.Join(rep.Outline().Sentences, "\n"), "Operations a second, compared with a: b no difference shown.\n",
		"Response time at p99, compared with a: b 6.88 times [6.88..6.88].")
	if rep.AA = true; !rep.again().P99Ratio.Floor || !rep.Summary[1].Ratio.Floor {
		t.Error("the noise floor is not that of both figures")
	}
}

// again summarizes again, and returns the second stage.
func (rep *Report) again() *Summary {
	rep.Summary = nil
	rep.Summarize()
	return &rep.Summary[1]
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
		if got := rep.Outline().Sentences; strings.Join(got, "\n") != strings.Join(test.want, "\n") { // and nothing of the other stage, which an interrupted sweep did not reach
			t.Errorf("%s %v: %q, want %q", test.sweep, test.ops, got, test.want)
		}
	}
}

// Five to eight rows, whose shares are those of the requests, for a single stage only.
func TestHistogram(t *testing.T) {
	r := closedLoop(1, 0, 0)
	for i := range 1000 { // 100 µs to 1.1 ms, and the last takes 80 ms
		r.ResponseTimes.Record(time.Duration(100+i) * us)
	}
	r.ResponseTimes.Record(80 * ms)
	r.Requests, r.OK = 1001, 1001
	rep := reportOf(r)
	h := rep.Outline().Histogram[0]
	if n := len(h.Rows); n < 5 || n > 8 {
		t.Fatalf("%d rows: %q", n, h.Rows)
	}
	if first, last := h.Rows[0], h.Rows[len(h.Rows)-1]; last[0] != "up to 80.0ms" || last[1] != "0.1 %" || strings.Count(last[2], "#") != 1 || len(first[2]) != len(last[2]) {
		t.Errorf("the rows are %q", h.Rows)
	}
	shown, _, _ := forms(t, rep)
	wantAll(t, shown, "\nresponse time  requests\nup to ")
	rep.Stages = append(rep.Stages, "b")
	rep.Add("b", 1, r)
	if details := rep.Outline().Histogram; details != nil {
		t.Errorf("of two stages: %q", details)
	}
}

// At most ten rows of whole seconds, where each request has a connection.
func TestOverTime(t *testing.T) {
	r := testRound(100)
	load.Record(&r.ConnectTimes, time.Millisecond)
	r.Dur, r.TimeWait = 10500*time.Millisecond, 26402
	r.Series = []int64{400, 400, 40, 40, 40, 40, 0, 80, 8} // none is answered in the last second and a half
	tables := reportOf(r).Outline().Tables
	over := tables[len(tables)-1]
	const want = "[[from 0 s 400] [from 2 s 40.0] [from 4 s 40.0] [from 6 s 40.0] [from 8 s 4.00] [from 10 s 0]]"
	if got := fmt.Sprint(over.Rows); got != want || strings.Join(over.Foot, "") != "26 402 sockets in TIME_WAIT at the end" {
		t.Errorf("%s, foot %q, want %s", got, over.Foot, want)
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
		{2000 * ms, 700 * ms, true, "in 1 of 2 rounds; a, round 2: 0.500 cores."},
		{2000 * ms, 700 * ms, false, "in 1 of 2 rounds; a, round 2: 1.20 cores."}, // the servers are on another machine
		{1740 * ms, 700 * ms, true, ""},
		{2000 * ms, 0, true, ""}, // of foreign servers it may not be known
		{0, 700 * ms, true, ""},
	} {
		rep := New(cluster.Default(), []string{"a"}, test.shared)
		rep.Add("a", 1, testRound(100))
		r := testRound(100)
		r.MachineCPU, r.ServerCPU = test.machine, test.server
		rep.Add("a", 2, r)
		got := strings.Join(rep.Outline().Notes, "\n")
		if warned := strings.Contains(got, "other programs used more than a quarter of a core"); warned != (test.want != "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: the notes are %q", test, got)
		}
	}
}

// Bytes are those of keys and values, in text, JSON and for benchstat.
func TestBytes(t *testing.T) {
	r := testRound(100)
	r.Bytes, r.Dur = 3<<20, 2*time.Second
	shown, data, lines := forms(t, reportOf(r))
	wantAll(t, data, `"bytes_per_s":1572864`)
	wantAll(t, lines, " 1572864.0 B/s")
	wantAll(t, shown, "throughput  ops/s  keys and values\na            50.0       1.50 MiB/s\n")
}
