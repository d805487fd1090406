package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/figure"
	"lockstep/common/text"
)

// What a student has to know of a stage that panics or is stuck is what bench says first.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ fault, args, want string }{
		{"panic", "check -duration 20s", `(\d+ × )?panicked: index out of range \[-\d+\], faulty/main\.go:\d+\n`},
		{"invalid", "compare -ops 100 -keys 100", `(\d+ × )?panicked: table: operation of kind invalid, table/table\.go:\d+, called at faulty/main\.go:\d+\n`},
	} {
		t.Run(test.fault+" "+test.args, func(t *testing.T) {
			t.Parallel()
			env, _ := benchtest.WatchFaulty(t, test.fault)
			judge(t, env, test.want, append(strings.Fields(test.args), "-stages", "testdata/faulty")...)
		})
	}
}

func TestStuck(t *testing.T) {
	benchtest.Slow(t) // waits 10 s
	benchtest.NewFaulty(t, "stuck")
	const want = `stuck: no request was finished for 10s, .*\d × \(\*store\)\.apply, faulty/main\.go:\d+, waits in Mutex\.Lock`
	var judging sync.WaitGroup
	for _, command := range []string{"check", "compare"} {
		judging.Go(func() { judge(t, nil, want, command, "-stages", "testdata/faulty", "-duration", "100ms") })
	}
	judging.Wait()
}

// judge checks what bench says first of a fault.
func judge(t *testing.T, env []string, want string, args ...string) {
	began := time.Now()
	code, _, stderr := apart(env...)(t.Context(), append(args, "-quiet")...)
	match, _ := regexp.MatchString("^bench: (faulty(, round 1)?: )?node 0: "+want, stderr)
	if took := time.Since(began); code != exitFailure || !match || took > 40*time.Second {
		t.Errorf("%v: exit code %d after %v, want %d, and %s first in\n%s", args, code, took, exitFailure, want, stderr)
	}
}

// One lock lets one client into the table at a time, and bucket locks let in several.
func TestLanes(t *testing.T) {
	dir := t.TempDir()
	data, svg := filepath.Join(dir, "lanes.json"), filepath.Join(dir, "lanes.svg")
	code, stdout, stderr := bench(t, "lanes", "-stages", "testdata/faulty,4", "-c", "6", "-keys", "20", "-o", data, "-svg", svg)
	match, _ := regexp.MatchString(`(?s)work 1ms.*faulty: on average (0\.\d|1\.0) of 6 clients.*  client 6  .*stage4_bucketlock: on average [1-6]\.\d of 6 clients`, stdout)
	if code != 0 || !match {
		t.Errorf("exit code %d, stderr %q, and\n%s", code, stderr, stdout)
	}
	benchtest.CheckWidth(t, stdout, 80)
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
	for want, files := range map[string][]string{
		"bench: there is no stage 3: want one directory stage3_* in ": {"go.mod", "stage1_a/go", "stage2_b/go", "stage4_d/go"},
		"run bench inside it": nil,
	} {
		t.Chdir(t.TempDir())
		for _, name := range files {
			os.MkdirAll(filepath.Dir(name), 0o755)
			os.WriteFile(name, []byte("module lockstep\n"), 0o600)
		}
		if code, stdout, stderr := bench(t); code != exitFailure || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("with %v: exit code %d, stdout %q, stderr %q, want 1 and %q", files, code, stdout, stderr, want)
		}
	}
}

// The whole tour, with a secret in the environment, which the servers read as well.
func TestTour(t *testing.T) {
	benchtest.Slow(t)
	t.Setenv("LOCKSTEP_SECRET", "0123456789abcdef")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	code, stdout, stderr := benchUntil(ctx)
	benchtest.CheckWidth(t, stdout, text.Columns)
	want := regexp.MustCompile(`(?s)\n1 one thread ([^\n]*starve){3}\n2 coarse lock [^\n]*\n3 thread pool [^\n]*\n4 bucket lock [^\n]*\n` +
		`.*\n1 to 2, .*\n2 to 3, .*\n3 to 4, .*\nWithout work, .* goroutines.*\nNext: read `)
	if code != exitOK || stderr != "" || !want.MatchString(stdout) || regexp.MustCompile(`fail| err|nothing`).MatchString(stdout) {
		t.Errorf("exit code %d, stderr %q, want a row and a paragraph for each step in", code, stderr)
	}
	t.Log(stdout)
}
