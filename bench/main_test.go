package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
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
	"lockstep/bench/notes"
	"lockstep/bench/report"
	"lockstep/bench/yardstick"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// The program starts itself as a yardstick, and so does the test binary, which is all of bench
// where a test says so in the environment.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that tests start
	if os.Getenv("LOCKSTEP_BENCH") != "" || len(os.Args) > 1 && os.Args[1] == yardstick.Command {
		main()
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
// keeps it in dir. On Windows, each test builds its own.
func keepBuilds(dir string) {
	path, err := exec.LookPath("go")
	if err != nil || runtime.GOOS == "windows" || os.Getenv("LOCKSTEP_GO") != "" { // a test has started this one
		return
	}
	os.WriteFile(filepath.Join(dir, "go"), []byte(goScript), 0o755)
	for name, value := range map[string]string{"GO": path, "BUILT": dir, "RACE": benchtest.RaceFlag()} {
		os.Setenv("LOCKSTEP_"+name, value)
	}
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// goScript is that go command. It links a program that was built before to where go build
// -buildvcs=false -o FOLDER/ would put it. Where there is flock, a test waits for a program that
// another one is building. Without symbols, programs are linked faster.
const goScript = `#!/bin/sh
[ "$1" = build ] || exec "$LOCKSTEP_GO" "$@"
name=${PWD##*/}
exec 9>"$LOCKSTEP_BUILT/$name.lock" && flock 9 2>/dev/null
mkdir -p "$4" && ln "$LOCKSTEP_BUILT/$name.built" "$4$name" 2>/dev/null && exit
shift
"$LOCKSTEP_GO" build -ldflags=-s $LOCKSTEP_RACE "$@" && ln -f "$3$name" "$LOCKSTEP_BUILT/$name.built"
`

// bench runs the program until its end or, if that is before, the end of ctx, which interrupts it.
// It returns the exit code and what was printed.
func bench(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err strings.Builder
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

// apart is bench as a process of its own, with these variables in its environment, which a
// test that runs at the same time as others cannot set. At the end of ctx it gets a signal.
func apart(env ...string) (start func(ctx context.Context, args ...string) (code int, stdout, stderr string)) {
	return func(ctx context.Context, args ...string) (code int, stdout, stderr string) {
		self, err := os.Executable()
		if err != nil {
			panic(err)
		}
		var out, errOut strings.Builder
		cmd := exec.CommandContext(ctx, self, args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.Env = append(append(os.Environ(), "LOCKSTEP_BENCH=1"), env...)
		cmd.Stdout, cmd.Stderr = &out, &errOut
		cmd.Run()
		return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
	}
}

// measured runs a command that measures, and returns what it printed and saved. On a busy
// machine the measurement may be invalid.
func measured(t *testing.T, args ...string) (stdout string, s *report.Report) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.json")
	code, stdout, stderr := bench(t.Context(), append(args, "-o", path)...)
	if code != exitOK && code != exitInvalid {
		t.Fatalf("bench %q: exit code %d, stderr %q", args, code, stderr)
	}
	return stdout, readSaved(t, path)
}

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

// interrupted runs the program, as bench or apart does, interrupts it when moment returns,
// checks that it ends soon, and returns what it printed.
func interrupted(t *testing.T, moment func(), start func(context.Context, ...string) (int, string, string), args ...string) (stdout string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan time.Time, 1)
	go func() { // ends with moment
		moment()
		began <- time.Now()
		cancel()
	}()
	code, stdout, stderr := start(ctx, args...)
	if took := time.Since(<-began); code != exitInterrupted || stderr != "bench: interrupted\n" || took > 10*time.Second {
		t.Errorf("bench %q: exit code %d, stderr %q, %v after it was interrupted, want 130 and interrupted, soon", args, code, stderr, took)
	}
	return stdout
}

func TestUsage(t *testing.T) {
	dir := t.TempDir() + "/" // % below
	for path, content := range map[string]string{
		"two.json":     `{"clients": [{"control": "127.0.0.1:7201"}, {"control": "127.0.0.1:7202"}]}`,
		"exposed.json": `{"clients": [{"control": "127.0.0.1:7201"}, {"control": "0.0.0.0:7202"}]}`,
		"both.json":    `{"workload": {"ops": 5, "duration": "1s"}}`,
	} {
		if err := os.WriteFile(dir+path, []byte(content), 0o600); err != nil {
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
		{"get " + strings.Repeat("k", 251), 2, "a key of 251 bytes is not in 1..250"},
		{"compare -nodes 17", 2, "-nodes: nodes: 17 is not in 1..16"},
		{"compare -against frob", 2, `-against: unknown yardstick "frob": `},
		{"compare -sweep c=1,2 -c 3", 2, "c has a flag of its own"},
		{"compare -sweep c=1,2 -against echo", 2, "and -against names echo"},
		{"compare -workload e", 2, `-workload: "e" is not a, b, c or f`},
		{"compare -workload a -mix get=50,put=50", 2, "-workload a is a mix, get=50,put=50: give it or -mix, but not both"},
		{"compare -stages none", 2, "-stages none: there is nothing to compare"},
		{"compare -stages none -against echo -aa", 2, "-aa: there is no stage"},
		{"compare -rounds 1000 -sweep rate=1,2,3 -arrival poisson", 2, "-rounds 1000: "},
		{"compare -stages 9", 2, "-stages: there is no stage 9: want one directory stage9_* in "},
		{"run -config %two.json", 2, "cannot tell which client this is: 2 of 2 clients have an address of this machine; pass -client N"},
		{"run -config %two.json -client 2", 2, "two.json has clients 0 to 1"},
		{"run -config %exposed.json -client 1", 1, "pass -insecure"},
		{"lanes -svg -", 2, "-o and -svg each need a file"},
		{"run -ops 5 -duration 1s", 2, "-ops 5 ends the load, and so does -duration 1s"},
		{"run -config %both.json", 2, "both.json: workload.ops 5 ends the load, and so does workload.duration 1s"},
		{"check -duration 0s", 2, "0s is not above 0s"},
		{"put k", 2, "put needs a VALUE after the KEY, or one from a file or a pipe"},
		{"run -arrival poisson", 2, "-arrival poisson needs a -rate"},
		{"notes -quick", 2, "-quick -o DIR"},
		{"notes gain", 2, "-quick -o DIR"},
		{"notes -quick -measure -o %", 2, "-quick -o DIR"},
		{"notes -quick -o ..", 2, "-quick -o DIR"},
	} {
		code, stdout, stderr := bench(t.Context(), strings.Fields(strings.ReplaceAll(test.args, "%", dir))...)
		if code != test.code || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("bench %s: exit code %d, stdout %q, stderr %q, want %d and one line with %q", test.args, code, stdout, stderr, test.code, test.want)
		}
	}
}

// What was typed, or is in a file or on a server, does not take control of the terminal.
func TestForeignText(t *testing.T) {
	const csi = "\x9b31m\u009b31m\x1b[31m\u202e"
	for _, args := range []string{csi, "put k", "put -config %", "run -%", "run -config %", "run -mix %", "report %", "run %", "compare -stages %", "compare -against %", "help %"} {
		code, stdout, stderr := bench(t.Context(), strings.Fields(strings.ReplaceAll(args, "%", csi))...)
		if all := stdout + stderr; code == exitOK || all != text.Printable(all) {
			t.Errorf("bench %q: exit code %d, and it prints %q", args, code, all)
		}
	}
}

func TestHelp(t *testing.T) {
	for args, want := range map[string]string{
		"help":        "bench put KEY [VALUE]",
		"-h":          "bench put KEY [VALUE]",
		"-version":    ", protocol 1, go1.",
		"help config": "workload.depth",
		"compare -h":  "(default 2s)",
		"help all":    "-write_timeout",
		"help run":    "\n  -client NUMBER      this process's number",
		"run -h":      "more flags: bench help all.",
	} {
		code, stdout, stderr := bench(t.Context(), strings.Fields(args)...)
		if code != 0 || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("bench %s: exit code %d, stderr %q, want 0, and %q in\n%s", args, code, stderr, want, stdout)
		}
	}
	for _, topic := range []string{"", "compare", "check", "all", "statistics"} {
		_, stdout, _ := bench(t.Context(), strings.Fields("help "+topic)...)
		benchtest.CheckWidth(t, stdout, 80)
		if refused := unparsed(stdout); refused != nil || strings.Contains(stdout, " VALUE  ") {
			t.Errorf("help %s has commands that are refused, %q, or a placeholder that says nothing:\n%s", topic, refused, stdout)
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
	for args, want := range map[string]string{
		"-workload a":          "get=50,put=50 zipf:0.99 2s 0",
		"-workload f -quick":   "get=50,cas=50 zipf:0.99 500ms 0",
		"-mix get=100 -ops 50": "get=100 uniform 0s 0",
		"-dist hotspot:10,90 -workload c -duration 1s": "get=100 hotspot:10,90 1s 0",
	} {
		o := options{command: "compare"}
		err := o.parse(command{name: "compare", flags: compareFlags}, append([]string{"-config", path, "-stages", "none"}, strings.Fields(args)...))
		compare(t.Context(), &o) // which has nothing to compare
		w := o.cfg.Workload
		if got := fmt.Sprintf("%v %s %v %v", w.Mix, w.Dist, w.Duration, w.Rate); err != nil || got != want || w.Ops == cfg.Workload.Ops {
			t.Errorf("%s: %s and %d operations, error %v, want %s and not as many as in the file", args, got, w.Ops, err, want)
		}
	}
}

// unparsed returns the commands in a text that bench refuses.
func unparsed(page string) (found []string) {
	for _, m := range regexp.MustCompile("go run \\./bench([^`\\n|<>&;]*)").FindAllStringSubmatch(page, -1) {
		args := notes.Words(m[1])
		name := ""
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			name, args = args[0], args[1:]
		}
		err := errors.New("there is no such command")
		if i := slices.IndexFunc(commands, func(c command) bool { return c.name == name }); i >= 0 && commands[i].flags == nil {
			err = help(args, io.Discard)
		} else if i >= 0 {
			err = (&options{command: name}).parse(commands[i], args)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // its configuration is the reader's
			found = append(found, m[0]+": "+err.Error())
		}
	}
	return found
}

func TestCommandsInPages(t *testing.T) {
	for _, name := range []string{"NOTES.md", "README.md"} {
		page, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, refused := range unparsed(string(page)) {
			t.Errorf("%s: %s", name, refused)
		}
	}
	if found := unparsed("see `go run ./bench get`, or\n    go run ./bench put k < v\n    go run ./bench help frob\n"); len(found) != 2 {
		t.Errorf("%q are refused, want the first and the last", found)
	}
}
