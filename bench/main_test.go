package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/report"
	"lockstep/bench/yardstick"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// The program starts itself as a yardstick, and so does the test binary, which is all of bench
// where a test says so in the environment. Called redis-server, it is a program that the tests
// have put into PATH.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that tests start
	switch name, _, _ := strings.Cut(filepath.Base(os.Args[0]), "."); {
	case name == "redis-server":
		fmt.Println(fakeRedisMain())
		os.Exit(1)
	case os.Getenv("LOCKSTEP_BENCH") != "", len(os.Args) > 1 && os.Args[1] == yardstick.Command:
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Setenv("LOCKSTEP_SECRET", "")
	dir, err := os.MkdirTemp("", "bench-test-")
	if err != nil {
		panic(err)
	}
	keepBuilds(dir)
	left := filepath.Join(dir, "left")
	os.Mkdir(left, 0o755)
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		os.Setenv(name, left)
	}
	flag.Set("test.parallel", "10") // parallel tests wait and hardly compute; -parallel overrides it
	code := m.Run()
	if files, err := os.ReadDir(left); len(files) > 0 || err != nil {
		fmt.Printf("FAIL: left in the directory for temporary files: %v (%v)\n", files, err)
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// keepBuilds puts a go command into PATH that builds each stage once for all tests, and
// keeps it in dir, as well as what go env says here. On Windows, each test builds its own.
func keepBuilds(dir string) {
	command, err := exec.LookPath("go")
	if os.Getenv("LOCKSTEP_GO") != "" { // a test has started this one
		return
	}
	if err == nil && runtime.GOOS != "windows" && os.WriteFile(filepath.Join(dir, "go"), []byte(goScript), 0o755) == nil {
		os.Setenv("LOCKSTEP_GO", command)
		os.Setenv("LOCKSTEP_BUILT", dir)
		for _, what := range []string{"GOMOD", "-changed"} {
			out, _ := exec.Command(command, "env", "-json", what).Output()
			os.WriteFile(filepath.Join(dir, what), out, 0o600)
		}
		here, _ := os.Getwd()
		os.Setenv("LOCKSTEP_HERE", here)
		if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			os.Setenv("LOCKSTEP_RACE", "-race") // the packages that stages need are compiled for it already
		}
		os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
}

// goScript is that go command. It links a program that was built before to where go build
// -buildvcs=false -o FOLDER/ would put it. Without symbols, programs are linked faster.
const goScript = `#!/bin/sh
[ "$1 $2 $PWD" = "env -json $LOCKSTEP_HERE" ] && cat "$LOCKSTEP_BUILT/$3" 2>/dev/null && exit
[ "$1" = build ] || exec "$LOCKSTEP_GO" "$@"
name=${PWD##*/}
mkdir -p "$4" && ln "$LOCKSTEP_BUILT/$name.built" "$4$name" 2>/dev/null && exit
shift
"$LOCKSTEP_GO" build -ldflags=-s $LOCKSTEP_RACE "$@" && ln -f "$3$name" "$LOCKSTEP_BUILT/$name.built"
`

// bench runs the program to its end, for a minute at most, and returns its exit code
// and what it printed.
func bench(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return benchUntil(ctx, args...)
}

func benchUntil(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err safeBuffer
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

// apart runs the program to its end as a process of its own, with these variables in its
// environment, which a test that runs at the same time as others cannot set.
func apart(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut strings.Builder
	cmd := exec.CommandContext(t.Context(), self, append(args, "-quiet")...)
	cmd.Env = append(append(os.Environ(), "LOCKSTEP_BENCH=1"), env...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// measured runs a command that measures, and returns what it printed and saved. On a busy
// machine the measurement may be invalid.
func measured(t *testing.T, args ...string) (stdout string, s *report.Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.json")
	code, stdout, stderr := bench(t, append(args, "-o", path)...)
	if code != exitOK && code != exitInvalid {
		t.Fatalf("bench %q: exit code %d, stderr %q", args, code, stderr)
	}
	return stdout, readSaved(t, path)
}

// interrupted runs the program, interrupts it when moment returns, checks that it ends soon,
// and returns what it printed.
func interrupted(t *testing.T, moment func(), args ...string) (stdout string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan bool)
	var code int
	var stderr string
	go func() { // ends soon after cancel
		code, stdout, stderr = benchUntil(ctx, args...)
		close(done)
	}()
	moment()
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("bench %q goes on 10s after it was interrupted", args)
	}
	if code != exitInterrupted || stderr != "bench: interrupted\n" {
		t.Errorf("bench %q: exit code %d, stderr %q, want 130 and interrupted", args, code, stderr)
	}
	return stdout
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	two, bad, both := filepath.Join(dir, "two.json"), filepath.Join(dir, "bad.json"), filepath.Join(dir, "both.json")
	for path, content := range map[string]string{
		two:  `{"clients": [{"control": "127.0.0.1:7201"}, {"control": "127.0.0.1:7202"}]}`,
		bad:  `{"server": {"workers": 0}}`,
		both: `{"workload": {"ops": 5, "duration": "1s"}}`,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args string
		code int
		want string // in the one line on stderr
	}{
		{"frob", 2, `unknown command "frob"`},
		{"help frob", 2, `no help on "frob"`},
		{"get", 2, ": get needs KEY after the flags, got 0 arguments"},
		{"report missing.json", 1, "open missing.json: "},
		{"report", 2, ": report needs FILE.json after the flags, got 0 arguments"},
		{"get " + strings.Repeat("k", 251), 2, "a key of 251 bytes is not in 1..250"},
		{"compare -stages 9", 2, "-stages: there is no stage 9: want one directory stage9_* in "},
		{"compare -nodes 17", 2, "-nodes: nodes: 17 is not in 1..16"},
		{"compare -o " + filepath.Join(t.TempDir(), "no", "such.json"), 1, "the report was not saved: "},
		{"compare -against frob", 2, `-against: unknown yardstick "frob": use echo, netrpc, redis or memcached`},
		{"compare -sweep nodes=1,2", 2, `"nodes" is not PROPERTY=VALUES with a property out of c, rate,`},
		{"compare -sweep c=1,2 -c 3", 2, "c has a flag of its own"},
		{"compare -workload e", 2, `-workload: "e" is not a, b, c or f`},
		{"compare -workload a -mix get=50,put=50", 2, "-workload a is a mix, get=50,put=50: give it or -mix, but not both"},
		{"compare -stages none", 2, "-stages none: there is nothing to compare"},
		{"yardstick", 1, "bench starts it by itself"},
		{"run -config " + two, 2, "cannot tell which client this is: 2 of 2 clients have an address of this machine; pass -client N"},
		{"run -client 1", 2, "clients 0 to 0"},
		{"lanes -svg -", 2, "-o and -svg each need a file"},
		{"run -ops 5 -duration 1s", 2, "-ops 5 ends the load, and so does -duration 1s"},
		{"run -config " + both, 2, "both.json: workload.ops 5 ends the load, and so does workload.duration 1s"},
		{"run -duration 1", 2, "1 needs a unit, as in 1s or 1ms: a time in 0s..24h0m0s"},
		{"check -duration 1", 2, "1 needs a unit, as in 1s"},
		{"check -work 5", 2, "5 needs a unit, as in 5s"},
		{"check -duration 0s", 2, "0s is not above 0s"},
		{"put k", 2, "put needs a VALUE after the KEY, or one from a file or a pipe"},
		{"run -arrival poisson", 2, "-arrival poisson needs a -rate"},
		{"compare -sweep rate=0,5 -arrival poisson -stages 9", 2, "there is no stage 9"},
		{"run -config " + bad, 1, "server.workers: 0 is not in 1..4096"},
	} {
		code, stdout, stderr := bench(t, strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("bench %s: exit code %d, stdout %q, stderr %q, want %d and one line with %q", test.args, code, stdout, stderr, test.code, test.want)
		}
	}
}

// What was typed, or is in a file or on a server, does not take control of the terminal.
func TestForeignText(t *testing.T) {
	const csi = "\x9b31m\u009b31m\x1b[31m\u202e"
	for _, args := range []string{csi, "put k", "put -config %", "run -%", "run -config %", "run -mix %", "report %", "run %", "compare -stages %", "compare -against %", "help %"} {
		code, stdout, stderr := bench(t, strings.Fields(strings.ReplaceAll(args, "%", csi))...)
		if all := stdout + stderr; code == exitOK || all != text.Printable(all) {
			t.Errorf("bench %q: exit code %d, and it prints %q", args, code, all)
		}
	}
}

func TestHelp(t *testing.T) {
	for args, want := range map[string]string{
		"help":            "bench put KEY [VALUE]",
		"-h":              "bench put KEY [VALUE]",
		"-version":        ", protocol 1, go1.",
		"help config":     "workload.depth",
		"compare -h":      "(default 1,2,3,4)",
		"help get":        "bench get [flags] KEY: print a value\n",
		"help compare":    "(default 2s)",
		"help all":        "-write_timeout",
		"help run":        "\n  -client NUMBER      this process's number",
		"run -h":          "more flags: bench help all.",
		"help check":      "\n  -faults             cut",
		"help statistics": "no difference shown",
	} {
		code, stdout, stderr := bench(t, strings.Fields(args)...)
		if code != 0 || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("bench %s: exit code %d, stderr %q, want 0, and %q in\n%s", args, code, stderr, want, stdout)
		}
	}
	for _, topic := range []string{"", "compare", "check", "all", "statistics"} {
		_, stdout, _ := bench(t, strings.Fields("help "+topic)...)
		benchtest.CheckWidth(t, stdout, 80)
		if strings.Contains(stdout, " VALUE  ") {
			t.Errorf("help %s has a placeholder that says nothing:\n%s", topic, stdout)
		}
	}
	for _, group := range usual {
		for _, name := range strings.Fields(group.Names) {
			if !slices.ContainsFunc(commands, func(c command) bool { return c.flags != nil && new(options).flagSet(c).Lookup(name) != nil }) {
				t.Errorf("no command has the usual flag -%s", name)
			}
		}
	}
	for _, c := range commands { // the examples are valid
		o := &options{command: c.name}
		if c.flags == nil {
			continue
		}
		if err := o.parse(c, strings.Fields(c.example)); err != nil {
			t.Errorf("bench %s %s: %v", c.name, c.example, err)
		}
	}
}

// A flag beats what the file or -workload says. What ends a round of compare is not in the file.
func TestFlagsBeat(t *testing.T) {
	cfg, path := cluster.Default(), filepath.Join(t.TempDir(), "hour.json")
	cfg.Workload.Duration, cfg.Workload.Ops = time.Hour, 7
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args     string
		mix      cluster.Mix
		dist     string
		duration time.Duration
	}{
		{"-workload a", cluster.Mix{Get: 50, Put: 50}, "zipf:0.99", 2 * time.Second},
		{"-workload b", cluster.Mix{Get: 95, Put: 5}, "zipf:0.99", 2 * time.Second},
		{"-workload f -quick", cluster.Mix{Get: 50, CAS: 50}, "zipf:0.99", 500 * time.Millisecond},
		{"-dist hotspot:10,90 -workload c -duration 1s", cluster.Mix{Get: 100}, "hotspot:10,90", time.Second},
		{"-rate 2.5k -duration 1m", cluster.Mix{Get: 60, Put: 40}, "uniform", time.Minute},
		{"-mix get=100 -ops 50", cluster.Mix{Get: 100}, "uniform", 0},
		{"-workload c -duration 0s", cluster.Mix{Get: 100}, "zipf:0.99", 0},
	} {
		o := options{command: "compare"}
		err := o.parse(command{name: "compare", flags: compareFlags}, append([]string{"-config", path, "-stages", "none"}, strings.Fields(test.args)...))
		compare(t.Context(), &o) // which has nothing to compare
		if w := o.cfg.Workload; err != nil || w.Mix != test.mix || w.Dist != test.dist || w.Duration != test.duration {
			t.Errorf("%s: %v, %s, %v, error %v, want %v, %s, %v", test.args, w.Mix, w.Dist, w.Duration, err, test.mix, test.dist, test.duration)
		}
		if o.given["rate"] && o.cfg.Workload.Rate != 2500 {
			t.Errorf("%s: the rate is %v", test.args, o.cfg.Workload.Rate)
		}
		if got := o.cfg.Workload.Ops; got == cfg.Workload.Ops {
			t.Errorf("%s: ops are %d as in the file", test.args, got)
		}
	}
}

// A safeBuffer is a bytes.Buffer that is safe for concurrent use.
type safeBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
