package main

import (
	"context"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// The instant server answers right, so that the client's checks of it are those of a round.
func TestCeiling(t *testing.T) {
	for _, change := range []func(*cluster.Workload){
		func(w *cluster.Workload) {},
		func(w *cluster.Workload) { w.Batch, w.Value = 16, cluster.Size{Min: 16, Max: 1024} },
		func(w *cluster.Workload) {
			w.Mix, w.Keys, w.Dist = cluster.Mix{Get: 25, Put: 25, Delete: 25, CAS: 25}, 100_000_000, "zipf:0.99"
			w.Rate, w.Depth, w.Connections = 200, 64, 1000 // none of which it has to do with
		},
	} {
		w := cluster.Default().Workload
		change(&w)
		ops, err := ceiling(t.Context(), w)
		if err != nil || ops < 1000 {
			t.Errorf("%+v: %v operations a second, error %v", w, ops, err)
		}
		t.Logf("batch %d, %v, values of %v: %s operations a second", w.Batch, w.Mix, w.Value, three(ops))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ceiling(ctx, cluster.Default().Workload); err != context.Canceled {
		t.Errorf("interrupted: error %v", err)
	}
}

// What the instant server says passes every check, and what it says otherwise does not.
func TestInstant(t *testing.T) {
	work := newTestWorkload(t, func(w *cluster.Workload) {
		w.Mix, w.Batch = cluster.Mix{Get: 25, Put: 25, Delete: 25, CAS: 25}, 10
	})
	in, s := newInstant(work), work.source(0)
	var r result
	for range 100 {
		answers, err := in.Do(t.Context(), s.next()...)
		if err != nil {
			t.Fatal(err)
		}
		s.check(answers, &r)
	}
	if r.ok != 1000 || r.wrong != 0 || r.misses != 0 || r.mismatches != 0 {
		t.Errorf("%d ok, %d wrong (%v), %d misses, %d mismatches, want 1000 ok", r.ok, r.wrong, r.firstWrong, r.misses, r.mismatches)
	}
	answers, _ := in.Do(t.Context(), s.next()...)
	for i := range answers {
		answers[i].Status = wire.Aborted + 100
	}
	if s.check(answers, &r); r.wrong != 10 {
		t.Errorf("%d wrong answers, want 10", r.wrong)
	}
}
