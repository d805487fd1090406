package report

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/machine"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

const (
	us = time.Microsecond
	ms = time.Millisecond
)

// closedLoop returns a round of 1 s in which each connection had n requests of this length.
func closedLoop(connections int, n int64, length time.Duration) *load.Result {
	r := &load.Result{Dur: time.Second, ServerCPU: 700 * ms, ClientCPU: 800 * ms}
	r.Connections, r.Requests, r.OK = connections, int64(connections)*n, int64(connections)*n
	for range r.Requests {
		r.ResponseTimes.Record(length)
	}
	return r
}

// testRound returns a round of 1 s with 8 connections that are always busy.
func testRound(requests int64) *load.Result {
	r := closedLoop(1, requests, 8*time.Second/time.Duration(requests))
	r.Connections = 8
	return r
}

// newReport returns a report without rounds, of an open loop unless the rate is 0, on two cores.
func newReport(rate float64, stages ...string) *Report {
	cfg := cluster.Default()
	cfg.Workload.Rate = rate
	rep := New(cfg, stages, true)
	rep.Env = machine.Environment{Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, CPUModel: "Test CPU", Shared: true}
	return rep
}

// reportOf returns a report of one stage, a, with these rounds.
func reportOf(rounds ...*load.Result) *Report {
	rep := newReport(0, "a")
	for i, r := range rounds {
		rep.Add("a", i+1, r)
	}
	return rep
}

// compared returns a report of six rounds of two stages, a and b.
func compared(rate float64, a, b *load.Result) *Report {
	rep := newReport(rate, "a", "b")
	for round := 1; round <= 6; round++ {
		rep.Add("a", round, a)
		rep.Add("b", round, b)
	}
	return rep
}

// testReport compares three stages in six rounds: the second does three quarters of
// what the first does, all of it on one connection, and the third about as much.
func testReport(rate float64) *Report {
	rep := newReport(rate, "stage2_coarselock", "stage1_singlethread", "mine")
	for round := 1; round <= 6; round++ {
		requests := int64(8000 + 10*round)
		rep.Add("mine", round, testRound(requests+int64(50*(round%2)-25)))
		slow := closedLoop(1, requests*3/4, time.Second/time.Duration(requests*3/4))
		slow.Connections, slow.Starved, slow.NeverGreeted, slow.Unfinished = 8, 7, 6, 7
		slow.Fail("other", errors.New("dial timeout"))
		rep.Add("stage1_singlethread", round, slow)
		rep.Add("stage2_coarselock", round, testRound(requests))
	}
	return rep
}

// testSweep sweeps two stages in three rounds; ops returns how many operations a second
// a stage does at a point, or 0 to leave out the round.
func testSweep(t *testing.T, list string, ops func(stage, point, round int) int64) *Report {
	t.Helper()
	rep := newReport(0, "one", "another")
	var err error
	if rep.Sweep, err = experiment.ParseSweep(list, cluster.Default()); err != nil {
		t.Fatal(err)
	}
	for round := 1; round <= 3; round++ {
		for i, point := range rep.Sweep.Points {
			for j, stage := range rep.Stages {
				if n := ops(j, i, round); n > 0 {
					r := testRound(n)
					r.Unfinished = max(int64(rep.Workload(point).Rate)-n, 0)
					rep.AddAt(point, stage, round, r)
				}
			}
		}
	}
	return rep
}

// forms returns a report as text, as JSON and for benchstat, after checking that the text is not
// too wide and the JSON, read again, gives the same.
func forms(t *testing.T, rep *Report) (shown, data, lines string) {
	t.Helper()
	saved, err := rep.JSON()
	again, parsed := Parse(append([]byte("\ufeff"), saved...)) // as an editor may save it
	if err := errors.Join(err, parsed); err != nil {
		t.Fatal(err)
	}
	shown, data = rep.String(), string(saved)
	benchtest.CheckWidth(t, shown, text.Columns)
	bench, err := rep.Gobench()
	twice, _ := again.JSON()
	benchAgain, _ := again.Gobench()
	if got := again.String(); got != shown || string(twice) != data || string(benchAgain) != string(bench) || err != nil {
		t.Errorf("read again, the report is\n%s\n%s\n%s (%v), want\n%s\n%s\n%s", got, twice, benchAgain, err, shown, data, bench)
	}
	return shown, data, string(bench)
}

// wantAll fails the test if shown lacks one of these.
func wantAll(t *testing.T, shown string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(shown, want) {
			t.Errorf("there is no %q in\n%s", want, shown)
		}
	}
}

