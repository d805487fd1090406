package report

import (
	"maps"
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/metrics"
)

const (
	us = time.Microsecond
	ms = time.Millisecond
)

// closedLoop returns a round of 1 s in which each connection had n requests of this length.
func closedLoop(connections int, n int64, length time.Duration) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: connections}, Dur: time.Second}
	for range int64(connections) * n {
		r.ResponseTimes.Record(length)
		r.Requests++
		r.OK++
	}
	return r
}

func TestLittlesLaw(t *testing.T) {
	starved := closedLoop(1, 100, 10*ms)
	starved.Connections, starved.Starved = 8, 7
	failing := closedLoop(8, 50, 10*ms)
	failing.FailedTime = 4 * time.Second
	down := closedLoop(8, 50, 10*ms)
	down.Fail(client.ErrDown.Error(), client.ErrDown)
	for name, test := range map[string]struct {
		r     *load.Result
		depth int
		want  string // in the warning; "" for none
	}{
		"busy":                   {closedLoop(8, 100, 10*ms), 1, ""},
		"slightly less":          {closedLoop(8, 95, 10*ms), 1, ""},
		"half the time idle":     {closedLoop(8, 50, 10*ms), 1, "only 4.00 of 8.00"},
		"too many":               {closedLoop(8, 110, 10*ms), 1, "is 8.80, and at most 8.00"},
		"seven of eight starve":  {starved, 1, ""},
		"half of the time fails": {failing, 1, ""},
		"a server was down":      {down, 1, ""},
		"two in flight each":     {closedLoop(8, 200, 10*ms), 2, ""},
		"one of two in flight":   {closedLoop(8, 100, 10*ms), 2, "only 8.00 of 16.0"},
		"the last are cut off":   {closedLoop(8, 1, 600*ms), 1, ""},
		"nothing was done":       {&load.Result{Counts: load.Counts{Connections: 8, Starved: 8}, Dur: time.Second}, 1, ""},
		"no round":               {&load.Result{}, 1, ""},
	} {
		if got := breaksLittle(test.r, test.depth); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestUtilizationLaw(t *testing.T) {
	for client, want := range map[time.Duration]bool{1050 * ms: false, 1200 * ms: true} { // systems count to about 5 %
		r := &load.Result{Dur: time.Second, ServerCPU: time.Second, ClientCPU: client}
		if got := breaksUtilization(r, 2); (got != "") != want {
			t.Errorf("CPU 1s and %v in 1 s on 2 cores: %q, want a warning: %v", client, got, want)
		}
	}
}

func TestInvalid(t *testing.T) {
	openLoop := func(slip, length time.Duration) *load.Result {
		r := closedLoop(8, 100, length)
		load.Record(&r.Slips, slip)
		return r
	}
	busy := func(servers, clients time.Duration) *load.Result {
		return &load.Result{Dur: time.Second, ServerCPU: servers, ClientCPU: clients}
	}
	with := func(r *load.Result, stalled, longest time.Duration, cores float64) *load.Result {
		r.Stalled, r.Stall, r.Cores = stalled, longest, cores
		return r
	}
	for _, test := range []struct {
		name string
		r    *load.Result
		want string
	}{
		{"stopped for a tenth", with(closedLoop(8, 100, ms), 101*ms, 50*ms, 2), "had no CPU for 101ms of 1.00s"},
		{"stopped for less", with(closedLoop(8, 100, ms), 99*ms, 50*ms, 2), ""},
		{"stopped once in an open loop", with(openLoop(0, 50*ms), 30*ms, 30*ms, 2), "had no CPU for 30.0ms, and the response time is 50.0ms"},
		{"stopped for little of the response", with(openLoop(0, 200*ms), 30*ms, 30*ms, 2), ""},
		{"a quota used up", with(busy(500*ms, 190*ms), 0, 0, 0.2), "0.190 of the 0.200 cores that its quota allows"},
		{"a quota not used up", with(busy(500*ms, 100*ms), 0, 0, 0.2), ""},
		{"closed loop", closedLoop(8, 100, ms), ""},
		{"late by less than clocks can tell", openLoop(ms, ms), ""},
		{"late by little of the response", openLoop(5*ms, 50*ms), ""},
		{"late by half of the response", openLoop(5*ms, 10*ms), "although a connection was free: by 5.00ms"},
		{"shared, both busy", busy(900*ms, 1100*ms), ""},
		{"the client has all", busy(100*ms, 1850*ms), "used up its CPU, 1.85 of 2 cores"},
		{"the servers have cores of their own", busy(1900*ms, 1900*ms), ""},
		{"the servers' CPU is not known", busy(0, 1900*ms), ""},
	} {
		if got := invalid(test.r, 2); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestParts(t *testing.T) {
	r := closedLoop(1, 40, 100*us)
	r.Nodes = []metrics.Snapshot{
		{Requests: 10, QueueWait: metrics.Timing{Count: 5, Total: 100 * us}, Locks: metrics.Contention{Waited: 40 * us},
			Table: metrics.Timing{Count: 1, Total: 3 * us}, Turn: metrics.Timing{Count: 5, Total: 200 * us}},
		{Requests: 30, QueueWait: metrics.Timing{Count: 30, Total: 300 * us}, Table: metrics.Timing{Count: 2, Total: 2 * us},
			Turn: metrics.Timing{Count: 30, Total: 200 * us}},
	}
	// For 40 requests: 400 µs in the queue, 40 for locks, 10 × 3 + 30 × 1 in the table and
	// 400 in turns.
	want := Times{"queue": 10 * us, "lock": us, "table": 1500, "codec": 7500}
	for service, rest := range map[time.Duration]time.Duration{100 * us: 80 * us, 50 * us: 30 * us, 0: 0} {
		want["rest"] = rest
		if got := parts(r, service); !maps.Equal(got, want) {
			t.Errorf("service time %v: %v, want %v", service, got, want)
		}
	}
	if got := parts(closedLoop(1, 40, us), us); got != nil {
		t.Errorf("servers that said nothing: %v", got)
	}
}

func TestMedians(t *testing.T) {
	var runs []*Run
	for i := range time.Duration(3) {
		run := &Run{Figures: Figures{Latency: Times{"p99": i, "max": i}, ClientCPUPerRequest: float64(i)}}
		if i < 2 {
			run.Where = Times{"queue": 10 * i, "lock": 1}
		}
		runs = append(runs, run)
	}
	got := medians(runs)
	if !maps.Equal(got.Latency, Times{"p99": 1, "max": 2}) || !maps.Equal(got.Where, Times{"queue": 5, "lock": 1}) || got.Service != nil || got.ClientCPUPerRequest != 1 {
		t.Errorf("the medians are %+v", got)
	}
}
