package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/bench/report"
	"lockstep/common/node"
)

// against compares yardsticks alone, in one short round.
func against(t *testing.T, benchUntil func(context.Context, ...string) (int, string, string), yardsticks string, args ...string) (code int, stdout, stderr string, s *report.Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.json")
	args = append([]string{"compare", "-stages", "none", "-against", yardsticks, "-rounds", "1", "-o", path, "-keys", "100", "-rate", "5k", "-ops", "100", "-quiet"}, args...)
	code, stdout, stderr = benchUntil(t.Context(), args...)
	return code, stdout, stderr, readSaved(t, path)
}

// Redis and memcached are measured if they are installed.
func TestCompareAgainst(t *testing.T) {
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
				code, stdout, stderr, s := against(t, benchUntil, yardsticks, append(strings.Fields(load), "-ops", "800")...)
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

// A yardstick that is not installed is left out, and the report says so.
func TestCompareAgainstAbsent(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	const absent = "memcached: not found in PATH; memcached=HOST:PORT uses"
	code, stdout, stderr, s := against(t, benchUntil, "memcached,redis="+newFakeRedis("").listen(t))
	if code != exitOK && code != exitInvalid || len(s.Runs) != 1 || !strings.Contains(stdout, "\n"+absent) {
		t.Errorf("exit code %d, %d rounds, want one of redis, and what is missing; stderr %q, and printed was\n%s", code, len(s.Runs), stderr, stdout)
	}
	code, _, stderr, _ = against(t, benchUntil, "memcached")
	if want := "there is nothing to measure: " + absent; code != exitFailure || !strings.Contains(stderr, want) {
		t.Errorf("memcached alone: exit code %d, stderr %q, want 1 and %q", code, stderr, want)
	}
}

// A Redis that answers is measured, and its version said. One that dies ends the comparison.
func TestCompareAgainstRedis(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]string{
		"":       "",
		"mortal": "redis, node 0, died: panic: out of memory\nits last output:\n    panic: out of memory",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			env, started := benchtest.WatchFaulty(t, fault)
			env = append(env, "PATH="+benchtest.OnlyInPath(t, "redis-server"))
			code, stdout, stderr, s := against(t, apart(env...), "redis", "-ops", "300")
			if (code == exitFailure) != (fault == "mortal") || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, stderr %q, want %q", code, stderr, want)
			}
			if fault == "" && (!strings.Contains(stdout, "7.7.7") || fmt.Sprint(s.Env.Yardsticks) != "map[redis:7.7.7]") {
				t.Errorf("the version is not in %v and\n%s", s.Env.Yardsticks, stdout)
			}
			<-started
		})
	}
}

// A Redis that runs already is used, and left running.
func TestCompareAgainstReached(t *testing.T) {
	t.Parallel()
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	free, err := node.FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	for mistake, want := range map[string]string{
		"":          "",
		"full":      "bench: redis, round 1: no request was answered: the server says: OOM command not allowed",
		"secretive": "redis at ADDR: the server says: NOAUTH Authentication required.\n",
		"a stage":   "this is a Lockstep server",
		"nobody":    "refused",
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			addr := map[string]string{"a stage": cfg.Nodes[0].Addr, "nobody": free[0]}[mistake]
			if addr == "" {
				addr = newFakeRedis(mistake).listen(t)
			}
			code, stdout, stderr, s := against(t, benchUntil, "redis="+addr, "-mix", "get=100,put=0")
			if want = strings.ReplaceAll(want, "ADDR", addr); (want == "") != (code == exitOK || code == exitInvalid) || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, stderr %q, want %q", code, stderr, want)
			}
			if want == "" && (!strings.Contains(stdout, "not known") || fmt.Sprint(s.Env.Yardsticks) != "map[redis:7.7.7 at "+addr+"]") {
				t.Errorf("yardsticks are %v, and the CPU time of a server of others is known in\n%s", s.Env.Yardsticks, stdout)
			}
		})
	}
}

// A fakeRedis answers as Redis does, except for its fault.
type fakeRedis struct {
	fault string // "" is none

	mu     sync.Mutex // guards what follows
	values map[string]string
	served int
}

func newFakeRedis(fault string) *fakeRedis {
	return &fakeRedis{fault: fault, values: make(map[string]string)}
}

// listen serves until the end of the test, and returns the address.
func (f *fakeRedis) listen(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go f.serve(ln) // ends with ln
	return ln.Addr().String()
}

// serve accepts connections until ln is closed. Each connection ends when its client leaves.
func (f *fakeRedis) serve(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			in, out := bufio.NewReader(nc), bufio.NewWriter(nc)
			for words, err := readWords(in); err == nil; words, err = readWords(in) {
				io.WriteString(out, f.answer(words))
				if in.Buffered() == 0 {
					out.Flush()
				}
			}
		}()
	}
}

// readWords reads a command in Redis's protocol, RESP.
func readWords(in *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	words := make([]string, n)
	for i := range words {
		var size int
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:size])
	}
	return words, nil
}

// answer returns the answer to a command.
func (f *fakeRedis) answer(words []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if words[0] == "INFO" {
		if f.fault == "secretive" {
			return "-NOAUTH Authentication required.\r\n"
		}
		return bulk("# Server\r\nredis_version:7.7.7\r\nredis_mode:standalone\r\n")
	}
	if f.served++; f.fault == "mortal" && f.served > 150 {
		panic("out of memory")
	}
	value, found := f.values[words[1]]
	switch {
	case f.fault == "full" && f.served > 100: // when the keys are stored
		return "-OOM command not allowed\r\n"
	case words[0] == "SET":
		f.values[words[1]] = words[2]
		return "+OK\r\n"
	case words[0] == "DEL":
		delete(f.values, words[1])
		return map[bool]string{true: ":1\r\n", false: ":0\r\n"}[found]
	case !found:
		return "$-1\r\n"
	}
	return bulk(value)
}

func bulk(value string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value) }

// fakeRedisMain is the main function of a redis-server with the fault that NewFaulty set.
func fakeRedisMain() error {
	fault := benchtest.FaultyMain()
	if fault == "late" { // never serves
		select {}
	}
	flag := func(name string) string { return os.Args[slices.Index(os.Args, name)+1] }
	ln, err := net.Listen("tcp", net.JoinHostPort(flag("--bind"), flag("--port")))
	if err != nil {
		return err
	}
	return newFakeRedis(fault).serve(ln)
}
