package report

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/cluster"
)

// The format of a line: https://go.dev/design/14313-benchmark-format.
var benchmarkLine = regexp.MustCompile(`^(Benchmark\S+ [1-9][0-9]*( [0-9.]+ \S+)+|Unit \S+ better=(higher|lower)|[a-z]+: .+|)$`)

func TestGobench(t *testing.T) {
	rep := testReport(func(*cluster.Config) {})
	rep.Nodes = 1
	data, err := rep.Gobench()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
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
	if n := bytes.Count(data, []byte("\nBenchmark")); n != len(rep.Runs) {
		t.Errorf("%d benchmarks, want one for each of %d rounds", n, len(rep.Runs))
	}
	if first, second := bytes.Index(data, []byte("/stage=stage2")), bytes.Index(data, []byte("/stage=mine")); first > second {
		t.Error("the baseline is not the first, as in the tables")
	}
	wantAll(t, string(data), "BenchmarkLockstep/stage=stage2_coarselock/c=8/batch=1-2 8010 124843.9 ns/op 8010.0 ops/s",
		"goos: linux\ngoarch: amd64\n", "cpu: Test CPU\n", "config: arrival=", " mix=get=60,put=40 ", " keys=1000 ", " buckets=1024 ", "Unit p99-ns better=lower\n", " server-cpu-ns/req ")
}

func TestGobenchHostile(t *testing.T) {
	rep := New(cluster.Default(), []string{"a/b c\n=\x1b[2J", "idle"}, true)
	rep.Env.CPUModel = "x\nBenchmarkForged 1 1 ns/op"
	rep.Add(rep.Stages[0], 1, testRound(100))
	rep.Add("idle", 1, &load.Result{Dur: time.Second})
	data, err := rep.Gobench()
	if err != nil {
		t.Fatal(err)
	}
	lines := string(data)
	if strings.Contains(lines, "\nBenchmarkForged") || strings.Contains(lines, "\x1b") || strings.Count(lines, "\nBenchmark") != 1 {
		t.Errorf("the benchmarks are\n%s", lines)
	}
	wantAll(t, lines, "/stage=a_b_c_=\\x1b[2J/c=8/", "# idle, round 1: no request was answered\n")
}

func TestGobenchSweep(t *testing.T) {
	for sweep, want := range map[string]string{
		"keys=100,1k": "/stage=another/c=8/batch=1/keys=1000-2 ",
		"c=1,2":       "/stage=another/c=2/batch=1-2 ",
	} {
		rep := testSweep(t, sweep, func(stage, point, round int) int64 { return 100 })
		data, _ := rep.Gobench()
		wantAll(t, string(data), want)
	}
}
