package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// testReport compares three stages in six rounds: the second does three quarters of
// what the first does, all of it on one connection, and the third about as much.
func testReport(change func(*cluster.Config)) *Report {
	cfg := cluster.Default()
	cfg.Secret = "0123456789abcdef"
	change(&cfg)
	rep := newReport(cfg, []string{"stage2_coarselock", "stage1_singlethread", "mine"}, true)
	rep.Env = Environment{Command: []string{"bench", "compare"}, Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, CPUModel: "Test CPU", Shared: true}
	for round := 1; round <= 6; round++ {
		requests := int64(8000 + 10*round)
		rep.add("mine", round, testRound(requests+int64(50*(round%2)-25)))
		slow := testRound(requests * 3 / 4)
		slow.ResponseTimes = metrics.Histogram{}
		for range slow.Requests { // one connection has it all
			slow.ResponseTimes.Record(time.Second / time.Duration(slow.Requests))
		}
		slow.Starved, slow.NeverGreeted, slow.Unfinished = 7, 6, 7
		slow.fail("other", errors.New("dial timeout"))
		rep.add("stage1_singlethread", round, slow)
		rep.add("stage2_coarselock", round, testRound(requests))
	}
	return rep
}

// testRound returns a round of 1 s with 8 connections, of which each is always busy.
func testRound(requests int64) *Result {
	r := &Result{Counts: Counts{Connections: 8, Requests: requests, OK: requests}, Dur: time.Second, ServerCPU: 700 * time.Millisecond, ClientCPU: 800 * time.Millisecond}
	for range requests {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(requests))
	}
	return r
}

func TestReportJSON(t *testing.T) {
	rep := testReport(func(*cluster.Config) {})
	path := filepath.Join(t.TempDir(), "report.json")
	if err := (output{path, (*Report).json}).write(rep); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(rep.Config.Nodes[0].Addr)) {
		t.Error("the file does not hold the configuration")
	}
	if bytes.Contains(data, []byte("0123456789abcdef")) {
		t.Error("the file holds the secret")
	}
	var file struct {
		Schema int
		Env    map[string]any
		Config map[string]any
		Runs   []struct {
			Stage     string
			Round     int
			Dur       int64 `json:"dur_ns"`
			OK        int64
			Errors    map[string]int64
			Latency   map[string]int64 `json:"latency_ns"`
			Histogram struct{ Buckets [][2]int64 }
		}
		Summary []map[string]any
		Verdict string
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if file.Schema != 2 || file.Verdict != "ok" || len(file.Runs) != 18 || len(file.Summary) != 3 || len(file.Env) == 0 || len(file.Config) == 0 {
		t.Errorf("schema %d, verdict %q, %d runs, %d in the summary; env %v, config %v",
			file.Schema, file.Verdict, len(file.Runs), len(file.Summary), file.Env, file.Config)
	}
	run := file.Runs[1]
	if run.Stage != "stage1_singlethread" || run.Round != 1 || run.Dur != 1e9 || run.OK != 6007 || run.Errors["other"] != 1 {
		t.Errorf("the second run is %+v", run)
	}
	for _, name := range []string{"p50", "p90", "p99", "p999", "max", "mean"} {
		if run.Latency[name] < 166_000 || run.Latency[name] > 168_000 { // 1 s / 6007
			t.Errorf("latency_ns.%s = %d, want about 167 µs", name, run.Latency[name])
		}
	}
	if len(run.Histogram.Buckets) != 1 || run.Histogram.Buckets[0][1] != 6007 {
		t.Errorf("histogram has the buckets %v, want one with 6007", run.Histogram.Buckets)
	}
	if none := file.Runs[0].Errors; none == nil {
		t.Error("errors is null where there are none, want {}")
	}
}

func TestReportWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "report.json")
	rep := newReport(cluster.Default(), []string{"a"}, false)
	for range 2 { // the second time over the first
		if err := (output{path, (*Report).json}).write(rep); err != nil {
			t.Fatal(err)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files beside each other after two writes, want 1", len(files))
	}
	// A report that cannot be encoded, or stored, leaves the one before alone, and nothing beside it.
	before, _ := os.ReadFile(path)
	broken := *rep
	broken.Summary = []Summary{{ServerCPUPerRequest: 1 / zero()}}
	if err := (output{path, (*Report).json}).write(&broken); err == nil {
		t.Error("no error for a report that cannot be encoded")
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
		t.Error("a write that failed changed the file")
	}
	if err := (output{filepath.Join(dir, "missing", "report.json"), (*Report).json}).write(rep); err == nil {
		t.Error("no error for a folder that does not exist")
	}
	if err := (output{dir, (*Report).json}).write(rep); err == nil {
		t.Error("no error for a folder in place of a file")
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files after writes that failed, want 1", len(files))
	}
}

// What is no file, such as /dev/stdout, is written to and not replaced.
func TestReportWriteDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	rep := newReport(cluster.Default(), []string{"a"}, false)
	if err := (output{path, (*Report).json}).write(rep); err == nil {
		t.Error("no error for a socket, which cannot be opened")
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() {
		t.Errorf("the socket is now %v, error %v", info, err)
	}
}

func zero() float64 { return 0 }

func TestReportVerdict(t *testing.T) {
	rep := newReport(cluster.Default(), []string{"a"}, true)
	late := testRound(100)
	record(&late.Slips, time.Second)
	wrong := testRound(100)
	wrong.foundWrong(errors.New("key-017: blue"))
	for _, step := range []struct {
		r    *Result
		want string
	}{
		{testRound(100), "ok"},
		{late, "invalid: a, round 2: the client was late although a connection was free"},
		{testRound(100), "invalid: a, round 2: "},
		{wrong, "wrong data: a, round 4: key-017: blue"},
		{late, "wrong data: a, round 4: "},
		{wrong, "wrong data: a, round 4: "},
	} {
		rep.add("a", len(rep.Runs)+1, step.r)
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
	for want, r := range map[string]*Result{"Little's law": idle, "utilization law": hot, "keys were missing": missing} {
		rep := newReport(cluster.Default(), []string{"a"}, true)
		rep.Env.Cores, rep.Env.CPUs = 2, 2
		rep.add("a", 1, r)
		if got := rep.Runs[0].Warnings; len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("warnings are %q, want one that says %q", got, want)
		}
	}
	for want, change := range map[string]func(r *Result){
		"failed: a, round 1: no request was answered": func(r *Result) { *r = Result{Counts: Counts{Connections: 8, Unfinished: 8}, Dur: 1} },
		"failed: a, round 1: 3 requests panicked inside the server, which logs where": func(r *Result) {
			r.Nodes = []metrics.Snapshot{{Panics: 1}, {Panics: 2}}
		},
		"wrong data: a, round 1: nonsense": func(r *Result) {
			r.Nodes = []metrics.Snapshot{{Panics: 1}}
			r.foundWrong(errors.New("nonsense"))
		},
	} {
		rep, r := newReport(cluster.Default(), []string{"a"}, true), testRound(100)
		change(r)
		if rep.add("a", 1, r); rep.Verdict != want {
			t.Errorf("the verdict is %q, want %q", rep.Verdict, want)
		}
	}
	cfg := cluster.Default()
	cfg.Workload.Rate = 100                             // an open loop keeps nobody busy
	cfg.Workload.Mix = cluster.Mix{Get: 50, Delete: 50} // and here keys go missing
	rep := newReport(cfg, []string{"a"}, false)         // on servers with any number of cores
	idle.Misses, idle.ServerCPU = 1, 1000*time.Second
	rep.add("a", 1, idle)
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
