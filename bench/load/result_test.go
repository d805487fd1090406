package load

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/workload"
	"lockstep/common/metrics"
)

func TestMerge(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	worker := func(n int64, err error) *Result {
		r := &Result{Counts: Counts{Connections: 1, Starved: 1, NeverGreeted: 1, Requests: n, Answers: workload.Answers{OK: n, Misses: n, Mismatches: n}, Unfinished: n, Refusals: n}, FailedTime: time.Duration(n)}
		r.Answered(int(n), time.Duration(n)*time.Second/10) // in second 1, and in second 2
		r.Fail("busy", err)
		r.FoundWrong(err)
		r.ResponseTimes.Record(time.Duration(n))
		Record(&r.Slips, time.Duration(n))
		Record(&r.ServiceTimes, time.Duration(n))
		return r
	}
	total := &Result{Dur: time.Second, ServerCPU: 2, ClientCPU: 3}
	total.Merge(worker(10, first))
	total.Merge(worker(20, second))
	total.Merge(new(Result))

	want := &Result{Counts: Counts{Connections: 2, Starved: 2, NeverGreeted: 2, Requests: 30, Unfinished: 30, Refusals: 30,
		Answers: workload.Answers{OK: 30, Misses: 30, Mismatches: 30, Wrong: 2, FirstWrong: "first"}, Errors: map[string]int64{"busy": 2}, FirstError: "first"},
		FailedTime: 30, Series: []int64{0, 10, 20},
		Dur: time.Second, ServerCPU: 2, ClientCPU: 3} // which belong to the round
	for _, d := range []time.Duration{10, 20} {
		want.ResponseTimes.Record(d)
		Record(&want.Slips, d)
		Record(&want.ServiceTimes, d)
	}
	if !reflect.DeepEqual(total, want) {
		t.Errorf("merged they are %+v, want %+v", total.Counts, want.Counts)
	}
}

// Samples are drawn without bias, however the requests are spread over workers and however
// these are merged: a tenth of the requests, at any time of the round, is a tenth of the samples.
func TestSamples(t *testing.T) {
	const requests = 100_000
	workers := []*Result{{}, {}, {}}
	for i := range requests {
		at := time.Duration(i) * time.Millisecond
		s := Sample{at, at, at + 300*time.Microsecond, "answered"}
		if i%10 == 3 {
			s.Outcome = "server busy"
		}
		workers[min(i%20, 2)].sample(2*MaxSamples, s) // the third has nearly all
	}
	first, second := new(Result), new(Result)
	for i := range workers {
		first.Merge(workers[i])
		second.Merge(workers[2-i])
	}
	if n := len(first.Samples); n != MaxSamples || !reflect.DeepEqual(sortedSamples(first), sortedSamples(second)) {
		t.Fatalf("%d samples, want %d, and the same in any order of merging", n, MaxSamples)
	}
	busy, workerSamples, tenths := 0, 0, [10]int{}
	for i, s := range first.Samples {
		if s.Outcome == "server busy" {
			busy++
		}
		n := int(s.Due / time.Millisecond)
		if n%20 < 2 { // of the first two workers
			workerSamples++
		}
		tenths[n*10/requests]++
		if i > 0 && s == first.Samples[i-1] {
			t.Errorf("a sample is there twice: %v", s)
		}
	}
	const want, spread = MaxSamples / 10, 60 // 4.5 times the standard deviation
	for what, n := range map[string]int{"refused": busy, "of two workers": workerSamples, "early": tenths[0], "late": tenths[9]} {
		if n < want-spread || n > want+spread {
			t.Errorf("%d samples are %s, want about %d", n, what, want)
		}
	}
}

func sortedSamples(r *Result) []Sample {
	return slices.SortedFunc(slices.Values(r.Samples), func(a, b Sample) int { return cmp.Compare(a.Due, b.Due) })
}

// restarting are servers that are restarted before each question.
type restarting struct {
	Target
	incarnation *uint64
}

func (t restarting) Stats(context.Context) ([]metrics.Snapshot, error) {
	*t.incarnation++
	return []metrics.Snapshot{{Incarnation: 7}, {Incarnation: *t.incarnation, Requests: -5}}, nil
}

// Of a node that was restarted in the round nothing is subtracted, and the round has failed.
func TestMeasureRestarted(t *testing.T) {
	t.Parallel()
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	cfg.Workload.Ops, cfg.Workload.Duration = 10, 0
	r, err := Measure(t.Context(), restarting{NewLockstep(cfg), new(uint64)}, newWorkload(t, cfg.Workload), 0, func(float64, time.Duration, int64) {})
	if err != nil || r.Requests != 10 || r.Nodes != nil || r.ServerCPU != 0 {
		t.Fatalf("error %v, result %+v, want 10 requests and nothing from the servers", err, r)
	}
	if err := r.Broken(); err == nil || err.Error() != "node 1 was restarted, and its table is empty: it has run for 0ns" {
		t.Errorf("the round has failed because of %v", err)
	}
}
