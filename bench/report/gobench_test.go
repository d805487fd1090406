package report

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/cluster"
)

func TestGobench(t *testing.T) {
	rep := testReport(func(*cluster.Config) {})
	rep.Nodes = 1
	data, err := rep.Gobench()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	benchmarks := 0
	for _, line := range lines {
		key, _, isConfig := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, "Benchmark"):
			benchmarks++
			checkBenchmark(t, line)
		case strings.HasPrefix(line, "Unit "):
		case !isConfig || key == "" || strings.ContainsAny(key, " \t") || key != strings.ToLower(key):
			t.Errorf("this line is none of the format: %q", line)
		}
	}
	if benchmarks != len(rep.Runs) {
		t.Errorf("%d benchmarks, want one for each of %d rounds", benchmarks, len(rep.Runs))
	}
	if first, second := bytes.Index(data, []byte("/stage=stage2")), bytes.Index(data, []byte("/stage=mine")); first > second {
		t.Error("the baseline is not the first, though in the table it is")
	}
	const want = "BenchmarkLockstep/stage=stage2_coarselock/c=8/batch=1-2 8010 124843.9 ns/op 8010 ops/s"
	for _, want := range []string{want, "goos: linux\ngoarch: amd64\n", "cpu: Test CPU\n", `"keys":1000,`, `server: {"buckets":1024,`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("there is no %q in\n%s", want, data)
		}
	}
}

// checkBenchmark checks a line as https://go.dev/design/14313-benchmark-format has it:
// a name, the number of iterations, and pairs of a figure and its unit.
func checkBenchmark(t *testing.T, line string) {
	t.Helper()
	fields := strings.Fields(line)
	if len(fields) < 4 || len(fields)%2 != 0 {
		t.Errorf("%d fields, want an even number: %q", len(fields), line)
		return
	}
	if n, err := strconv.Atoi(fields[1]); err != nil || n < 1 {
		t.Errorf("%q iterations in %q", fields[1], line)
	}
	units := make(map[string]bool)
	for i := 2; i < len(fields); i += 2 {
		if _, err := strconv.ParseFloat(fields[i], 64); err != nil || units[fields[i+1]] {
			t.Errorf("the figure %s %s: %v, or twice, in %q", fields[i], fields[i+1], err, line)
		}
		units[fields[i+1]] = true
	}
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
	text := string(data)
	if strings.Contains(text, "\nBenchmarkForged") || strings.Contains(text, "\x1b") || strings.Count(text, "\nBenchmark") != 1 {
		t.Errorf("the benchmarks are\n%s", text)
	}
	for _, want := range []string{"/stage=a_b_c_=_[2J/c=8/", "# idle, round 1: nothing was answered\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

func TestGobenchSweep(t *testing.T) {
	for text, want := range map[string]string{
		"keys=100,1k": "/stage=another/c=8/batch=1/keys=1000-2 ",
		"c=1,2":       "/stage=another/c=2/batch=1-2 ",
	} {
		rep := testSweep(t, text, func(stage, point, round int) int64 { return 100 })
		if data, err := rep.Gobench(); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: there is no %q, error %v, in\n%s", text, want, err, data)
		}
	}
}
