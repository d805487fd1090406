package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/testbed"
	"lockstep/common/cluster"
)

// What a student has to know of a stage that panics or is stuck is what bench says first.
func TestFaults(t *testing.T) {
	t.Parallel()
	for fault, test := range map[string]struct{ commands, want string }{
		"panic":   {"check -duration 20s,compare -duration 100ms", `(\d+ × )?panicked: index out of range \[-\d+\], faulty/main\.go:\d+\n`},
		"invalid": {"check -duration 20s", `(\d+ × )?panicked: table: operation of kind invalid, table/table\.go:\d+, called at faulty/main\.go:\d+\n`},
	} {
		for command := range strings.SplitSeq(test.commands, ",") {
			t.Run(fault+" "+command, func(t *testing.T) {
				t.Parallel()
				env, _ := benchtest.WatchFaulty(t, fault)
				judge(t, env, test.want, append(strings.Fields(command), "-stages", "testdata/faulty")...)
			})
		}
	}
}

func TestStuck(t *testing.T) {
	if os.Getenv("LOCKSTEP_SLOW") == "" {
		t.Skip("waits 10s; LOCKSTEP_SLOW=1 runs it")
	}
	benchtest.NewFaulty(t, "stuck")
	const want = `stuck: no request was finished for 10s, .*\d × \(\*store\)\.apply, faulty/main\.go:\d+, waits in Mutex\.Lock`
	var judging sync.WaitGroup
	for _, command := range []string{"check", "compare"} {
		judging.Go(func() { judge(t, nil, want, command, "-stages", "testdata/faulty", "-duration", "100ms") })
	}
	judging.Go(func() {
		judgeRun(t, func(path string) { judge(t, nil, want, "run", "-config", path, "-duration", "100ms") })
	})
	judging.Wait()
}

// judge checks what bench says first of a fault.
func judge(t *testing.T, env []string, want string, args ...string) {
	began := time.Now()
	code, _, stderr := apart(t, env, args...)
	match, _ := regexp.MatchString("^bench: (faulty(, round 1)?: )?node 0: "+want, stderr)
	if took := time.Since(began); code != exitFailure || !match || took > 40*time.Second {
		t.Errorf("%v: exit code %d after %v, want %d, and %s first in\n%s", args, code, took, exitFailure, want, stderr)
	}
}

// judgeRun calls judge with the configuration of a stage that runs, and stops the stage, which
// does not drain.
func judgeRun(t *testing.T, judge func(path string)) {
	bed, err := testbed.New(t.Context(), []string{"testdata/faulty"}, func(string) {})
	if err != nil {
		t.Error(err)
		return
	}
	defer bed.Close()
	cfg, path := cluster.Default(), filepath.Join(t.TempDir(), "cluster.json")
	cfg.Server.DrainTimeout = time.Millisecond
	judged := false
	err = bed.With(t.Context(), bed.Programs[0], cfg, 1, func(_ context.Context, s *testbed.Servers) error {
		if err := s.Config.Save(path); err != nil {
			return err
		}
		judge(path)
		judged = true
		return nil
	})
	if want := `died: faulty: the drain was cut short \(.*; .*\(\*store\)\.apply, faulty/main\.go:\d+, waits in Mutex\.Lock`; !judged || !regexp.MustCompile(want).MatchString(fmt.Sprint(err)) {
		t.Errorf("error %v, want %s", err, want)
	}
}
