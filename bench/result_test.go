package main

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"
)

func TestMerge(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	worker := func(n int64, err error) *result {
		r := &result{connections: 1, starved: 1, neverGreeted: 1, requests: n, ok: n, misses: n, mismatches: n,
			unfinished: n, refusals: n, failed: time.Duration(n)}
		r.answered(int(n), time.Duration(n)*time.Second/10) // in second 1, and in second 2
		r.fail("busy", err)
		r.foundWrong(err)
		r.latency.Record(time.Duration(n))
		record(&r.slip, time.Duration(n))
		record(&r.service, time.Duration(n))
		return r
	}
	total := result{dur: time.Second, serverCPU: 2, clientCPU: 3}
	total.merge(worker(10, first))
	total.merge(worker(20, second))
	total.merge(new(result))

	if total.connections != 2 || total.starved != 2 || total.neverGreeted != 2 {
		t.Errorf("connections, starved, never greeted = %d, %d, %d, want 2 each", total.connections, total.starved, total.neverGreeted)
	}
	for name, got := range map[string]int64{"requests": total.requests, "ok": total.ok, "misses": total.misses,
		"mismatches": total.mismatches, "unfinished": total.unfinished, "refusals": total.refusals, "failed": int64(total.failed)} {
		if got != 30 {
			t.Errorf("%s = %d, want 30", name, got)
		}
	}
	if want := map[string]int64{"busy": 2}; !maps.Equal(total.errors, want) {
		t.Errorf("errors = %v, want %v", total.errors, want)
	}
	if total.wrong != 2 || total.firstWrong != first {
		t.Errorf("%d wrong, the first is %v, want 2 and %v", total.wrong, total.firstWrong, first)
	}
	if total.latency.Count() != 2 || total.latency.Mean() != 15 {
		t.Errorf("latency: %d with a mean of %v, want 2 and 15ns", total.latency.Count(), total.latency.Mean())
	}
	if want := []int64{0, 10, 20}; !slices.Equal(total.series, want) {
		t.Errorf("answered in each second: %v, want %v", total.series, want)
	}
	if total.service == nil || total.service.Count() != 2 || total.connect != nil {
		t.Errorf("service = %+v, want 2; connect = %+v, want none", total.service, total.connect)
	}
	if total.slip == nil || total.slip.Count() != 2 || total.slip.Max() != 20 {
		t.Errorf("slip = %+v, want 2 of up to 20ns", total.slip)
	}
	if total.dur != time.Second || total.serverCPU != 2 || total.clientCPU != 3 {
		t.Error("merge changed what belongs to the round")
	}
	closed := new(result)
	closed.merge(new(result))
	if closed.slip != nil {
		t.Error("a closed loop has a slip")
	}
}
