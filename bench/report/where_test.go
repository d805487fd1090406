package report

import (
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/metrics"
)

func TestWhere(t *testing.T) {
	const us = time.Microsecond
	timing := func(count int64, total time.Duration) metrics.Timing {
		return metrics.Timing{Count: count, Total: total}
	}
	r := closedLoop(1, 40, 100*us)
	r.Nodes = []metrics.Snapshot{
		{Requests: 10, QueueWait: timing(5, 100*us), Locks: metrics.Contention{Waited: 40 * us}, Table: timing(1, 3*us), Turn: timing(5, 200*us), Panics: 1},
		{Requests: 30, QueueWait: timing(30, 300*us), Locks: metrics.Contention{Waited: 0}, Table: timing(2, 2*us), Turn: timing(30, 200*us), Panics: 2},
	}
	// Of 40 requests, 400 µs in the queue, 40 for locks, 10 × 3 + 30 × 1 in the table,
	// and 400 in turns.
	want := Where{Queue: 10 * us, Lock: us, Table: 1500, Codec: 7500, Rest: 80 * us}
	if got := where(r); got == nil || *got != want {
		t.Errorf("closed loop: %+v, want %+v", got, want)
	}
	load.Record(&r.ServiceTimes, 50*us) // of an open loop: the wait for a connection is no part of it
	want.Rest = 30 * us
	if got := where(r); got == nil || *got != want {
		t.Errorf("open loop: %+v, want %+v", got, want)
	}
	load.Record(&r.ServiceTimes, 0) // the parts come from other clocks: no rest is below 0
	r.ServiceTimes = new(metrics.Histogram)
	want.Rest = 0
	if got := where(r); got == nil || *got != want {
		t.Errorf("no rest: %+v, want %+v", got, want)
	}
	if got := r.Panics(); got != 3 {
		t.Errorf("%d panics, want 3", got)
	}
	if got := where(closedLoop(1, 40, us)); got != nil {
		t.Errorf("servers that said nothing: %+v", got)
	}
}

func TestMeanWhere(t *testing.T) {
	runs := []Run{{Where: &Where{1, 9, 2, 3, 4}}, {}, {Where: &Where{5, 7, 2, 1, 4}}, {Where: &Where{3, 8, 2, 2, 7}}}
	if got, want := *meanWhere(runs), (Where{3, 8, 2, 2, 5}); got != want {
		t.Errorf("the means are %+v, want %+v", got, want)
	}
	if got := meanWhere(runs[1:2]); got != nil {
		t.Errorf("of nothing known: %+v", got)
	}
}
