package report

import (
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/machine"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// testReport compares three stages in six rounds: the second does three quarters of
// what the first does, all of it on one connection, and the third about as much.
func testReport(change func(*cluster.Config)) *Report {
	cfg := cluster.Default()
	change(&cfg)
	rep := New(cfg, []string{"stage2_coarselock", "stage1_singlethread", "mine"}, true)
	rep.Env = machine.Environment{Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, CPUModel: "Test CPU", Shared: true}
	for round := 1; round <= 6; round++ {
		requests := int64(8000 + 10*round)
		rep.Add("mine", round, testRound(requests+int64(50*(round%2)-25)))
		slow := testRound(requests * 3 / 4)
		slow.ResponseTimes = metrics.Histogram{}
		for range slow.Requests {
			slow.ResponseTimes.Record(time.Second / time.Duration(slow.Requests))
		}
		slow.Starved, slow.NeverGreeted, slow.Unfinished = 7, 6, 7
		slow.Fail("other", errors.New("dial timeout"))
		rep.Add("stage1_singlethread", round, slow)
		rep.Add("stage2_coarselock", round, testRound(requests))
	}
	return rep
}

// testRound returns a round of 1 s with 8 connections that are always busy.
func testRound(requests int64) *load.Result {
	r := closedLoop(8, 0, 0)
	r.Requests, r.OK, r.ServerCPU, r.ClientCPU = requests, requests, 700*ms, 800*ms
	for range requests {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(requests))
	}
	return r
}

