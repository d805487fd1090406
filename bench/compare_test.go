package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
)

// A saved is a file of -o as others read it.
type saved struct {
	Schema  int
	Env     map[string]any
	Config  map[string]any
	Runs    []savedRun
	Summary []map[string]any
	Verdict string
}

type savedRun struct {
	Stage        string
	Round        int
	Dur          int64 `json:"dur_ns"`
	OK           int64
	Requests     int64
	Errors       map[string]int64
	Misses       int64
	Wrong        int64
	Unfinished   int64
	Connections  int
	Starved      int
	NeverGreeted int              `json:"never_greeted"`
	Latency      map[string]int64 `json:"latency_ns"`
	Warnings     []string
}

func readSaved(t *testing.T, path string) (s saved) {
	t.Helper()
	readJSON(t, path, &s)
	return s
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCompare(t *testing.T) {
	benchtest.EmptyFolder(t)
	path := filepath.Join(t.TempDir(), "out.json")
	code, stdout, stderr := bench(t, "compare", "-rounds", "2", "-duration", "150ms", "-o", path)
	if code != exitOK && code != exitInvalid || strings.Count(stderr, "\n") > 1 {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	s := readSaved(t, path)
	data, _ := os.ReadFile(path)
	var top map[string]json.RawMessage
	json.Unmarshal(data, &top)
	if got, want := slices.Sorted(maps.Keys(top)), []string{"config", "env", "nodes", "runs", "schema", "stages", "summary", "verdict"}; !slices.Equal(got, want) {
		t.Errorf("the file has the fields %v, want %v", got, want)
	}
	if s.Schema != 2 || code == exitOK && s.Verdict != "ok" || len(s.Env) == 0 || len(s.Config) == 0 || len(s.Summary) != 4 {
		t.Errorf("schema %d, verdict %q, env %v, config %v, %d in the summary", s.Schema, s.Verdict, s.Env, s.Config, len(s.Summary))
	}
	rounds := make(map[string][]int)
	for _, r := range s.Runs {
		rounds[r.Stage] = append(rounds[r.Stage], r.Round)
		starved := 0
		if r.Stage == "stage1_singlethread" {
			starved = 7
		}
		if r.OK == 0 || r.OK != r.Requests || r.Dur < 150e6 || len(r.Errors) != 0 || r.Misses != 0 || r.Wrong != 0 ||
			r.Connections != 8 || r.Starved != starved || r.NeverGreeted != starved {
			t.Errorf("a round is %+v, want answers only, and %d of 8 starved", r, starved)
		}
		if l := r.Latency; l["p50"] <= 0 || l["p50"] > l["p99"] || l["p99"] > l["p999"] || l["p999"] > l["max"] {
			t.Errorf("latencies are %v, want p50 <= p99 <= p999 <= max", l)
		}
	}
	for _, stage := range []string{"stage1_singlethread", "stage2_coarselock", "stage3_threadpool", "stage4_bucketlock"} {
		if !slices.Equal(rounds[stage], []int{1, 2}) {
			t.Errorf("%s has the rounds %v, want 1 and 2", stage, rounds[stage])
		}
		if !strings.Contains(stdout, stage) {
			t.Errorf("%s is not in\n%s", stage, stdout)
		}
	}
	if want := "stage1_singlethread: 7 of 8 connections starved (7 never greeted)"; !strings.Contains(stdout, want) {
		t.Errorf("there is no %q in\n%s", want, stdout)
	}
	benchtest.CheckWidth(t, stdout, 100)
}

// A learner's own directory, twice, as three nodes, with batches over all of them,
// until operations are done.
func TestCompareOwnStage(t *testing.T) {
	benchtest.EmptyFolder(t)
	m := benchtest.NewFaulty(t, "")
	path := filepath.Join(t.TempDir(), "out.json")
	code, _, stderr := bench(t, "compare", "-stages", "./testdata/faulty, testdata/faulty", "-nodes", "3", "-rounds", "1",
		"-ops", "600", "-batch", "4", "-c", "3", "-depth", "2", "-mix", "get=40,put=30,delete=20,cas=10", "-o", path)
	if code != exitOK && code != exitInvalid {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	s := readSaved(t, path)
	if len(s.Runs) != 2 {
		t.Fatalf("%d rounds, want 2", len(s.Runs))
	}
	names := []string{s.Runs[0].Stage, s.Runs[1].Stage}
	slices.Sort(names)
	if want := []string{"faulty", "faulty-2"}; !slices.Equal(names, want) {
		t.Errorf("the stages are called %v, want %v", names, want)
	}
	for _, r := range s.Runs {
		if r.OK != 600 || r.Requests != 150 || len(r.Errors) != 0 || r.Starved != 0 || r.Connections != 3 || r.Wrong != 0 {
			t.Errorf("a round is %+v, want 600 operations in 150 requests on 3 connections", r)
		}
	}
	m.Ended(6)
}

func TestCompareMistakes(t *testing.T) {
	for _, test := range []struct {
		mistake   string
		code      int
		stderr    []string
		stdout    string
		processes int
		runs      int
		verdict   string
	}{
		{"wrong", exitWrongData, []string{"wrong data: faulty, round 1: key-", "want 30 bytes such as"}, "WRONG DATA: faulty", 1, 1, "wrong data: "},
		{"confused", exitWrongData, []string{`storing the keys: key-`, `"missing" answered to a put`}, "", 1, 0, "wrong data: "},
		{"forgetful", exitWrongData, []string{"stored keys were missing, and the workload deletes none"}, "WRONG DATA: faulty", 1, 1, "wrong data: "},
		{"mortal", exitFailure, []string{"faulty, node ", "died (exit status 2)\nits last output:\n    panic: request 30"}, "", 2, 0, "failed: faulty, node "},
		{"dead", exitFailure, []string{"faulty, node ", "died (exit status 7)\nits last output:\n    ending at once"}, "", 1, 0, "failed: faulty, node "},
	} {
		t.Run(test.mistake, func(t *testing.T) {
			benchtest.EmptyFolder(t)
			m := benchtest.NewFaulty(t, test.mistake)
			path := filepath.Join(t.TempDir(), "out.json")
			nodes := []string{"", "1", "2"}[test.processes]
			code, stdout, stderr := bench(t, "compare", "-stages", "testdata/faulty", "-nodes", nodes, "-rounds", "1", "-duration", "150ms", "-o", path)
			if code != test.code && !(test.code == exitOK && code == exitInvalid) {
				t.Errorf("exit code %d, want %d; stderr %q", code, test.code, stderr)
			}
			for _, want := range test.stderr {
				if strings.Count(stderr, want) != 1 {
					t.Errorf("stderr has %q %d times, want once:\n%s", want, strings.Count(stderr, want), stderr)
				}
			}
			if got := strings.Join(strings.Fields(stdout), " "); !strings.Contains(got, test.stdout) {
				t.Errorf("stdout has no %q:\n%s", test.stdout, stdout)
			}
			if s := readSaved(t, path); !strings.HasPrefix(s.Verdict, test.verdict) && code != exitInvalid || len(s.Runs) != test.runs {
				t.Errorf("the report has %d rounds and the verdict %q, want %d and %q", len(s.Runs), s.Verdict, test.runs, test.verdict)
			}
			m.Ended(test.processes)
		})
	}
}

func TestCompareBroken(t *testing.T) {
	benchtest.EmptyFolder(t)
	path := filepath.Join(t.TempDir(), "out.json")
	for _, test := range []struct{ stages, want string }{
		{"testdata/broken", "bench: broken does not build: exit status 1\n"},
		{"testdata/broken", "main.go:4:15: undefined: serveEverybody\n"},
		{"../common/wire", "bench: wire does not build: exit status 1\n"},
	} {
		code, stdout, stderr := bench(t, "compare", "-stages", test.stages, "-o", path)
		if code != exitFailure || stdout != "" || strings.Count(stderr, test.want) != 1 {
			t.Errorf("%s: exit code %d, stdout %q, want 1 and nothing, and %q in\n%s", test.stages, code, stdout, test.want, stderr)
		}
		if s := readSaved(t, path); !strings.HasPrefix(s.Verdict, "failed: ") || len(s.Runs) != 0 {
			t.Errorf("%s: the report has %d rounds and the verdict %q", test.stages, len(s.Runs), s.Verdict)
		}
	}
}

// Interrupted at a moment that the stage itself tells of.
func TestCompareInterrupted(t *testing.T) {
	for _, moment := range []string{"starting", "storing the keys"} {
		t.Run(moment, func(t *testing.T) {
			benchtest.EmptyFolder(t)
			m := benchtest.NewFaulty(t, "")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path := filepath.Join(t.TempDir(), "out.json")
			done := make(chan int, 1)
			var stderr string
			go func() { // ends soon after cancel
				var code int
				code, _, stderr = benchUntil(ctx, "compare", "-stages", "testdata/faulty", "-nodes", "3", "-o", path)
				done <- code
			}()
			m.Started(3, moment != "starting")
			cancel()
			select {
			case code := <-done:
				if s := readSaved(t, path); code != exitInterrupted || stderr != "bench: interrupted\n" || s.Verdict != "interrupted" {
					t.Errorf("exit code %d, stderr %q, verdict %q, want 130 and interrupted", code, stderr, s.Verdict)
				}
			case <-time.After(5 * time.Second):
				t.Error("it goes on 5s after it was interrupted")
			}
			m.Ended(3)
		})
	}
}

// Interrupted after any time: while it builds, starts, measures.
func TestCompareInterruptedAnytime(t *testing.T) {
	benchtest.EmptyFolder(t)
	m := benchtest.NewFaulty(t, "")
	path := filepath.Join(t.TempDir(), "out.json")
	rounds := 0
	for after := 10 * time.Millisecond; after < 2*time.Second; after *= 4 {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		code, _, stderr := benchUntil(ctx, "compare", "-stages", "testdata/faulty", "-duration", "150ms", "-rounds", "1000", "-o", path)
		cancel()
		if code != exitInterrupted || stderr != "bench: interrupted\n" {
			t.Errorf("after %v: exit code %d, stderr %q, want 130 and interrupted", after, code, stderr)
		}
		if _, err := os.Stat(path); err == nil {
			s := readSaved(t, path)
			rounds = len(s.Runs)
			if s.Verdict != "interrupted" {
				t.Errorf("after %v: the verdict is %q, want interrupted", after, s.Verdict)
			}
		}
	}
	t.Logf("%d rounds were saved of the last one", rounds)
	m.AllEnded()
}
