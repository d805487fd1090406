package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/figure"
	"lockstep/bench/report"
	"lockstep/common/text"
)

// A stage by its number, and one by its path, which is compared with itself, share a report: two
// nodes, batches that go to both of them, a number of operations.
func TestCompare(t *testing.T) {
	t.Parallel()
	_, s := measured(t, "compare", "-stages", "testdata/faulty, 4", "-aa", "-nodes", "2", "-rounds", "1", "-keys", "100",
		"-ops", "200", "-rate", "20k", "-batch", "4", "-c", "2", "-depth", "2", "-mix", "get=40,put=30,delete=20,cas=10")
	if want := []string{"faulty", "faulty-2", "stage4_bucketlock"}; len(s.Runs) != 3 || !slices.Equal(s.Stages, want) ||
		s.Verdict != "ok" && !strings.HasPrefix(s.Verdict, "invalid: ") {
		t.Errorf("%d rounds of %q, want 3 of %q; verdict %q", len(s.Runs), s.Stages, want, s.Verdict)
	}
	for _, r := range s.Runs {
		if r.OK != 200 || r.Requests != 50 || r.Connections != 2 || len(r.Nodes) != 2 || len(r.Errors)+r.Starved != 0 || r.Wrong != 0 ||
			runtime.GOOS == "linux" && r.ServerCPUPerRequest == 0 {
			t.Errorf("a round is %+v, want 200 operations in 50 requests on 2 connections to 2 nodes, and their CPU time", r)
		}
	}
}

// Each measurement has servers that are configured for its point.
func TestCompareSweep(t *testing.T) {
	t.Parallel()
	stdout, s := measured(t, "compare", "-stages", "testdata/faulty", "-sweep", "work=0s,20ms", "-rounds", "1", "-ops", "10", "-keys", "2")
	if len(s.Summary) != 2 || s.Summary[0].Point != "0s" || s.Summary[1].Point != "20ms" || !strings.Contains(stdout, "\nSwept: work. ") {
		t.Fatalf("the file holds %+v; printed was\n%s", s, stdout)
	}
	for _, r := range s.Runs {
		if table := r.Nodes[0].Table.Mean(); len(r.Nodes) != 1 || (table >= 20*time.Millisecond) != (r.Point == "20ms") {
			t.Errorf("with %s of work, a request is in the table for %v", r.Point, table)
		}
	}
}

// A stage with a fault ends the command. What a student has to know of it is what bench says first,
// after a line for each thing that was being done.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault, args    string
		code           int
		stderr, stdout string // a pattern for what follows bench, and how it begins
	}{
		{"wrong", "compare -ops 200 -keys 100 -c 4 -rounds 1", exitWrongData,
			`building 1 server[^\n]*\nbench: round 1 of 1[^\n]*\nbench: wrong data: faulty, round 1: key-[^\n]*\n$`, "WRONG DATA: faulty"},
		{"wrong", "check -duration 20s -quiet", exitWrongData, `faulty gave answers that are not linearizable\n$`, "faulty: "},
		{"mortal", "compare -ops 200 -keys 100 -nodes 2 -quiet", exitFailure, `.*died: panic: request 30, faulty/main\.go:`, ""},
		{"panic", "check -duration 20s -quiet", exitFailure, `faulty: node 0: .*panicked: index out of range .*, faulty/main\.go:\d+\n`, ""},
		{"stuck", "compare -duration 100ms -quiet", exitFailure,
			`.*node 0: stuck: no request was finished for 10s, .*\d × \(\*store\)\.apply, faulty/main\.go:\d+, waits in Mutex\.Lock`, ""},
		{"", "compare -stages testdata/broken -quiet", exitFailure,
			"broken does not build:\n# lockstep/bench/testdata/broken\ntestdata/broken/main.go:4:15: undefined: serveEverybody\n$", ""},
	} {
		t.Run(test.fault+" "+test.args, func(t *testing.T) {
			t.Parallel()
			if test.fault == "stuck" {
				benchtest.Slow(t) // waits 10 s
			}
			env, _ := benchtest.WatchFaulty(t, test.fault)
			code, stdout, stderr := apart(env...)(t.Context(), slices.Insert(strings.Fields(test.args), 1, "-stages", "testdata/faulty")...)
			match, _ := regexp.MatchString("^bench: "+test.stderr, stderr)
			if code != test.code || !match || !strings.HasPrefix(stdout, test.stdout) {
				t.Errorf("exit code %d, stdout %q, stderr %q, want %d, %q and %s", code, stdout, stderr, test.code, test.stdout, test.stderr)
			}
		})
	}
}

