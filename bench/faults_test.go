package main

import (
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
)

// What a student has to know of a stage that panics or is stuck is what bench says first.
func TestFaults(t *testing.T) {
	judge := func(t *testing.T, want string, args ...string) {
		began := time.Now()
		code, _, stderr := bench(t, append(args, "-stages", "testdata/faulty", "-duration", "100ms")...)
		match, _ := regexp.MatchString("^bench: faulty(, round 1)?: node 0: "+want, stderr)
		if took := time.Since(began); code != exitFailure || !match || took > 40*time.Second {
			t.Errorf("%v: exit code %d after %v, want %d, and %s first in\n%s", args, code, took, exitFailure, want, stderr)
		}
	}
	t.Run("panic", func(t *testing.T) {
		benchtest.EmptyFolder(t)
		benchtest.NewFaulty(t, "panic")
		for _, command := range []string{"check", "compare"} {
			judge(t, `(\d+ × )?panicked: index out of range \[-\d+\], faulty/main\.go:\d+\n`, command)
		}
	})
	t.Run("panic elsewhere", func(t *testing.T) {
		benchtest.EmptyFolder(t)
		benchtest.NewFaulty(t, "invalid")
		judge(t, `(\d+ × )?panicked: table: operation of kind invalid, table/table\.go:\d+, called at faulty/main\.go:\d+\n`, "check")
	})
	t.Run("stuck", func(t *testing.T) { // after panic, which has built the stage
		if os.Getenv("LOCKSTEP_SLOW") == "" {
			t.Skip("waits 10s; LOCKSTEP_SLOW=1 runs it")
		}
		benchtest.EmptyFolder(t)
		benchtest.NewFaulty(t, "stuck")
		var judging sync.WaitGroup
		for _, command := range []string{"check", "compare"} {
			judging.Go(func() {
				judge(t, `stuck: no request was finished for 10s, .*\d × \(\*store\)\.apply, faulty/main\.go:\d+, waits in Mutex\.Lock`, command)
			})
		}
		judging.Wait()
	})
}