// testSweep sweeps two stages in three rounds; ops returns how many operations a second
// a stage does at a point, or 0 to leave out the round.
func testSweep(t *testing.T, list string, ops func(stage, point, round int) int64) *Report {
	t.Helper()
	sweep, err := experiment.ParseSweep(list, cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	rep := New(cluster.Default(), []string{"one", "another"}, true)
	rep.Sweep = sweep
	rep.Env = machine.Environment{Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, Shared: true}
	for round := 1; round <= 3; round++ {
		for i, point := range sweep.Points {
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

// reportOf returns a report of one stage, a, with these rounds, on two cores.
func reportOf(rounds ...*load.Result) *Report {
	rep := New(cluster.Default(), []string{"a"}, true)
	rep.Env.Cores, rep.Env.CPUs = 2, 2
	for i, r := range rounds {
		rep.Add("a", i+1, r)
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
	rep = testSweep(t, "c=1,2", func(int, int, int) int64 { return 100 })
	rep.AddAt("2", "one", 4, wrong)
	if want := "wrong data: one at c=2, round 4: key-017: blue"; rep.Verdict != want {
		t.Errorf("after a wrong answer in a sweep the verdict is %q, want %q", rep.Verdict, want)
	}
	panics := []metrics.Snapshot{{}, {Errors: map[string]int64{"panic": 3}, Faults: map[string]string{"panic": "panicked: at the disco, mine/store.go:43"}}}
	for want, r := range map[string]*load.Result{
		"failed: a, round 1: no request was answered":                              {Counts: load.Counts{Connections: 8, Unfinished: 8}},
		"failed: a, round 1: node 1: 3 × panicked: at the disco, mine/store.go:43": {Counts: load.Counts{Requests: 1}, Nodes: panics},
		"wrong data: a, round 1: nonsense":                                         {Counts: load.Counts{Answers: workload.Answers{Wrong: 1, FirstWrong: "nonsense"}}, Nodes: panics},
		"failed: a, round 1: node 1 was restarted":                                 {Restarted: "node 1 was restarted"},
	} {
		if rep := reportOf(r); rep.Verdict != want {
			t.Errorf("the verdict is %q, want %q", rep.Verdict, want)
		}
	}
}

// A report that is read again shows what it showed before, in each of its forms.
func TestRoundTrip(t *testing.T) {
	interrupted := New(cluster.Default(), []string{"not measured", "b", "a"}, true)
	interrupted.Add("a", 1, testRound(100)) // in another order than in the table, and without the baseline
	interrupted.Add("b", 1, testRound(200))
	interrupted.Verdict = "interrupted"
	failed := New(cluster.Default(), []string{"a"}, false)
	failed.Verdict = "failed: died\nits last words"
	swept := func(_, point, round int) int64 { return int64(100*point + round) }
	for name, rep := range map[string]*Report{
		"compare": testReport(func(c *cluster.Config) { c.Workload.Seed = 1<<64 - 1 }), "interrupted": interrupted, "failed": failed,
		"sweep": testSweep(t, "rate=5k,10k,60k", swept), "spin": testSweep(t, "work=spin 0s,spin 1ms", swept),
	} {
		t.Run(name, func(t *testing.T) { forms(t, rep) })
	}
}

func TestWarnings(t *testing.T) {
	idle, hot, missing := testRound(100), testRound(100), testRound(100)
	idle.Dur = 2 * time.Second
	hot.ServerCPU = 3 * time.Second
	missing.Misses = 1
	stopped, paused := testRound(100), testRound(100)
	stopped.Nodes = []metrics.Snapshot{{}, {Suspended: metrics.Timing{Count: 1, Total: 120 * ms}}}
	paused.Nodes = []metrics.Snapshot{{Suspended: metrics.Timing{Count: 1, Total: 100 * ms}}} // a tenth of the round, and no more
	paused.Misses = 1
	for want, r := range map[string]*load.Result{"node 1 did not run for 120ms": stopped, "stored keys were": paused,
		"Little's law": idle, "utilization law": hot, "keys were missing": missing} {
		if got := reportOf(r).Runs[0].Warnings; len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("warnings are %q, want one that says %q", got, want)
		}
	}
	cfg := cluster.Default()
	cfg.Workload.Rate = 100                             // an open loop keeps nobody busy,
	cfg.Workload.Mix = cluster.Mix{Get: 50, Delete: 50} // deletes make keys go missing,
	rep := New(cfg, []string{"a"}, false)               // and the cores of other machines are not known
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

// Rounds are paired by number, in any order and even if one is missing.
func TestRatioPairsRounds(t *testing.T) {
	for rate, want := range map[float64]float64{0: 2, 1000: 0.5} { // of the throughput, of p99
		cfg := cluster.Default()
		cfg.Workload.Rate = rate
		rep := New(cfg, []string{"a", "b", "idle"}, false)
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
		rep.Stages = []string{"idle", "a"}
		if got := rep.again().Ratio; got.Rounds != 0 || got.String() != "not comparable" {
			t.Errorf("rate %v: ratio to a stage that did nothing is %+v", rate, got)
		}
	}
}

// What no measurement can give is refused.
func TestParseImpossible(t *testing.T) {
	for run, want := range map[string]string{
		`{"requests":-1}`: "run 1 has negative", `{"errors":{"other":-1}}`: "run 1 has negative", `{"dur_ns":-1}`: "run 1 has negative",
		`{},{"requests":10}`: "run 2 has negative", `{"connections":1,"starved":2}`: "run 1 has negative",
		`{}],"stages":["a","b","a"`: `a stage is listed twice: ["a" "b" "a"]`,
	} {
		_, err := Parse(fmt.Appendf(nil, `{"schema":2,"config":{},"stages":[""],"runs":[%s]}`, run))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", run, err, want)
		}
	}
}

// A small file cannot make bench fill the memory or the screen.
func TestParseLimits(t *testing.T) {
	parse := func(stage, of string, runs int) error {
		_, err := Parse([]byte(`{"schema":2,"config":{},"stages":["` + stage + `"],"runs":[{"stage":"` + of + `"}` + strings.Repeat(`,{}`, runs-1) + `]}`))
		return err
	}
	if err := parse("a", "a", MaxRounds); err != nil { // as many as compare makes
		t.Error(err)
	}
	for _, err := range []error{parse("a", "a", MaxRounds+1), parse(strings.Repeat("a", 8<<10+1), "a", 1), parse("a", strings.Repeat("{", 1<<22), 1)} {
		if err == nil || !strings.Contains(err.Error(), "more than 10000 rounds") {
			t.Errorf("error is %v, want a limit", err)
		}
	}
}

// Each client has a row, also one that starves or is missing; each is judged by itself; and nodes
// that work differently are named.
func TestClients(t *testing.T) {
	cfg := cluster.Default()
	cfg.Clients = []cluster.Client{{Control: "10.0.0.7:7201"}, {Control: "10.0.0.8:7201"}, {Control: "10.0.0.9:7201"}, {Control: "[fd00::1234:5678]:7201"}}
	rep := New(cfg, []string{"here"}, false)
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
	rep = New(cfg, []string{"here"}, false)
	rep.AddClients("here", 1, sum, []*load.Result{all[1], stalled, slow})
	run := rep.Runs[0]
	if run.Invalid == "" || !strings.HasPrefix(rep.Verdict, "invalid: here, round 1: client 1: ") || run.Clients[1].Invalid == "" || run.Clients[0].Invalid != "" {
		t.Errorf("verdict %q, clients %+v, want that client 1 is invalid", rep.Verdict, run.Clients)
	}
	if !strings.HasPrefix(strings.Join(run.Warnings[len(run.Warnings)-1:], ""), "client 2: Little's law") {
		t.Errorf("warnings %q, want one of client 2", run.Warnings)
	}
}

// The format of a line: https://go.dev/design/14313-benchmark-format.
var benchmarkLine = regexp.MustCompile(`^(Benchmark\S+ [1-9][0-9]*( [0-9.]+ \S+)+|Unit \S+ better=(higher|lower)|[a-z]+: .+|)$`)

func TestGobench(t *testing.T) {
	rep := testReport(func(*cluster.Config) {})
	rep.Nodes = 1
	_, _, data := forms(t, rep)
	for _, line := range strings.Split(data, "\n") {
		units := make(map[string]bool)
		fields := strings.Fields(line)
		for i := 3; i < len(fields) && strings.HasPrefix(line, "Bench"); i += 2 {
			if units[fields[i]] {
				t.Errorf("%s twice in %q", fields[i], line)
			}
			units[fields[i]] = true
		}
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
		"goos: linux\ngoarch: amd64\n", "cpu: Test CPU\n", "config: arrival=", " mix=get=60,put=40 ", " keys=1000 ", " buckets=1024 ", "Unit p99-ns better=lower\n", " server-cpu-ns/req ")
}

func TestGobenchHostile(t *testing.T) {
	rep := New(cluster.Default(), []string{"a/b c\n=\x1b[2J", "idle"}, true)
	rep.Env.CPUModel = "x\nBenchmarkForged 1 1 ns/op"
	rep.Add(rep.Stages[0], 1, testRound(100))
	rep.Add("idle", 1, &load.Result{Dur: time.Second})
	_, _, lines := forms(t, rep)
	if strings.Contains(lines, "\nBenchmarkForged") || strings.Contains(lines, "\x1b") || strings.Count(lines, "\nBenchmark") != 1 {
		t.Errorf("the benchmarks are\n%s", lines)
	}
	wantAll(t, lines, "/stage=a_b_c_=\\x1b[2J/c=8/", "# idle, round 1: no request was answered\n")
}

func TestGobenchSweep(t *testing.T) {
	for sweep, want := range map[string]string{"keys=100,1k": "/batch=1/keys=1000-2 ", "c=1,2": "/c=2/batch=1-2 "} {
		_, _, lines := forms(t, testSweep(t, sweep, func(stage, point, round int) int64 { return 100 }))
		wantAll(t, lines, "/stage=another/c=", want)
	}
}

// The package comment lists each name in the JSON, and no other.
func TestSchema(t *testing.T) {
	source, err := os.ReadFile("report.go")
	if err != nil {
		t.Fatal(err)
	}
	listed, found := map[string]bool{}, map[string]bool{}
	within := ""
	for _, m := range regexp.MustCompile(`(?m)^//\t( *)\.([a-z0-9_.]+)`).FindAllSubmatch(source, -1) {
		if name := string(m[2]); len(m[1]) > 0 {
			listed[within+name] = true
		} else {
			listed[name], within = true, name+"[]."
		}
	}
	var add func(path string, typ reflect.Type)
	add = func(path string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			inner := f.Type
			if inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			switch {
			case f.Anonymous:
				add(path, f.Type)
			case name == "runs", name == "summary":
				add(name+"[].", inner)
			case name == "sweep":
				add(name+".", inner)
			case name == "-" || !f.IsExported():
			case listed[path+name], path == "summary[]." && listed["runs[]."+name]:
				found[path+name] = true
			default:
				t.Errorf("the package comment does not list %s%s", path, name)
			}
		}
	}
	add("", reflect.TypeFor[Report]())
	found["runs"], found["summary"] = true, true
	for path := range listed {
		if found[path] {
			continue
		}
		t.Errorf("the package comment lists %s, which is not in the JSON", path)
	}
}
