package main

import (
	"slices"
	"strings"
	"testing"

	"lockstep/bench/benchtest"
)

// Each measurement has servers of its own, configured for its point.
func TestCompareSweep(t *testing.T) {
	benchtest.EmptyFolder(t)
	m := benchtest.NewFaulty(t, "")
	stdout, s := measured(t, "compare", "-stages", "testdata/faulty", "-sweep", "work=0s,20ms", "-rounds", "1", "-duration", "100ms", "-keys", "5")
	m.Ended(2)
	if !slices.Equal(s.Sweep.Points, []string{"0s", "20ms"}) || s.Verdict != "ok" || len(s.Runs) != 2 || len(s.Summary) != 2 {
		t.Fatalf("the file holds %+v", s)
	}
	for i, sum := range s.Summary {
		if sum.Stage != "faulty" || sum.Point != s.Sweep.Points[i] || sum.OpsPerSecond.Rounds != 1 {
			t.Errorf("summary %d is %+v", i, sum)
		}
	}
	// One lock, held for 20 ms an operation: 50 a second.
	if free, held := s.Summary[0].OpsPerSecond.Median, s.Summary[1].OpsPerSecond.Median; held > 51 || free < 2*held {
		t.Errorf("%v operations a second without work, %v with 20 ms of it", free, held)
	}
	for _, want := range []string{"faulty peaks at work=", " 0s faulty ", " 20ms faulty ", "Swept: work, "} {
		if got := strings.Join(strings.Fields(stdout), " "); !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, stdout)
		}
	}
}
