package clients

import (
	"bytes"
	"cmp"
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

// Pack keeps every field, as much as days of load on a hundred nodes. A new field has to be set here.
func TestPack(t *testing.T) {
	t.Parallel()
	r := &load.Result{Counts: load.Counts{Connections: 1, Starved: 2, NeverGreeted: 3, Requests: 4,
		Answers: workload.Answers{OK: 5, Bytes: 6, Misses: 6, Mismatches: 7}, Unfinished: 8, Refusals: 9, RefusedDials: 10,
		FailedDials: metrics.Tally{"refused": 11}, NotServed: "full"},
		Client: load.Pipelined, Restarted: "node 0", Cores: 0.5, MachineCPU: 1, Stalled: 14, Stall: 15, FailedTime: 9,
		TimeWait: 16, Dur: 10, ServerCPU: 11, ClientCPU: 12,
		Nodes:   slices.Repeat([]metrics.Snapshot{{Requests: 13}}, 100),
		Samples: slices.Repeat([]load.Sample{{Due: 1, Sent: 2, Done: 3, Outcome: load.Answered}}, load.MaxSamples),
		Series:  slices.Repeat([]int64{123_456, 98_765}, 24*3600)}
	r.Fail("other", errors.New("first"))
	r.FoundWrong(errors.New("wrong"))
	r.ResponseTimes.Record(time.Second)
	for d := time.Microsecond; d < time.Hour; d += d/100 + 1 {
		for _, h := range []**metrics.Histogram{&r.ServiceTimes, &r.Slips, &r.ConnectTimes} {
			load.Record(h, d)
		}
	}
	fields := reflect.ValueOf(r).Elem()
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("the test sets no %s", fields.Type().Field(i).Name)
		}
	}
	var none *load.Result
	for _, want := range []*load.Result{r, none} {
		payload, err := Pack(want)
		if got, unpacked := Unpack(payload); err != nil || unpacked != nil ||
			!reflect.DeepEqual(got, cmp.Or(want, new(load.Result))) {
			t.Errorf("packed into %d bytes it is not the same: %v, %v", len(payload), err, unpacked)
		}
	}
	if _, err := Unpack([]byte("garbage")); err == nil {
		t.Error("garbage is unpacked without an error")
	}
}

// What is unpacked is bounded.
func TestUnpackBounds(t *testing.T) {
	pack := func(text string) []byte { // a part of a payload
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write([]byte(text))
		z.Close()
		return b.Bytes()
	}
	for _, test := range []struct {
		first, many string // a thousand of many
		thousands   int
		last        string
	}{{"", strings.Repeat(" ", 1<<10), 16, "{}"}, {`{"nodes":[{}`, ",{}", 12, "]}"}} {
		many := bytes.Repeat(pack(strings.Repeat(test.many, 1<<10)), test.thousands)
		payload := slices.Concat(pack(test.first), many, pack(test.last))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Unpack(payload)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > 30<<20 {
			t.Errorf("%s%.20s…: error %v, %d MiB used", test.first, test.many, err, used>>20)
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
