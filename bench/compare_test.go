package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/report"
)

// readSaved reads what -o saved; an empty report if that is nothing.
func readSaved(t *testing.T, path string) *report.Report {
	t.Helper()
	rep, err := report.Read(path)
	if errors.Is(err, os.ErrNotExist) {
		return new(report.Report)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// A stage by its number, one by its path, and a yardstick share a report; TestTour builds all
// of Lockstep's stages.
func TestCompare(t *testing.T) {
	t.Parallel()
	stdout, s := measured(t, "compare", "-stages", "4,testdata/faulty", "-against", "echo", "-rounds", "1", "-ops", "500")
	if len(s.Runs) != 3 || s.Verdict != "ok" && !strings.HasPrefix(s.Verdict, "invalid: ") {
		t.Errorf("%d rounds, want 3; verdict %q", len(s.Runs), s.Verdict)
	}
	for _, r := range s.Runs {
		if r.OK == 0 || r.OK != r.Requests || r.Dur < 50*time.Millisecond || len(r.Errors) != 0 || r.Misses != 0 || r.Wrong != 0 ||
			r.Connections != 8 || r.Starved != 0 {
			t.Errorf("a round is %+v, want answers only", r)
		}
		if l := r.Latency; l["p50"] <= 0 || l["p50"] > l["p99"] || l["p99"] > l["p999"] || l["p999"] > l["max"] {
			t.Errorf("latencies are %v, want p50 <= p99 <= p999 <= max", l)
		}
		if runtime.GOOS == "linux" && r.ServerCPUPerRequest == 0 && r.Stage != "echo" { // whose CPU time is known to 10 ms
			t.Errorf("nothing is known of the CPU time of %s", r.Stage)
		}
	}
	for i, want := range []string{"stage4_bucketlock", "faulty", "echo"} {
		if got := s.Summary[i]; got.Stage != want || (got.Ratio == nil) != (i == 0) {
			t.Errorf("row %d is %+v, want %s", i, got, want)
		}
	}
	benchtest.CheckWidth(t, stdout, 100)
}

// A directory of the learner's own, compared with itself: two nodes, batches that go to
// all of them, a number of operations.
func TestCompareOwnStage(t *testing.T) {
	started := benchtest.NewFaulty(t, "")
	_, s := measured(t, "compare", "-stages", "./testdata/faulty, testdata/faulty", "-nodes", "2", "-rounds", "1",
		"-ops", "600", "-rate", "20k", "-batch", "4", "-c", "3", "-depth", "2", "-mix", "get=40,put=30,delete=20,cas=10")
	if len(s.Runs) != 2 || len(s.Summary) != 2 || s.Summary[0].Stage != "faulty" || s.Summary[1].Stage != "faulty-2" {
		t.Errorf("%d rounds, want 2, of faulty and faulty-2; the summary is %+v", len(s.Runs), s.Summary)
	}
	for _, r := range s.Runs {
		if r.Round != 1 || r.OK != 600 || r.Requests != 150 || len(r.Errors) != 0 || r.Starved != 0 || r.Connections != 3 || r.Wrong != 0 {
			t.Errorf("a round is %+v, want 600 operations in 150 requests on 3 connections", r)
		}
	}
	for range 4 { // two for each
		<-started
	}
}

func TestCompareMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mistake        string
		code           int
		stderr, stdout string
		nodes, runs    int
	}{
		{"wrong", exitWrongData, "wrong data: faulty, round 1: key-", "WRONG DATA: faulty", 1, 1},
		{"mortal", exitFailure, "died: panic: request 30, faulty/main.go:", "", 2, 0},
	} {
		t.Run(test.mistake, func(t *testing.T) {
			t.Parallel()
			env, started := benchtest.WatchFaulty(t, test.mistake)
			path := filepath.Join(t.TempDir(), "out.json")
			code, stdout, stderr := apart(t, env, "compare", "-stages", "testdata/faulty", "-nodes", strconv.Itoa(test.nodes), "-rounds", "1", "-duration", "50ms", "-o", path)
			if code != test.code || strings.Count(stderr, test.stderr) != 1 || !strings.HasPrefix(stdout, test.stdout) {
				t.Errorf("exit code %d, stderr %q, stdout %q, want %d, %q and %q", code, stderr, stdout, test.code, test.stderr, test.stdout)
			}
			if s := readSaved(t, path); len(s.Runs) < test.runs || test.runs > 0 && !strings.HasPrefix(s.Verdict, test.stderr) {
				t.Errorf("the report has %d rounds and the verdict %q, want %d or more", len(s.Runs), s.Verdict, test.runs)
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
	for moment, test := range map[string]struct {
		args, fault string
		processes   int
		runs        int
	}{
		"starting servers":      {"-stages testdata/faulty -nodes 2", "", 2, 0},
		"after a round":         {"-stages testdata/faulty -sweep value=30,16..64 -ops 50 -rate 1k -keys 20", "", 2, 1},
		"waiting for yardstick": {"-stages none -against echo,redis", "late", 1, 0},
	} {
		t.Run(moment, func(t *testing.T) {
			if strings.Contains(test.args, "redis") {
				benchtest.FaultyInPath(t, "redis-server")
			}
			started := benchtest.NewFaulty(t, test.fault)
			path := filepath.Join(t.TempDir(), "out.json")
			args := append([]string{"compare", "-o", path}, strings.Fields(test.args)...)
			stdout := interrupted(t, func() {
				for range test.processes {
					<-started
				}
			}, args...)
			if s := readSaved(t, path); (s.Verdict == "interrupted") != (test.runs > 0) || len(s.Runs) != test.runs || strings.HasPrefix(stdout, "INTERRUPTED\nfaulty ") != (test.runs > 0) {
				t.Errorf("verdict %q with %d runs, want interrupted with %d; stdout\n%s", s.Verdict, len(s.Runs), test.runs, stdout)
			}
		})
	}
}

// Interrupted at any time: while it builds, starts, measures.
func TestCompareInterruptedAnytime(t *testing.T) {
	benchtest.NewFaulty(t, "")
	for _, built := range []string{os.Getenv("LOCKSTEP_BUILT"), t.TempDir()} { // in the second, it has to build
		t.Setenv("LOCKSTEP_BUILT", built)
		for after := 10 * time.Millisecond; after < 200*time.Millisecond; after *= 4 {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			code, _, stderr := benchUntil(ctx, "compare", "-stages", "testdata/faulty", "-duration", "10ms", "-rounds", "1000")
			cancel()
			if code != exitInterrupted || stderr != "bench: interrupted\n" {
				t.Errorf("after %v: exit code %d, stderr %q, want 130 and interrupted", after, code, stderr)
			}
		}
	}
}

// Each measurement has servers that are configured for its point.
func TestCompareSweep(t *testing.T) {
	stdout, s := measured(t, "compare", "-stages", "testdata/faulty", "-sweep", "work=0s,20ms", "-rounds", "1", "-duration", "500ms", "-keys", "5")
	if len(s.Summary) != 2 || s.Summary[0].Point != "0s" || s.Summary[1].Point != "20ms" || !strings.Contains(stdout, "\nSwept: work. ") {
		t.Fatalf("the file holds %+v; printed was\n%s", s, stdout)
	}
	// One lock, held for 20 ms an operation: 50 a second.
	if free, held := s.Summary[0].OpsPerSecond.Median, s.Summary[1].OpsPerSecond.Median; held > 51 || free < 2*held {
		t.Errorf("%v operations a second without work, %v with 20 ms of it", free, held)
	}
}

// In a log there is a line for each round, and none with -quiet.
func TestProgressInALog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, quiet := range []string{"-quiet=false", "-quiet"} {
		if code := run(t.Context(), []string{"compare", "-stages", "testdata/faulty", "-rounds", "2", "-ops", "50", "-rate", "1k", quiet}, io.Discard, f); code != exitOK && code != exitInvalid {
			t.Errorf("%s: exit code %d", quiet, code)
		}
	}
	got, err := os.ReadFile(path)
	want := regexp.MustCompile(`^bench: building 1 server [^\n]*\nbench: round 1 of 2\nbench: round 2 of 2[^\n]*\n(bench: invalid: [^\n]*\n)*$`)
	if err != nil || !want.Match(got) {
		t.Errorf("the log has %q, want a line for each round; error %v", got, err)
	}
}
