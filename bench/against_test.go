package main

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/bench/report"
	"lockstep/common/node"
)

// against compares yardsticks alone, in one short round.
func against(t *testing.T, yardsticks string, args ...string) (code int, stdout, stderr string, s *report.Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.json")
	args = append([]string{"compare", "-stages", "none", "-against", yardsticks, "-rounds", "1", "-rate", "5k", "-o", path}, args...)
	code, stdout, stderr = bench(t, args...)
	return code, stdout, stderr, readSaved(t, path)
}

func checkAgainst(t *testing.T, yardsticks string, args ...string) {
	t.Helper()
	stdout, s := measured(t, append([]string{"compare", "-stages", "none", "-against", yardsticks, "-rounds", "1", "-ops", "1600"}, args...)...)
	names := strings.Split(strings.ReplaceAll(yardsticks, "netrpc", "net/rpc"), ",")
	for _, r := range s.Runs {
		if !slices.Contains(names, r.Stage) || r.OK != 1600 || len(r.Errors) != 0 || r.Wrong != 0 || r.Starved != 0 || r.Unfinished != 0 || !strings.Contains(stdout, r.Stage) {
			t.Errorf("a round is %+v, want 1600 operations; the report is\n%s", r, stdout)
		}
	}
	if len(s.Runs) != len(names) || len(s.Summary) != len(names) {
		t.Errorf("%d rounds, %d rows, want %d", len(s.Runs), len(s.Summary), len(names))
	}
	benchtest.CheckWidth(t, stdout, 100)
}

// Redis and memcached are measured if they are installed.
func TestCompareAgainst(t *testing.T) {
	for _, load := range []string{"-rate 16k -batch 16 -depth 3 -mix get=50,put=30,delete=20", "", "-conn per-request", "-value 0 -depth 2", "-batch 2"} {
		for _, yardsticks := range []string{"echo,netrpc", "redis", "memcached"} {
			t.Run(yardsticks+" "+load, func(t *testing.T) {
				t.Parallel()
				if !strings.Contains(load, "-mix") {
					benchtest.Slow(t)
				}
				installed(t, yardsticks)
				checkAgainst(t, yardsticks, strings.Fields(load)...)
			})
		}
	}
	t.Run("compare-and-swap", func(t *testing.T) {
		benchtest.Slow(t)
		checkAgainst(t, "netrpc", "-mix", "get=40,put=20,delete=20,cas=20", "-batch", "2")
	})
}

// installed skips the test if the yardstick cannot be started here.
func installed(t *testing.T, yardstick string) {
	t.Helper()
	if program := map[string]string{"redis": "redis-server", "memcached": "memcached"}[yardstick]; program != "" {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not in PATH", program)
		}
	}
}

// A yardstick that is not installed is left out, and the report says so.
func TestCompareAgainstAbsent(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	code, stdout, stderr, s := against(t, "redis,echo,memcached", "-ops", "100")
	if code != exitOK && code != exitInvalid || len(s.Runs) != 1 {
		t.Errorf("exit code %d, %d rounds, want one of echo; stderr %q", code, len(s.Runs), stderr)
	}
	if !strings.Contains(stdout, "\nredis: not found in PATH; redis=HOST:PORT uses") || !strings.Contains(stdout, "\nmemcached: not found in PATH; memcached=HOST:PORT uses") {
		t.Errorf("what is missing is not in\n%s", stdout)
	}
	code, _, stderr, _ = against(t, "redis", "-ops", "100")
	if want := "there is nothing to measure: redis: not found in PATH; redis=HOST:PORT"; code != exitFailure || !strings.Contains(stderr, want) {
		t.Errorf("redis alone: exit code %d, stderr %q, want 1 and %q", code, stderr, want)
	}
}

// A process that does not behave like Redis ends the comparison, and none is left.
func TestCompareAgainstMistakes(t *testing.T) {
	for _, test := range []struct {
		mistake string
		code    int
		want    string // on stderr
	}{
		{"", exitOK, ""},
		{"mortal", exitFailure, "redis, node 0, died: panic: out of memory\nits last output:\n    panic: out of memory"},
	} {
		t.Run(test.mistake, func(t *testing.T) {
			benchtest.FaultyInPath(t, "redis-server")
			started := benchtest.NewFaulty(t, test.mistake)
			code, stdout, stderr, s := against(t, "redis", "-ops", "1500")
			if code != test.code && !(test.code == exitOK && code == exitInvalid) || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d, stderr %q, want %d and %q", code, stderr, test.code, test.want)
			}
			if test.code == exitOK && (!strings.Contains(stdout, "7.7.7") || fmt.Sprint(s.Env.Yardsticks) != "map[redis:7.7.7]") {
				t.Errorf("the version is not in %v and\n%s", s.Env.Yardsticks, stdout)
			}
			<-started
		})
	}
}

// A Redis that runs already is used, and left running.
func TestCompareAgainstReached(t *testing.T) {
	t.Parallel()
	for mistake, want := range map[string]string{
		"":          "",
		"wrong":     "wrong data: redis, round 1: key-",
		"half full": "",
		"full":      "bench: redis, round 1: no request was answered: the server says: OOM command not allowed",
		"secretive": "redis at ADDR: the server says: NOAUTH Authentication required.\n",
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go newFakeRedis(mistake).serve(ln) // ends with ln
			addr := ln.Addr().String()
			code, stdout, stderr, s := against(t, "redis="+addr, "-ops", "200", "-mix", "get=100,put=0")
			if want = strings.ReplaceAll(want, "ADDR", addr); (want == "") != (code == exitOK || code == exitInvalid) || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, stderr %q, want %q", code, stderr, want)
			}
			switch mistake {
			case "":
				if !strings.Contains(stdout, "not known") || fmt.Sprint(s.Env.Yardsticks) != "map[redis:7.7.7 at "+addr+"]" {
					t.Errorf("yardsticks are %v, and the CPU time of a server of others is known in\n%s", s.Env.Yardsticks, stdout)
				}
			case "full":
				for _, word := range []string{"p99", "operations", " ms", "INVALID"} {
					if strings.Contains(stdout, word) {
						t.Errorf("nobody was answered, but there is a %q in\n%s", word, stdout)
					}
				}
			case "half full":
				if s.Runs[0].Errors["other"] != 100 || !strings.Contains(strings.Join(strings.Fields(stdout), " "), "the first error: the server says: OOM command not allowed") {
					t.Errorf("errors are %v, want 100, and the first in\n%s", s.Runs[0].Errors, stdout)
				}
			}
		})
	}
	t.Run("a stage", func(t *testing.T) {
		cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
		if code, _, stderr, _ := against(t, "redis="+cfg.Nodes[0].Addr); code != exitFailure || !strings.Contains(stderr, "this is a Lockstep server") {
			t.Errorf("exit code %d, stderr %q, want 1 and what it is", code, stderr)
		}
	})
	t.Run("nobody", func(t *testing.T) {
		addrs, err := node.FreeAddrs(1)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"redis=", "memcached="} {
			if code, _, stderr, _ := against(t, word+addrs[0]); code != exitFailure || !strings.Contains(stderr, "refused") {
				t.Errorf("%s: exit code %d, stderr %q, want 1 and refused", word, code, stderr)
			}
		}
	})
}