// Interrupted when the second process starts, of two nodes or of two measurements, or at any time: while
// it builds, starts, measures. What was measured is saved and printed.
func TestCompareInterrupted(t *testing.T) {
	t.Parallel()
	for args, runs := range map[string]int{"-nodes 2": 0, "-sweep value=30,16..64 -ops 50 -rate 100 -keys 20": 1} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			env, started := benchtest.WatchFaulty(t, "")
			path := filepath.Join(t.TempDir(), "out.json")
			second := func() {
				<-started
				<-started
			}
			stdout := interrupted(t, second, apart(env...), strings.Fields("compare -stages testdata/faulty -quiet -o "+path+" "+args)...)
			s := readSaved(t, path)
			if len(s.Runs) != runs || runs > 0 && (s.Verdict != "interrupted" || !strings.HasPrefix(stdout, "INTERRUPTED\nfaulty ")) {
				t.Errorf("verdict %q with %d runs, want interrupted with %d; stdout\n%s", s.Verdict, len(s.Runs), runs, stdout)
			}
		})
	}
	for _, after := range []time.Duration{0, 10 * time.Millisecond, 40 * time.Millisecond, 160 * time.Millisecond} {
		over := func() { <-time.After(after) }
		interrupted(t, over, bench, strings.Fields("compare -stages testdata/faulty -duration 10ms -rounds 1000")...)
	}
}

// One lock lets one client into the table at a time; each stage has a lane for each client, in print, in
// the file and in the picture.
func TestLanes(t *testing.T) {
	dir := t.TempDir()
	data, svg := filepath.Join(dir, "lanes.json"), filepath.Join(dir, "lanes.svg")
	code, stdout, stderr := bench(t.Context(), "lanes", "-stages", "testdata/faulty,4", "-c", "6", "-keys", "20", "-o", data, "-svg", svg)
	match, _ := regexp.MatchString(`(?s)work 1ms.*faulty: on average (0\.\d|1\.0) of 6 clients.*  client 6  .*stage4_bucketlock: on average [0-6]\.\d of 6 clients`, stdout)
	if code != 0 || !match {
		t.Errorf("exit code %d, stderr %q, and\n%s", code, stderr, stdout)
	}
	var saved struct{ Stages []figure.Panel }
	content, _ := os.ReadFile(data)
	if err := json.Unmarshal(content, &saved); err != nil || len(saved.Stages) != 2 || len(saved.Stages[0].Lanes) != 6 {
		t.Errorf("saved %s (%v), want two stages with six lanes", content, err)
	}
	if picture, _ := os.ReadFile(svg); !strings.HasPrefix(string(picture), "<svg") {
		t.Errorf("the picture is %.60s", picture)
	}
}

// If a stage is missing, the error names it, and is not a usage error.
func TestTourWithoutAStage(t *testing.T) {
	t.Chdir(t.TempDir())
	os.WriteFile("go.mod", []byte("module lockstep\n"), 0o600)
	const want = "bench: there is no stage 1: want one directory stage1_* in "
	if code, stdout, stderr := bench(t.Context()); code != exitFailure || stdout != "" || !strings.HasPrefix(stderr, want) {
		t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and %q", code, stdout, stderr, want)
	}
}

