package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
)

func TestSweepUsage(t *testing.T) {
	for args, want := range map[string]string{
		"-sweep c":                      `workload.connections: "" is not in`,
		"-sweep nodes=1,2":              `"nodes" is not PROPERTY=VALUES with a property out of c, rate,`,
		"-sweep c=1,,2":                 `workload.connections: "" is not in`,
		"-sweep c=0,4":                  "workload.connections: 0 is not in 1..100000",
		"-sweep c=1,2,1":                "c: 1 is given twice",
		"-sweep keys=1000,1k":           "keys: 1000 is given twice",
		"-sweep c=1.5":                  "workload.connections: 1.5 is not in",
		"-sweep c=1,2 -c 3":             "c has a flag of its own",
		"-sweep c=1,2 -connections 3":   "c has a flag of its own",
		"-sweep work=0s,1ms -work 1ms":  "work has a flag of its own",
		"-sweep work=1":                 "server.work: 1 is not in",
		"-sweep batch=1,1024 -value 99": "-sweep: batch=1024: workload.batch: 1024 operations",
		"-sweep c=1,2 -rounds 0":        "-rounds: not in 1..1000",
	} {
		code, stdout, stderr := bench(t, append([]string{"compare"}, strings.Fields(args)...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("compare %s: exit code %d, stderr %q, want 2 and %q", args, code, stderr, want)
		}
	}
}

// Each measurement is made on servers of its own, which have what the point says.
func TestCompareSweep(t *testing.T) {
	benchtest.EmptyFolder(t)
	m := benchtest.NewFaulty(t, "")
	path := filepath.Join(t.TempDir(), "out.json")
	code, stdout, stderr := bench(t, "compare", "-stages", "testdata/faulty", "-sweep", "work=0s,20ms", "-rounds", "2",
		"-duration", "100ms", "-keys", "5", "-o", path)
	if code != exitOK {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	m.Ended(4)
	var s struct {
		Sweep struct {
			Property string
			Points   []string
		}
		Runs    []struct{ Stage, Point string }
		Summary []struct {
			Stage, Point string
			OpsPerSecond struct {
				Median float64
				Rounds int
			} `json:"ops_per_s"`
		}
		Verdict string
	}
	readJSON(t, path, &s)
	if s.Sweep.Property != "work" || !slices.Equal(s.Sweep.Points, []string{"0s", "20ms"}) || s.Verdict != "ok" || len(s.Runs) != 4 || len(s.Summary) != 2 {
		t.Fatalf("the file holds %+v", s)
	}
	for i, sum := range s.Summary {
		if sum.Stage != "faulty" || sum.Point != s.Sweep.Points[i] || sum.OpsPerSecond.Rounds != 2 {
			t.Errorf("summary %d is %+v", i, sum)
		}
	}
	// One lock, held for 20 ms an operation: 50 a second.
	if free, held := s.Summary[0].OpsPerSecond.Median, s.Summary[1].OpsPerSecond.Median; held > 51 || free < 2*held {
		t.Errorf("%v operations a second without work, %v with 20 ms of it", free, held)
	}
	for _, want := range []string{"faulty peaks at work=", "median [range] of 2 rounds", "\n0s faulty ", "\n20ms faulty ", "Swept: work, "} {
		if got := strings.Join(strings.Fields(stdout), " "); !strings.Contains(got, strings.Join(strings.Fields(want), " ")) {
			t.Errorf("there is no %q in\n%s", want, stdout)
		}
	}
}

// Interrupted after its first measurement, a sweep prints that one.
func TestSweepInterrupted(t *testing.T) {
	benchtest.EmptyFolder(t)
	m := benchtest.NewFaulty(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "out.json")
	type outcome struct {
		code           int
		stdout, stderr string
	}
	done := make(chan outcome, 1)
	go func() { // ends soon after cancel
		code, stdout, stderr := benchUntil(ctx, "compare", "-stages", "testdata/faulty", "-sweep", "value=30,16..64", "-duration", "100ms", "-keys", "20", "-o", path)
		done <- outcome{code, stdout, stderr}
	}()
	m.Started(2, false)
	cancel()
	select {
	case o := <-done:
		if o.code != exitInterrupted || o.stderr != "bench: interrupted\n" || !strings.HasPrefix(o.stdout, "INTERRUPTED\nfaulty peaks at value=") {
			t.Errorf("exit code %d, stderr %q, stdout\n%s", o.code, o.stderr, o.stdout)
		}
		if s := readSaved(t, path); s.Verdict != "interrupted" || len(s.Runs) != 1 {
			t.Errorf("verdict %q with %d runs, want interrupted with 1", s.Verdict, len(s.Runs))
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on 10s after it was interrupted")
	}
	m.Ended(2)
}

// A wrong answer is a verdict, wherever it was given.
func TestSweepWrongData(t *testing.T) {
	rep := testSweep(t, "c=1,2", func(int, int, int) int64 { return 100 })
	wrong := testRound(100)
	wrong.FoundWrong(errors.New("key-017: blue"))
	rep.AddAt("2", "one", 4, wrong)
	if want := "wrong data: one at c=2, round 4: key-017: blue"; rep.Verdict != want || !strings.HasPrefix(rep.String(), "WRONG DATA: one at c=2, round 4") {
		t.Errorf("the verdict is %q, want %q; the report is\n%s", rep.Verdict, want, rep)
	}
}
