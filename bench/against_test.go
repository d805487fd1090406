package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
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
	defer ln.Close()
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
