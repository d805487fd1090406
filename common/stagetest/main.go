package stagetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"lockstep/common/node"
)

// Main is a stage's TestMain. It ends the tests when the stage is stuck. Under the race
// detector, they end at the first data race, unless GORACE says otherwise: one that is met a
// thousand times would be reported as often.
//
//	func TestMain(m *testing.M) { stagetest.Main(m, serve) }
func Main(m *testing.M, serve node.Serve) {
	watchStage(serve)
	if raceDetector && os.Getenv("GORACE") == "" { // which is read when a process starts
		os.Exit(untilOneRace())
	}
	code := m.Run()
	if code != 0 {
		fmt.Println("go vet finds a lock that is copied, and go test -race a data race.")
	}
	os.Exit(code)
}

// In a report of the race detector: the stack of an access beyond its first four calls, which
// have two lines each; and where a goroutine began.
var (
	deepStack = regexp.MustCompile(`(?m)^(.* at 0x.*\n(?:  .*\n){8})(?:  .*\n)+`)
	beginning = regexp.MustCompile(`(?m)^Goroutine .*\n(?:  .*\n)+\n?`)
)

// untilOneRace runs this program in a process that ends at the first data race, and returns its
// exit code. Of the race detector's report it prints where the two accesses were.
func untilOneRace() int {
	var stderr bytes.Buffer
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Stderr.Write(beginning.ReplaceAll(deepStack.ReplaceAll(stderr.Bytes(), []byte("$1")), nil))
	return cmd.ProcessState.ExitCode()
}
