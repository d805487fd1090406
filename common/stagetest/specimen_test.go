package stagetest

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A goroutine writes a variable, and another one reads it a tenth of a second later. Is that a data race?
//
// Two accesses race if neither happens before the other. The order in which they came about is
// not enough, and they need not be at the same moment. What orders them is a channel, a
// lock, a WaitGroup or an atomic operation; see https://go.dev/ref/mem. Time orders nothing.
//
//	go test ./common/stagetest -run SpecimenHappensBefore -v
func TestSpecimenHappensBefore(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program")
	}
	exe := filepath.Join(t.TempDir(), "program.exe")
	build, err := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", exe, "./testdata/happensbefore").CombinedOutput()
	switch {
	case err != nil && regexp.MustCompile(`-race (requires cgo|is not supported)|C compiler`).Match(build):
		t.Skipf("there is no race detector here: %s", build)
	case err != nil:
		t.Fatalf("%v:\n%s", err, build)
	}
	for _, c := range []struct{ between, prediction, want string }{
		{"time", "the value is right, but it is still a race", "WARNING: DATA RACE\n" +
			"Read by main goroutine:\n  main.main() main.go:22\n" +
			"Previous write by goroutine:\n  main.main.func1() main.go:15\n" +
			"Goroutine (finished) created at:\n  main.main() main.go:14\n" +
			"the value is 42\nFound 1 data race(s)"},
		{"channel", "no race: the write happens before the close, the close before the receive, the receive before the read",
			"the value is 42"},
	} {
		t.Run(c.between, func(t *testing.T) {
			run := exec.CommandContext(t.Context(), exe, c.between)
			run.Env = append(run.Environ(), "GORACE=atexit_sleep_ms=0")
			out, err := run.CombinedOutput()
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			got := essence(string(out))
			t.Logf("prediction: %s\nfound:\n    %s", c.prediction, strings.ReplaceAll(got, "\n", "\n    "))
			if got != c.want {
				t.Errorf("found\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// essence returns what a report of the race detector says, without what differs each time:
// addresses, the goroutine's number and the directory. A function's line has its place behind it.
func essence(report string) string {
	report = regexp.MustCompile(`\n {6}.*[/\\](\S+:\d+) \+0x\w+`).ReplaceAllString(report, " $1")
	report = regexp.MustCompile(`( at 0x\w+| \d+)( by| \(|:)`).ReplaceAllString(report, "$2")
	return strings.Trim(regexp.MustCompile(`[=\r\n]*\n[=\r\n]*`).ReplaceAllString(report, "\n"), "=\r\n")
}
