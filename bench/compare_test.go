package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
)

// A stage by its number, and one by its path, which is compared with itself, share a report: two
// nodes, batches that go to both of them, a number of operations.
func TestCompare(t *testing.T) {
	t.Parallel()
	stdout, s := measured(t, "compare", "-stages", "testdata/faulty, 4", "-aa", "-nodes", "2", "-rounds", "1", "-keys", "100",
		"-ops", "200", "-rate", "20k", "-batch", "4", "-c", "2", "-depth", "2", "-mix", "get=40,put=30,delete=20,cas=10")
	if len(s.Runs) != 3 || s.Verdict != "ok" && !strings.HasPrefix(s.Verdict, "invalid: ") {
		t.Errorf("%d rounds, want 3; verdict %q", len(s.Runs), s.Verdict)
	}
	for _, r := range s.Runs {
		if r.Round != 1 || r.OK != 200 || r.Requests != 50 || r.Connections != 2 || len(r.Nodes) != 2 || len(r.Errors)+r.Starved != 0 || r.Wrong != 0 {
			t.Errorf("a round is %+v, want 200 operations in 50 requests on 2 connections to 2 nodes", r)
		}
		if l := r.Latency; l["p50"] <= 0 || l["p50"] > l["p99"] || l["p99"] > l["p999"] || l["p999"] > l["max"] {
			t.Errorf("latencies are %v, want p50 <= p99 <= p999 <= max", l)
		}
		if runtime.GOOS == "linux" && r.ServerCPUPerRequest == 0 {
			t.Errorf("the CPU time of %s is unknown", r.Stage)
		}
	}
	for i, want := range []string{"faulty", "faulty-2", "stage4_bucketlock"} {
		if got := s.Summary[i]; got.Stage != want || (got.Ratio == nil) != (i == 0) {
			t.Errorf("row %d is %+v, want %s", i, got, want)
		}
	}
	benchtest.CheckWidth(t, stdout, 100)
}

// A stage with a fault ends the comparison. What is being done meanwhile is said, a line each.
func TestCompareMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mistake        string
		code           int
		stderr, stdout string
		nodes, runs    int
	}{
		{"wrong", exitWrongData, "^bench: building 1 server[^\n]*\nbench: round 1 of 1[^\n]*\nbench: (wrong data: faulty, round 1: key-[^\n]*)\n$", "WRONG DATA: faulty", 1, 1},
		{"mortal", exitFailure, "died: panic: request 30, faulty/main.go:", "", 2, 0},
	} {
		t.Run(test.mistake, func(t *testing.T) {
			t.Parallel()
			env, started := benchtest.WatchFaulty(t, test.mistake)
			path := filepath.Join(t.TempDir(), "out.json")
			code, stdout, stderr := apart(env...)(t.Context(), "compare", "-stages", "testdata/faulty", "-nodes", strconv.Itoa(test.nodes),
				"-rounds", "1", "-ops", "200", "-keys", "100", "-c", "4", "-o", path)
			said := regexp.MustCompile(test.stderr).FindStringSubmatch(stderr)
			if code != test.code || said == nil || !strings.HasPrefix(stdout, test.stdout) {
				t.Errorf("exit code %d, stderr %q, stdout %q, want %d, %q and %q", code, stderr, stdout, test.code, test.stderr, test.stdout)
			} else if s := readSaved(t, path); len(s.Runs) < test.runs || test.runs > 0 && s.Verdict != said[1] {
				t.Errorf("the report has %d rounds and the verdict %q, want %d or more and that of stderr", len(s.Runs), s.Verdict, test.runs)
			}
			for range test.nodes {
				<-started
			}
		})
	}
}

func TestCompareBroken(t *testing.T) {
	t.Parallel()
	path := saveReport(t, testReport())
	before, _ := os.ReadFile(path)
	for stages, want := range map[string]string{
		"testdata/broken": "bench: broken does not build:\n# lockstep/bench/testdata/broken\ntestdata/broken/main.go:4:15: undefined: serveEverybody\n",
		"../common/wire":  "bench: wire does not build:\n",
	} {
		code, stdout, stderr := bench(t, "compare", "-stages", stages, "-o", path)
		if code != exitFailure || stdout != "" || strings.Count(stderr, want) != 1 {
			t.Errorf("%s: exit code %d, stdout %q, want 1 and nothing, and %q in\n%s", stages, code, stdout, want, stderr)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
			t.Errorf("%s: the report of an earlier run was replaced by\n%s", stages, after)
		}
	}
}

// Interrupted at a moment that a process announces. What was measured is saved and printed.
func TestCompareInterrupted(t *testing.T) {
	t.Parallel()
	for moment, test := range map[string]struct {
		args, fault string
		processes   int
		runs        int
	}{
		"starting servers":      {"-stages testdata/faulty -nodes 2", "", 2, 0},
		"after a round":         {"-stages testdata/faulty -sweep value=30,16..64 -ops 50 -rate 100 -keys 20", "", 2, 1},
		"waiting for yardstick": {"-stages none -against redis", "late", 1, 0},
	} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			env, started := benchtest.WatchFaulty(t, test.fault)
			if test.fault == "late" {
				env = append(env, "PATH="+benchtest.OnlyInPath(t, "redis-server"))
			}
			path := filepath.Join(t.TempDir(), "out.json")
			stdout := interrupted(t, func() {
				for range test.processes {
					<-started
				}
			}, apart(env...), append([]string{"compare", "-o", path, "-quiet"}, strings.Fields(test.args)...)...)
			if s := readSaved(t, path); (s.Verdict == "interrupted") != (test.runs > 0) || len(s.Runs) != test.runs || strings.HasPrefix(stdout, "INTERRUPTED\nfaulty ") != (test.runs > 0) {
				t.Errorf("verdict %q with %d runs, want interrupted with %d; stdout\n%s", s.Verdict, len(s.Runs), test.runs, stdout)
			}
		})
	}
}

// Interrupted at any time: while it builds, starts, measures.
func TestInterruptedAnytime(t *testing.T) {
	t.Parallel()
	const measure = "compare -stages testdata/faulty -duration 10ms -rounds 1000"
	for _, test := range []struct {
		after time.Duration
		args  string
	}{{0, ""}, {200 * time.Millisecond, ""}, {10 * time.Millisecond, measure}, {40 * time.Millisecond, measure}, {160 * time.Millisecond, measure}} {
		over := func() { <-time.After(test.after) }
		interrupted(t, over, benchUntil, strings.Fields(test.args)...)
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
