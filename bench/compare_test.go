package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
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
	"lockstep/common/node"
	"lockstep/common/text"
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
		l := r.Latency
		if r.Round != 1 || r.OK != 200 || r.Requests != 50 || r.Connections != 2 || len(r.Nodes) != 2 || len(r.Errors)+r.Starved != 0 || r.Wrong != 0 ||
			l["p50"] <= 0 || l["p50"] > l["p99"] || l["p99"] > l["p999"] || l["p999"] > l["max"] {
			t.Errorf("a round is %+v, want 200 operations in 50 requests on 2 connections to 2 nodes, and p50 <= p99 <= p999 <= max", r)
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
	const panicked = `(faulty(, round 1)?: )?node 0: (\d+ × )?panicked: `
	const stuck = `(faulty(, round 1)?: )?node 0: stuck: no request was finished for 10s, .*\d × \(\*store\)\.apply, faulty/main\.go:\d+, waits in Mutex\.Lock`
	for _, test := range []struct {
		fault, args    string
		code           int
		stderr, stdout string // a pattern for what follows bench, and how it begins
	}{
		{"wrong", "compare -ops 200 -keys 100 -c 4 -rounds 1", exitWrongData,
			`building 1 server[^\n]*\nbench: round 1 of 1[^\n]*\nbench: wrong data: faulty, round 1: key-[^\n]*\n$`, "WRONG DATA: faulty"},
		{"wrong", "check -duration 20s -quiet", exitWrongData, `faulty gave answers that are not linearizable\n$`, "faulty: "},
		{"mortal", "compare -ops 200 -keys 100 -nodes 2 -quiet", exitFailure, `.*died: panic: request 30, faulty/main\.go:`, ""},
		{"panic", "check -duration 20s -quiet", exitFailure, panicked + `index out of range \[-\d+\], faulty/main\.go:\d+\n`, ""},
		{"invalid", "compare -ops 100 -keys 100 -quiet", exitFailure,
			panicked + `table: operation of kind invalid, table/table\.go:\d+, called at faulty/main\.go:\d+\n`, ""},
		{"stuck", "check -duration 100ms -quiet", exitFailure, stuck, ""},
		{"stuck", "compare -duration 100ms -quiet", exitFailure, stuck, ""},
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

// Interrupted when the second process starts: of two nodes, or of two measurements. What was
// measured is saved and printed.
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
		interrupted(t, over, bench, strings.Fields(test.args)...)
	}
}

// One lock lets one client into the table at a time, and bucket locks let in several.
func TestLanes(t *testing.T) {
	dir := t.TempDir()
	data, svg := filepath.Join(dir, "lanes.json"), filepath.Join(dir, "lanes.svg")
	code, stdout, stderr := bench(t.Context(), "lanes", "-stages", "testdata/faulty,4", "-c", "6", "-keys", "20", "-o", data, "-svg", svg)
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
		if code, stdout, stderr := bench(t.Context()); code != exitFailure || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("with %v: exit code %d, stdout %q, stderr %q, want 1 and %q", files, code, stdout, stderr, want)
		}
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
func against(t *testing.T, bench func(context.Context, ...string) (int, string, string), yardsticks, args string) (code int, stdout, stderr string, s *report.Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.json")
	args = "compare -stages none -against " + yardsticks + " -rounds 1 -keys 100 -rate 5k -ops 800 -quiet -o " + path + " " + args
	code, stdout, stderr = bench(t.Context(), strings.Fields(args)...)
	return code, stdout, stderr, readSaved(t, path)
}