func TestVerdict(t *testing.T) {
	rep := reportOf()
	late, wrong := testRound(100), testRound(100)
	load.Record(&late.Slips, time.Second)
	wrong.FoundWrong(errors.New("key-017: blue"))
	for _, step := range []struct {
		r    *load.Result
		want string
	}{
		{testRound(100), "ok"},
		{late, "invalid: a, round 2: the client was late although a connection was free"},
		{testRound(100), "invalid: a, round 2: "},
		{wrong, "wrong data: a, round 4: key-017: blue"},
		{late, "wrong data: a, round 4: "},
		{wrong, "wrong data: a, round 4: "},
	} {
		rep.Add("a", len(rep.Runs)+1, step.r)
		if !strings.HasPrefix(rep.Verdict, step.want) {
			t.Errorf("after round %d the verdict is %q, want %q", len(rep.Runs), rep.Verdict, step.want)
		}
	}
	const panicked = "panicked: at the disco, mine/store.go:43"
	panics := []metrics.Snapshot{{}, {Errors: map[string]int64{"panic": 3}, Faults: map[string]string{"panic": panicked}}}
	nonsense := load.Counts{Answers: workload.Answers{Wrong: 1, FirstWrong: "nonsense"}}
	for want, r := range map[string]*load.Result{
		"failed: a, round 1: no request was answered": {Counts: load.Counts{Connections: 8, Unfinished: 8}},
		"failed: a, round 1: node 1: 3 × " + panicked: {Counts: load.Counts{Requests: 1}, Nodes: panics},
		"wrong data: a, round 1: nonsense":            {Counts: nonsense, Nodes: panics},
		"failed: a, round 1: node 1 was restarted":    {Restarted: "node 1 was restarted"},
	} {
		if rep := reportOf(r); rep.Verdict != want {
			t.Errorf("the verdict is %q, want %q", rep.Verdict, want)
		}
	}
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

		{"slightly more CPU than there is", used(1050 * ms), ""}, // systems count to about 5 %
		{"more CPU than there is", used(1200 * ms), "utilization law"},

		{"stopped for a tenth", with(closedLoop(8, 100, ms), 101*ms, 50*ms, 2), "had no CPU for 101ms of 1.00s"},
		{"stopped for less", with(closedLoop(8, 100, ms), 99*ms, 50*ms, 2), ""},
		{"stopped once in an open loop", with(openLoop(0, 50*ms), 30*ms, 30*ms, 2), "had no CPU for 30.0ms, and the response time is 50.0ms"},
		{"stopped for little of the response", with(openLoop(0, 200*ms), 30*ms, 30*ms, 2), ""},
		{"a quota used up", with(busy(500*ms, 190*ms), 0, 0, 0.2), "0.190 of the 0.200 cores that its quota allows"},
		{"a quota not used up", with(busy(500*ms, 100*ms), 0, 0, 0.2), ""},
		{"late by less than clocks can tell", invalid(openLoop(ms, ms), 2), ""},
		{"late by little of the response", invalid(openLoop(5*ms, 50*ms), 2), ""},
		{"late by half of the response", invalid(openLoop(5*ms, 10*ms), 2), "although a connection was free: by 5.00ms"},
		{"the client has all", invalid(busy(100*ms, 1850*ms), 2), "used up its CPU, 1.85 of 2 cores"},
		{"the servers have cores of their own", invalid(busy(1900*ms, 1900*ms), 2), ""},
		{"the servers' CPU is not known", invalid(busy(0, 1900*ms), 2), ""},
	} {
		if (test.got == "") != (test.want == "") || !strings.Contains(test.got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, test.got, test.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	idle, missing, stopped := testRound(100), testRound(100), testRound(100)
	idle.Dur, missing.Misses = 2*time.Second, 1
	stopped.Nodes = []metrics.Snapshot{{}, {Suspended: metrics.Timing{Count: 1, Total: 120 * ms}}}
	for want, r := range map[string]*load.Result{"node 1 did not run for 120ms": stopped, "Little's law": idle, "keys were missing": missing} {
		if got := reportOf(r).Runs[0].Warnings; len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("warnings are %q, want one that says %q", got, want)
		}
	}
	rep := newReport(100, "a")                                 // an open loop keeps nobody busy,
	rep.Config.Workload.Mix = cluster.Mix{Get: 50, Delete: 50} // deletes make keys go missing,
	rep.Env.Shared = false                                     // and the cores of other machines are not known
	idle.Misses, idle.ServerCPU = 1, 1000*time.Second
	rep.Add("a", 1, idle)
	if got := rep.Runs[0].Warnings; got != nil {
		t.Errorf("warnings are %q, want none", got)
	}
	// Of servers that nobody else uses, a missing key is a wrong answer.
	rep = reportOf()
	rep.Nodes = 1
	if rep.Add("a", 1, missing); !strings.HasPrefix(rep.Verdict, "wrong data: a, round 1: stored keys were missing") {
		t.Errorf("keys were missing, and the verdict is %q", rep.Verdict)
	}
	// In a sweep of depths there are as many requests in flight as the point says.
	for _, run := range testSweep(t, "depth=1,2", func(int, int, int) int64 { return 100 }).Runs {
		if broken := len(run.Warnings) > 0; broken != (run.Point == "2") {
			t.Errorf("8 requests in flight on 8 connections at depth=%s: warnings %q", run.Point, run.Warnings)
		}
	}
}

