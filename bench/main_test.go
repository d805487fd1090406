package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/report"
	"lockstep/bench/yardstick"
)

// The program starts itself as a yardstick, and so does the test binary, which is all of bench
// where a test says so in the environment. Called redis-server, it is a program that the tests
// have put into PATH.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that tests start
	switch name, _, _ := strings.Cut(filepath.Base(os.Args[0]), "."); {
	case name == "redis-server":
		panic(fakeRedisMain())
	case os.Getenv("LOCKSTEP_BENCH") != "", len(os.Args) > 1 && os.Args[1] == yardstick.Command:
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
// keeps it in dir, as well as what go env says here. On Windows, each test builds its own.
func keepBuilds(dir string) {
	command, err := exec.LookPath("go")
	if err != nil || runtime.GOOS == "windows" || os.Getenv("LOCKSTEP_GO") != "" { // a test has started this one
		return
	}
	for _, what := range []string{"GOMOD", "-changed"} {
		out, _ := exec.Command(command, "env", "-json", what).Output()
		os.WriteFile(filepath.Join(dir, what), out, 0o600)
	}
	os.WriteFile(filepath.Join(dir, "go"), []byte(goScript), 0o755)
	here, _ := os.Getwd()
	for name, value := range map[string]string{
		"GO": command, "BUILT": dir, "HERE": here, "RACE": benchtest.RaceFlag(),
	} {
		os.Setenv("LOCKSTEP_"+name, value)
	}
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// goScript is that go command. It links a program that was built before to where go build
// -buildvcs=false -o FOLDER/ would put it. Where there is flock, a test waits for a program that
// another one is building. Without symbols, programs are linked faster.
const goScript = `#!/bin/sh
[ "$1 $2 $PWD" = "env -json $LOCKSTEP_HERE" ] && cat "$LOCKSTEP_BUILT/$3" 2>/dev/null && exit
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
func apart(env ...string) (bench func(ctx context.Context, args ...string) (code int, stdout, stderr string)) {
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
func interrupted(t *testing.T, moment func(), bench func(context.Context, ...string) (int, string, string), args ...string) (stdout string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan time.Time, 1)
	go func() { // ends with moment
		moment()
		began <- time.Now()
		cancel()
	}()
	code, stdout, stderr := bench(ctx, args...)
	if took := time.Since(<-began); code != exitInterrupted || stderr != "bench: interrupted\n" || took > 10*time.Second {
		t.Errorf("bench %q: exit code %d, stderr %q, %v after it was interrupted, want 130 and interrupted, soon", args, code, stderr, took)
	}
	return stdout
}
