package load

import (
	"context"
	"errors"
	"reflect"
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
