package main

import (
	"regexp"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
)

// What a student has to know of a stage that panics or is stuck is what bench says first.
func TestFaults(t *testing.T) {
	for fault, want := range map[string]string{
		"panic": `(\d+ × )?panicked: index out of range \[-\d+\], faulty/main\.go:\d+\n`,
		"stuck": `stuck: no request was finished for 10s, .*\d × \(\*store\)\.apply, faulty/main\.go:\d+, waits in Mutex\.Lock`,
	} {
		t.Run(fault, func(t *testing.T) {
			benchtest.EmptyFolder(t)
			benchtest.NewFaulty(t, fault)
			var commands sync.WaitGroup
			defer commands.Wait()
			for command, where := range map[string]string{"check": "faulty", "compare": "faulty, round 1"} {
				commands.Go(func() {
					began := time.Now()
					code, _, stderr := bench(t, command, "-stages", "testdata/faulty", "-duration", "300ms")
					if match, _ := regexp.MatchString("^bench: "+where+": node 0: "+want, stderr); code != exitFailure || !match {
						t.Errorf("%s: exit code %d, want %d, and %s first in\n%s", command, code, exitFailure, want, stderr)
					}
					if took := time.Since(began); took > 20*time.Second {
						t.Errorf("%s took %v", command, took)
					}
				})
			}
		})
	}
}