// Each client has a row, also one that starves or is missing; each is judged by itself; and nodes
// that work differently are named.
func TestClients(t *testing.T) {
	rep := newReport(0, "here")
	rep.Env.Shared = false
	rep.Config.Clients = []cluster.Client{{Control: "10.0.0.7:7201"}, {Control: "10.0.0.8:7201"}, {Control: "10.0.0.9:7201"},
		{Control: "[fd00::1234:5678]:7201"}}
	part := func(n int64) *load.Result {
		r := testRound(n)
		r.ServerCPU, r.ClientCPU, r.Cores = 0, 100*ms, 2
		r.Nodes = []metrics.Snapshot{{Server: "workers=8\n"}, {Server: "workers=4\n"}}
		return r
	}
	all := []*load.Result{part(1000), part(4000), nil, {Counts: load.Counts{Connections: 8, Starved: 8, NeverGreeted: 8}}}
	sum := new(load.Result)
	for _, i := range []int{0, 1, 3} {
		sum.Merge(all[i])
	}
	sum.Dur, sum.ClientCPU, sum.Nodes = time.Second, time.Second/5, all[0].Nodes
	rep.AddClients("here", 1, sum, all)
	if rep.Verdict != "failed: here, round 1: missing: client 2 (10.0.0.9:7201)" {
		t.Errorf("verdict %q", rep.Verdict)
	}
	got, _, _ := forms(t, rep)
	wantAll(t, got, `
client                             ops/s     p99  CPU/request           notes
client 0 (10.0.0.7:7201)           1 000  8.00ms        100µs
client 1 (10.0.0.8:7201)           4 000  2.00ms       25.0µs
client 2 (10.0.0.9:7201)                                          1 × MISSING
client 3 ([fd00::1234:5678]:7201)      0                       8 of 8 starved
`, "4 clients, each with 8 connections", "nodes 0 (here) and 1 (there) work", "workers is 8 here, 4")
	stalled, slow := part(1000), part(1000)
	stalled.Stalled, slow.Dur = time.Second/2, 2*time.Second
	rep.AddClients("here", 2, sum, []*load.Result{all[1], stalled, slow})
	run := rep.Runs[1]
	if !strings.HasPrefix(run.Invalid, "client 1: ") || run.Clients[1].Invalid == "" || run.Clients[0].Invalid != "" ||
		!strings.HasPrefix(run.Warnings[len(run.Warnings)-1], "client 2: Little's law") {
		t.Errorf("want that client 1 is invalid, and a warning of client 2: %q, %q, %+v", run.Invalid, run.Warnings, run.Clients)
	}
}

