package load

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"lockstep/common/barrier"
	"lockstep/common/metrics"
)

// Pack keeps every field. A new field has to be set here.
func TestPack(t *testing.T) {
	r := &Result{Counts: Counts{Connections: 1, Starved: 2, NeverGreeted: 3, Requests: 4, OK: 5, Bytes: 6, Misses: 6, Mismatches: 7, Unfinished: 8, Refusals: 9, RefusedDials: 10, NotServed: "full"}, Client: Pipelined, Restarted: "node 0", Cores: 0.5, MachineCPU: 1, Stalled: 14, Stall: 15, FailedTime: 9, Dur: 10, ServerCPU: 11, ClientCPU: 12, Nodes: []metrics.Snapshot{{Requests: 13}}}
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