// The whole tour, with a secret in the environment, which the servers read as well.
func TestTour(t *testing.T) {
	benchtest.Slow(t)
	t.Setenv("LOCKSTEP_SECRET", "0123456789abcdef")
	code, stdout, stderr := bench(t.Context())
	benchtest.CheckWidth(t, stdout, text.Columns)
	want := regexp.MustCompile(`(?s)\n1 one thread ([^\n]*starve){3}\n2 coarse lock [^\n]*\n3 thread pool [^\n]*\n4 bucket lock [^\n]*\n` +
		`.*\n1 to 2, .*\n2 to 3, .*\n3 to 4, .*\nWithout work, .* goroutines.*\nNext: read `)
	if code != exitOK || stderr != "" || !want.MatchString(stdout) || regexp.MustCompile(`fail| err|nothing`).MatchString(stdout) {
		t.Errorf("exit code %d, stderr %q, want a row and a paragraph for each step in", code, stderr)
	}
	t.Log(stdout)
}

// against compares yardsticks alone, in one short round.
func against(t *testing.T, yardsticks, load string) (code int, stdout, stderr string, s *report.Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.json")
	args := "compare -stages none -against " + yardsticks + " -rounds 1 -keys 100 -rate 5k -ops 800 -quiet -o " + path + " " + load
	code, stdout, stderr = bench(t.Context(), strings.Fields(args)...)
	return code, stdout, stderr, readSaved(t, path)
}

// Redis and memcached are measured if they are installed. The report has their versions.
func TestAgainst(t *testing.T) {
	t.Parallel()
	const paced = "-rate 16k -batch 16 -depth 3 -mix get=50,put=30,delete=20"
	const swaps = "-batch 2 -mix get=40,put=20,delete=20,cas=20" // of which net/rpc is capable
	for _, load := range []string{paced, "", "-conn per-request", "-value 0 -depth 2", swaps} {
		for yardsticks, program := range map[string]string{"echo": "", "netrpc": "", "redis": "redis-server", "memcached": "memcached"} {
			if load == swaps && yardsticks != "netrpc" {
				continue
			}
			t.Run(yardsticks+" "+load, func(t *testing.T) {
				t.Parallel()
				if load != paced {
					benchtest.Slow(t)
				}
				if _, err := exec.LookPath(program); err != nil && program != "" {
					t.Skipf("%s is not in PATH", program)
				}
				code, stdout, stderr, s := against(t, yardsticks, load)
				name := strings.Replace(yardsticks, "netrpc", "net/rpc", 1)
				if code != exitOK && code != exitInvalid || len(s.Runs) != 1 || (s.Env.Yardsticks[name] == "") != (program == "") {
					t.Fatalf("exit code %d, stderr %q, %d rounds of version %q", code, stderr, len(s.Runs), s.Env.Yardsticks[name])
				}
				r := s.Runs[0]
				if r.OK != 800 || len(r.Errors)+r.Starved != 0 || r.Wrong+r.Unfinished != 0 || !strings.Contains(stdout, name) {
					t.Errorf("the round is %+v, want 800 operations; the report is\n%s", r, stdout)
				}
			})
		}
	}
}

// The report says which yardstick is not installed; without any, there is nothing to measure.
func TestAgainstMissing(t *testing.T) {
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	t.Setenv("PATH", t.TempDir())
	const absent = "memcached: not found in PATH; memcached=HOST:PORT uses"
	for yardsticks, want := range map[string]struct {
		runs           int
		stdout, stderr string
	}{
		"memcached,echo,netrpc":      {2, "\n" + absent, ""},
		"memcached":                  {0, "", "there is nothing to measure: " + absent},
		"redis=" + cfg.Nodes[0].Addr: {0, "", "this is a Lockstep server"},
	} {
		code, stdout, stderr, s := against(t, yardsticks, "")
		if (code == exitFailure) != (want.runs == 0) || len(s.Runs) != want.runs ||
			!strings.Contains(stdout, want.stdout) || !strings.Contains(stderr, want.stderr) {
			t.Errorf("%s: exit code %d, stderr %q, %d rounds, stdout\n%s\nwant %+v", yardsticks, code, stderr, len(s.Runs), stdout, want)
		}
	}
}