// Redis and memcached are measured if they are installed.
func TestAgainst(t *testing.T) {
	t.Parallel()
	for _, load := range []string{"-rate 16k -batch 16 -depth 3 -mix get=50,put=30,delete=20", "", "-conn per-request", "-value 0 -depth 2", "-batch 2 -mix get=40,put=20,delete=20,cas=20"} {
		for _, yardsticks := range []string{"echo,netrpc", "redis", "memcached"} {
			t.Run(yardsticks+" "+load, func(t *testing.T) {
				t.Parallel()
				if !strings.Contains(load, "-rate") {
					benchtest.Slow(t)
				}
				if strings.Contains(load, "cas=") {
					yardsticks = "netrpc" // alone can it
				}
				if program := map[string]string{"redis": "redis-server", "memcached": "memcached"}[yardsticks]; program != "" {
					if _, err := exec.LookPath(program); err != nil {
						t.Skipf("%s is not in PATH", program)
					}
				}
				code, stdout, stderr, s := against(t, bench, yardsticks, load)
				names := strings.Split(strings.ReplaceAll(yardsticks, "netrpc", "net/rpc"), ",")
				if code != exitOK && code != exitInvalid || len(s.Runs) != len(names) || len(s.Summary) != len(names) {
					t.Errorf("exit code %d, stderr %q, %d rounds, %d rows, want %d", code, stderr, len(s.Runs), len(s.Summary), len(names))
				}
				for _, r := range s.Runs {
					if !slices.Contains(names, r.Stage) || r.OK != 800 || len(r.Errors)+r.Starved != 0 || r.Wrong+r.Unfinished != 0 || !strings.Contains(stdout, r.Stage) {
						t.Errorf("a round is %+v, want 800 operations; the report is\n%s", r, stdout)
					}
				}
				benchtest.CheckWidth(t, stdout, 100)
			})
		}
	}
}

// A Redis is started from PATH, or is reached where it runs already, and not stopped. The report
// says which it was, and what is not installed.
func TestAgainstRedis(t *testing.T) {
	t.Parallel()
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	free, none := node.FreeAddrs(1)
	if err := errors.Join(err, none); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go fakeRedis(ln) // ends with ln
	const installed, absent = "memcached,redis", "memcached: not found in PATH; memcached=HOST:PORT uses"
	reached := ln.Addr().String()
	for yardsticks, want := range map[string]struct{ version, report, err string }{
		installed:                    {"7.7.7", "\n" + absent, ""},
		"redis=" + reached:           {"7.7.7 at " + reached, "not known", ""}, // the CPU time of a server of others
		"memcached":                  {"", "", "there is nothing to measure: " + absent},
		"redis=" + cfg.Nodes[0].Addr: {"", "", "this is a Lockstep server"},
		"redis=" + free[0]:           {"", "", "refused"},
	} {
		t.Run(yardsticks, func(t *testing.T) {
			t.Parallel()
			env, _ := benchtest.WatchFaulty(t, "") // which waits for the end of what is started
			path := t.TempDir()
			if yardsticks == installed {
				path = benchtest.OnlyInPath(t, "redis-server")
			}
			code, stdout, stderr, s := against(t, apart(append(env, "PATH="+path)...), yardsticks, "-mix put=100")
			if (code == exitFailure) != (want.err != "") || !strings.Contains(stderr, want.err) {
				t.Errorf("exit code %d, stderr %q, want %q", code, stderr, want.err)
			}
			if version := s.Env.Yardsticks["redis"]; version != want.version || !strings.Contains(stdout, want.version) || !strings.Contains(stdout, want.report) {
				t.Errorf("the version of Redis is %q, want %q, and %q, in\n%s", version, want.version, want.report, stdout)
			}
		})
	}
}

// fakeRedis answers each SET with OK, and each INFO with its version, until ln is closed.
func fakeRedis(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() { // ends when its client leaves
			defer nc.Close()
			for lines := bufio.NewScanner(nc); lines.Scan(); {
				answer := map[string]string{"SET": "+OK\r\n", "INFO": "$21\r\nredis_version:7.7.7\r\n\r\n"}[lines.Text()]
				io.WriteString(nc, answer)
			}
		}()
	}
}

// fakeRedisMain is the main function of redis-server in the tests.
func fakeRedisMain() error {
	benchtest.FaultyMain()
	flag := func(name string) string { return os.Args[slices.Index(os.Args, name)+1] }
	ln, err := net.Listen("tcp", net.JoinHostPort(flag("--bind"), flag("--port")))
	if err != nil {
		return err
	}
	return fakeRedis(ln)
}