func TestParts(t *testing.T) {
	timing := func(n int64, total time.Duration) metrics.Timing { return metrics.Timing{Count: n, Total: total} }
	r := closedLoop(1, 40, 100*us)
	r.Nodes = []metrics.Snapshot{
		{Requests: 10, QueueWait: timing(5, 100*us), MemoryWait: timing(1, 400*us), Watched: 1, Locks: metrics.Contention{Waited: 40 * us},
			Table: timing(1, 3*us), Turn: timing(5, 600*us)},
		{Requests: 30, QueueWait: timing(30, 300*us), Table: timing(2, 2*us), Turn: timing(30, 200*us)},
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
	stage1 := &load.Result{Nodes: []metrics.Snapshot{{Requests: 10, Table: timing(1, 100), Turn: timing(10, 5*us)}}}
	if got, want := parts(stage1, us), (Times{"table": 100, "codec": 400, "rest": 500}); !maps.Equal(got, want) {
		t.Errorf("a server without a queue or a lock: %v, want %v", got, want)
	}
	if r.Client = load.Pipelined; parts(r, 100*us) != nil {
		t.Error("requests that share a turn have parts of it each")
	}
}

// Rounds are paired by number, in any order and even if one is missing.
func TestRatioPairsRounds(t *testing.T) {
	for rate, want := range map[float64]float64{0: 2, 1000: 0.5} { // of the throughput, of p99
		rep := newReport(rate, "a", "b", "idle")
		rep.Add("idle", 1, &load.Result{Dur: time.Second})
		rep.Add("b", 2, testRound(400))
		rep.Add("a", 1, testRound(100))
		rep.Add("a", 2, testRound(200))
		rep.Add("b", 1, testRound(200))
		rep.Add("b", 3, testRound(900)) // interrupted before a's turn
		rep.Summarize()
		got := rep.Summary[1].Ratio
		if (got.Of == "p99") != (rate > 0) || math.Abs(got.Median-want) > 0.02 || got.Rounds != 2 || got.High-got.Low > 0.02 {
			t.Errorf("rate %v: ratio is %+v, want %v in 2 rounds", rate, got, want)
		}
		if all := rep.Summary[1].Latency; all["max"] != 40*ms || (all["p50"]-20*ms).Abs() > ms { // of 20, 40 and 8.9 ms
			t.Errorf("of three rounds, the greatest max and the median are %v, want 40ms and 20ms", all)
		}
		rep.Stages = []string{"idle", "a"}
		if got := rep.again().Ratio; got.Rounds != 0 || got.String() != "not comparable" {
			t.Errorf("rate %v: ratio to a stage that did nothing is %+v", rate, got)
		}
	}
}

// again summarizes again, and returns the second stage.
func (rep *Report) again() *Summary {
	rep.Summary = nil
	rep.Summarize()
	return &rep.Summary[1]
}

// A ratio to a bound is "at most", that of a bound "at least", and two bounds have none.
func TestRatioOfBounds(t *testing.T) {
	for want, stages := range map[string][2]int64{ // the requests of the first stage and the second; 400 are unanswered if negative
		"2.00 times": {400, 200}, "at most 0.500 times": {-200, 400}, "at least 2.00 times": {400, -200},
		"no difference shown": {-400, 200}, "not comparable": {-200, -400},
	} {
		var rounds [2]*load.Result
		for i, n := range stages {
			rounds[i] = testRound(max(n, -n))
			rounds[i].Unfinished = 400 * max(-n/max(n, -n), 0)
		}
		if got := compared(1000, rounds[0], rounds[1]).again().Ratio.String(); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q", stages, got, want)
		}
	}
}

// What was never answered took longer than all that was: a quantile that lies among it is a
// bound in text, JSON and for benchstat, and others count it. The other kinds of time are of
// what was done, and stay as they are.
func TestUnanswered(t *testing.T) {
	for _, test := range []struct {
		unfinished, ungreeted int
		p99                   time.Duration // or a bound
		atLeast               string
	}{{5, 0, 995 * ms, "max mean p999"}, {111, 0, time.Second, "max mean p99 p999"}, {0, 7, 997 * ms, "max mean p999"}} {
		r := closedLoop(8, 0, 0)
		r.Requests, r.OK, r.Unfinished, r.Starved, r.NeverGreeted = 1000, 1000, int64(test.unfinished), test.ungreeted, test.ungreeted
		for i := range time.Duration(1000) {
			r.ResponseTimes.Record((i + 1) * ms)
			for _, h := range []**metrics.Histogram{&r.ServiceTimes, &r.Slips, &r.ConnectTimes} {
				load.Record(h, (i+1)*us)
			}
		}
		rep := reportOf(r)
		shown, data, lines := forms(t, rep)
		run := rep.Runs[0]
		if got := strings.Join(run.AtLeast, " "); got != test.atLeast || !slices.Equal(rep.Summary[0].AtLeast, run.AtLeast) ||
			(run.Latency["p99"]-test.p99).Abs() > 10*ms {
			t.Errorf("%+v: p99 %v, at least are %s", test, run.Latency["p99"], got)
		}
		wantAll(t, data, `"at_least":["max",`)
		_, line, _ := strings.Cut(lines, "\nBenchmark")
		right := strings.HasSuffix(line, fmt.Sprintf(" %d failed\n", test.unfinished+test.ungreeted))
		for _, name := range []string{"p50", "p99", "max", "mean"} { // those that are known
			right = right && strings.Contains(line, " "+name+"-ns") != strings.Contains(test.atLeast+" ", name+" ")
		}
		if !right {
			t.Errorf("%+v: the line for benchstat is %s", test, line)
		}
		for _, kind := range []string{"service-", "late-", "connect-"} {
			wantAll(t, line, " 501759.0 "+kind+"p50-ns", " 1000000.0 "+kind+"max-ns")
		}
		if strings.Count(shown, " 502µs  901µs  991µs  999µs  1.00ms  500µs\n") != 3 {
			t.Errorf("%+v: requests without an answer change other times than the response time:\n%s", test, shown)
		}
	}
}

