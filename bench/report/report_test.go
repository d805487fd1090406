package report

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// testReport compares three stages in six rounds: the second does three quarters of
// what the first does, all of it on one connection, and the third about as much.
func testReport(change func(*cluster.Config)) *Report {
	cfg := cluster.Default()
	cfg.Secret = "0123456789abcdef"
	change(&cfg)
	rep := New(cfg, []string{"stage2_coarselock", "stage1_singlethread", "mine"}, true)
	rep.Env = Environment{Command: []string{"bench", "compare"}, Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, CPUModel: "Test CPU", Shared: true}
	for round := 1; round <= 6; round++ {
		requests := int64(8000 + 10*round)
		rep.Add("mine", round, testRound(requests+int64(50*(round%2)-25)))
		slow := testRound(requests * 3 / 4)
		slow.ResponseTimes = metrics.Histogram{}
		for range slow.Requests { // one connection has it all
			slow.ResponseTimes.Record(time.Second / time.Duration(slow.Requests))
		}
		slow.Starved, slow.NeverGreeted, slow.Unfinished = 7, 6, 7
		slow.Fail("other", errors.New("dial timeout"))
		rep.Add("stage1_singlethread", round, slow)
		rep.Add("stage2_coarselock", round, testRound(requests))
	}
	return rep
}

// testRound returns a round of 1 s with 8 connections, of which each is always busy.
func testRound(requests int64) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: requests, OK: requests}, Dur: time.Second, ServerCPU: 700 * time.Millisecond, ClientCPU: 800 * time.Millisecond}
	for range requests {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(requests))
	}
	return r
}

func TestReportVerdict(t *testing.T) {
	rep := New(cluster.Default(), []string{"a"}, true)
	late := testRound(100)
	load.Record(&late.Slips, time.Second)
	wrong := testRound(100)
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
}

func TestReportWarnings(t *testing.T) {
	idle := testRound(100)
	idle.Dur = 2 * time.Second
	hot := testRound(100)
	hot.ServerCPU = 3 * time.Second
	missing := testRound(100)
	missing.Misses = 1
	for want, r := range map[string]*load.Result{"Little's law": idle, "utilization law": hot, "keys were missing": missing} {
		rep := New(cluster.Default(), []string{"a"}, true)
		rep.Env.Cores, rep.Env.CPUs = 2, 2
		rep.Add("a", 1, r)
		if got := rep.Runs[0].Warnings; len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("warnings are %q, want one that says %q", got, want)
		}
	}
	for want, change := range map[string]func(r *load.Result){
		"failed: a, round 1: no request was answered": func(r *load.Result) { *r = load.Result{Counts: load.Counts{Connections: 8, Unfinished: 8}, Dur: 1} },
		"failed: a, round 1: 3 requests panicked inside the server, which logs where": func(r *load.Result) {
			r.Nodes = []metrics.Snapshot{{Panics: 1}, {Panics: 2}}
		},
		"wrong data: a, round 1: nonsense": func(r *load.Result) {
			r.Nodes = []metrics.Snapshot{{Panics: 1}}
			r.FoundWrong(errors.New("nonsense"))
		},
	} {
		rep, r := New(cluster.Default(), []string{"a"}, true), testRound(100)
		change(r)
		if rep.Add("a", 1, r); rep.Verdict != want {
			t.Errorf("the verdict is %q, want %q", rep.Verdict, want)
		}
	}
	cfg := cluster.Default()
	cfg.Workload.Rate = 100                             // an open loop keeps nobody busy
	cfg.Workload.Mix = cluster.Mix{Get: 50, Delete: 50} // and here keys go missing
	rep := New(cfg, []string{"a"}, false)               // on servers with any number of cores
	idle.Misses, idle.ServerCPU = 1, 1000*time.Second
	rep.Add("a", 1, idle)
	if got := rep.Runs[0].Warnings; got != nil {
		t.Errorf("warnings are %q, want none", got)
	}
}

func TestEnvironment(t *testing.T) {
	env := environment(true)
	if env.Go == "" || env.OS == "" || env.Arch == "" || env.CPUs < 1 || env.Cores < 1 || len(env.Command) == 0 || !env.Shared || env.Time.IsZero() {
		t.Errorf("environment is %+v", env)
	}
	path := filepath.Join(t.TempDir(), "cpuinfo")
	if got := cpuModel(path); got != "" {
		t.Errorf("without a file the CPU is %q", got)
	}
	text := "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Test CPU @ 2 GHz: fast\n\nmodel name\t: another\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := cpuModel(path), "Test CPU @ 2 GHz: fast"; got != want {
		t.Errorf("the CPU is %q, want %q", got, want)
	}
}
