package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/barrier"
	"lockstep/common/metrics"
)

func TestMerge(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	worker := func(n int64, err error) *Result {
		r := &Result{Counts: Counts{Connections: 1, Starved: 1, NeverGreeted: 1, Requests: n, OK: n, Misses: n, Mismatches: n, Unfinished: n, Refusals: n}, FailedTime: time.Duration(n)}
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

	want := &Result{Counts: Counts{Connections: 2, Starved: 2, NeverGreeted: 2, Requests: 30, OK: 30, Misses: 30, Mismatches: 30,
		Errors: map[string]int64{"busy": 2}, Unfinished: 30, Refusals: 30, Wrong: 2, FirstError: "first", FirstWrong: "first"},
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

// Pack keeps every field. A new field has to be set here.
func TestPack(t *testing.T) {
	r := &Result{Counts: Counts{Connections: 1, Starved: 2, NeverGreeted: 3, Requests: 4, OK: 5, Bytes: 6, Misses: 6, Mismatches: 7, Unfinished: 8, Refusals: 9, RefusedDials: 10, FailedDials: metrics.Tally{"refused": 11}, NotServed: "full"}, Client: Pipelined, Restarted: "node 0", Cores: 0.5, MachineCPU: 1, Stalled: 14, Stall: 15, FailedTime: 9, TimeWait: 16, Dur: 10, ServerCPU: 11, ClientCPU: 12, Nodes: []metrics.Snapshot{{Requests: 13}}}
	r.Fail("other", errors.New("first"))
	r.FoundWrong(errors.New("wrong"))
	r.ResponseTimes.Record(time.Second)
	Record(&r.ServiceTimes, time.Minute)
	Record(&r.Slips, time.Millisecond)
	Record(&r.ConnectTimes, time.Second)
	r.Answered(5, 2*time.Second)
	fields := reflect.ValueOf(r).Elem()
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("the test sets no %s", fields.Type().Field(i).Name)
		}
	}
	payload, err := r.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unpack(payload)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("unpacked it is not what was packed, error %v", err)
	}
	var none *Result
	if payload, err = none.Pack(); err != nil {
		t.Error(err)
	}
	if got, err := Unpack(payload); err != nil || got.Requests != 0 {
		t.Errorf("nothing unpacked is something, error %v", err)
	}
	if _, err := Unpack([]byte("garbage")); err == nil {
		t.Error("garbage is unpacked without an error")
	}
}

// A Result fits the payload of a barrier even if its times are widely spread.
func TestPackFits(t *testing.T) {
	t.Parallel()
	r := new(Result)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100_000 { // from 30 µs to a minute
		r.ResponseTimes.Record(30 * time.Microsecond << rng.IntN(21) * time.Duration(1000+rng.IntN(1000)) / 1000)
		Record(&r.ServiceTimes, 30*time.Microsecond<<rng.IntN(21)*time.Duration(1000+rng.IntN(1000))/1000)
		Record(&r.Slips, time.Microsecond<<rng.IntN(21)*time.Duration(1000+rng.IntN(1000))/1000)
	}
	payload, err := r.Pack()
	if err != nil || len(payload) > barrier.MaxPayload {
		t.Errorf("%d bytes, error %v, want at most %d", len(payload), err, barrier.MaxPayload)
	}
}

func TestTogether(t *testing.T) {
	saw := []metrics.Snapshot{{Requests: 30}, {Requests: 31}} // of the same servers, at different moments
	all := func() []*Result {
		return []*Result{
			{Counts: Counts{Connections: 2, Requests: 10}, Dur: 3, ServerCPU: 5, ClientCPU: 7, Cores: 0.25, Stalled: 9, Stall: 4, Nodes: saw[:1]},
			{Counts: Counts{Connections: 4, Requests: 20}, Dur: 2, ServerCPU: 6, ClientCPU: 8, Cores: 0.5, Stalled: 8, Stall: 5, Nodes: saw[1:]},
		}
	}
	for local, clientCPU := range map[bool]time.Duration{true: 15, false: 8} {
		cores := map[bool]float64{true: 0.75, false: 0.5}[local]
		got := Together(all(), local)
		want := &Result{Counts: Counts{Connections: 6, Requests: 30}, Dur: 3, ServerCPU: 6, ClientCPU: clientCPU, Cores: cores, Stalled: 9, Stall: 5, Nodes: saw[:1]}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("local %v: together it is %+v, want %+v", local, got, want)
		}
	}
}
