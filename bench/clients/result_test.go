package clients

import (
	"bytes"
	"compress/gzip"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/metrics"
)

// Pack keeps every field. A new field has to be set here.
func TestPack(t *testing.T) {
	r := &load.Result{Counts: load.Counts{Connections: 1, Starved: 2, NeverGreeted: 3, Requests: 4, Answers: workload.Answers{OK: 5, Bytes: 6, Misses: 6, Mismatches: 7}, Unfinished: 8, Refusals: 9, RefusedDials: 10, FailedDials: metrics.Tally{"refused": 11}, NotServed: "full"}, Client: load.Pipelined, Restarted: "node 0", Cores: 0.5, MachineCPU: 1, Stalled: 14, Stall: 15, FailedTime: 9, TimeWait: 16, Dur: 10, ServerCPU: 11, ClientCPU: 12, Nodes: []metrics.Snapshot{{Requests: 13}}, Samples: slices.Repeat([]load.Sample{{Due: 1, Sent: 2, Done: 3, Outcome: load.Answered}}, load.MaxSamples)}
	r.Fail("other", errors.New("first"))
	r.FoundWrong(errors.New("wrong"))
	r.ResponseTimes.Record(time.Second)
	load.Record(&r.ServiceTimes, time.Minute)
	load.Record(&r.Slips, time.Millisecond)
	load.Record(&r.ConnectTimes, time.Second)
	r.Answered(5, 2*time.Second)
	fields := reflect.ValueOf(r).Elem()
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("the test sets no %s", fields.Type().Field(i).Name)
		}
	}
	payload, err := Pack(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unpack(payload)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("unpacked it is not what was packed, error %v", err)
	}
	var none *load.Result
	if payload, err = Pack(none); err != nil {
		t.Error(err)
	}
	if got, err := Unpack(payload); err != nil || got.Requests != 0 {
		t.Errorf("nothing unpacked is something, error %v", err)
	}
	if _, err := Unpack([]byte("garbage")); err == nil {
		t.Error("garbage is unpacked without an error")
	}
}

// What is unpacked is bounded, and yet as much as days of load on a hundred nodes.
func TestUnpackBounds(t *testing.T) {
	r := &load.Result{Nodes: make([]metrics.Snapshot, 100)}
	for d := time.Microsecond; d < time.Hour; d += d/100 + 1 {
		for _, h := range []**metrics.Histogram{&r.ServiceTimes, &r.Slips, &r.ConnectTimes} {
			load.Record(h, d)
		}
	}
	r.Series = slices.Repeat([]int64{123_456, 98_765}, 36*3600)
	payload, err := Pack(r)
	if got, unpacked := Unpack(payload); err != nil || unpacked != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("packed into %d bytes it is not the same: %v, %v", len(payload), err, unpacked)
	}
	pack := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write([]byte(text))
		z.Close()
		return b.Bytes()
	}
	for _, text := range []string{strings.Repeat(" ", 16<<20) + "{}", `{"nodes":[{}` + strings.Repeat(",{}", 1<<20) + "]}", `{"misses":` + strings.Repeat("[", 1<<21)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Unpack(pack(text))
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > 64<<20 {
			t.Errorf("%.20s…: error %v, %d MiB used", text, err, used>>20)
		}
	}
}

// The sum has the connections and the CPU time of all, and what the last to ask the servers saw.
// A client that is missing has no part in it.
func TestTogether(t *testing.T) {
	saw := []metrics.Snapshot{{Requests: 30}, {Requests: 31}} // of the same servers, at different moments
	all := func() []*load.Result {
		return []*load.Result{
			{Counts: load.Counts{Connections: 2, Requests: 10}, Dur: 3, TimeWait: 7, ServerCPU: 5, ClientCPU: 7, MachineCPU: 20, Cores: 0.25, Stalled: 9, Stall: 4, Nodes: saw[:1]},
			{Counts: load.Counts{Connections: 4, Requests: 20}, Dur: 2, ServerCPU: 6, ClientCPU: 8, Cores: 0.5, Stalled: 8, Stall: 5, Nodes: saw[1:]},
			nil,
		}
	}
	for local, machineCPU := range map[bool]time.Duration{true: 20, false: 0} {
		got := Together(all(), local)
		want := &load.Result{Counts: load.Counts{Connections: 6, Requests: 30}, Dur: 3, TimeWait: 7, ServerCPU: 6, ClientCPU: 15, MachineCPU: machineCPU, Cores: 0.75, Stalled: 9, Stall: 5, Nodes: saw[1:]}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("local %v: together it is %+v, want %+v", local, got, want)
		}
	}
}