// Of a round in which nobody was answered there is no figure, in whichever form.
func TestNoFiguresOfNothing(t *testing.T) {
	r := closedLoop(8, 0, 0)
	load.Record(&r.Slips, time.Second)
	r.Fail("other", errors.New("OOM"))
	rep := newReport(1000, "redis")
	rep.Add("redis", 1, r)
	shown, data, lines := forms(t, rep)
	wantAll(t, shown, "FAILED: redis, round 1: no request was answered: OOM\n")
	wantAll(t, data, `"latency_ns":null`)
	wantAll(t, lines, "\n# redis, round 1: no request was answered\n")
	if len(rep.Outline().Tables) > 0 || strings.Contains(data, `"p99"`) || strings.Contains(lines, "\nBenchmark") {
		t.Errorf("there are figures in\n%s\n%s\n%s", shown, data, lines)
	}
}

// A report that is read again shows what it showed before, in each of its forms.
func TestRoundTrip(t *testing.T) {
	interrupted, failed := newReport(0, "not measured", "b", "a"), newReport(0, "a")
	interrupted.Config.Workload.Seed = 1<<64 - 1
	interrupted.Add("a", 1, testRound(100)) // in another order than in the table, and without the baseline
	interrupted.Add("b", 1, testRound(200))
	interrupted.Verdict, failed.Verdict = "interrupted", "failed: died\nits last words"
	for _, rep := range []*Report{interrupted, failed} {
		forms(t, rep)
	}
}

// What no measurement can give is refused; and a small file cannot make bench fill the memory or
// the screen.
func TestParseRefuses(t *testing.T) {
	const negative, large = "run 1 has negative", "it has more than 10000 rounds"
	for _, test := range []struct{ stages, runs, want string }{
		{`"a"`, `{"stage":"a"}` + strings.Repeat(`,{}`, MaxRounds-1), ""}, // as many as compare makes
		{`"a"`, `{"stage":"a"}` + strings.Repeat(`,{}`, MaxRounds), large},
		{`"` + strings.Repeat("a", 8<<10+1) + `"`, `{}`, large},
		{`"a"`, `{"stage":"` + strings.Repeat("{", 1<<22) + `"}`, large},
		{`""`, `{"requests":-1}`, negative}, {`""`, `{"errors":{"other":-1}}`, negative}, {`""`, `{"dur_ns":-1}`, negative},
		{`""`, `{"connections":1,"starved":2}`, negative}, {`""`, `{},{"requests":10}`, "run 2 has negative"},
		{`"a","b","a"`, ``, `a stage is listed twice: ["a" "b" "a"]`},
	} {
		_, err := Parse([]byte(`{"schema":2,"config":{},"stages":[` + test.stages + `],"runs":[` + test.runs + `]}`))
		if got := fmt.Sprint(err); !strings.HasPrefix(got, cmp.Or(test.want, "<nil>")) {
			t.Errorf("stages %.20s, runs %.40s: error %.80s, want %q", test.stages, test.runs, got, test.want)
		}
	}
}

// The package comment lists each name in the JSON, and no other.
func TestSchema(t *testing.T) {
	source, err := os.ReadFile("report.go")
	if err != nil {
		t.Fatal(err)
	}
	listed, found := make(map[string]bool), make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^//\t *\.([a-z0-9_.]+)`).FindAllSubmatch(source, -1) {
		for _, name := range strings.Split(string(m[1]), ".") { // sweep.points
			listed[name] = true
		}
	}
	for _, v := range []any{Report{}, experiment.Sweep{}, Run{}, Summary{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); !f.Anonymous && f.IsExported() && name != "-" {
				found[name] = true
			}
		}
	}
	if !maps.Equal(listed, found) {
		t.Errorf("the package comment lists\n%v, and in the JSON are\n%v", listed, found)
	}
}
