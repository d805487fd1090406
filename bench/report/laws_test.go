package report

import (
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
)

// closedLoop returns a round of 1 s, in which each of the connections had n requests,
// all of this length.
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
	if got := closedLoop(8, 100, 10*time.Millisecond).InFlight(); got != 8 {
		t.Errorf("8 connections that are always busy: %v in flight, want 8", got)
	}
	starved := closedLoop(1, 100, 10*time.Millisecond)
	starved.Connections, starved.Starved = 8, 7
	failing := closedLoop(8, 50, 10*time.Millisecond)
	failing.FailedTime = 4 * time.Second
	away := closedLoop(8, 50, 10*time.Millisecond)
	away.Fail(client.ErrDown.Error(), client.ErrDown)
	for name, test := range map[string]struct {
		r     *load.Result
		depth int
		want  string // what the complaint says; "" if there is none
	}{
		"busy":                     {closedLoop(8, 100, 10*time.Millisecond), 1, ""},
		"slightly less":            {closedLoop(8, 95, 10*time.Millisecond), 1, ""},
		"half the time idle":       {closedLoop(8, 50, 10*time.Millisecond), 1, "only 4.00, with 8.00"},
		"more than there are":      {closedLoop(8, 110, 10*time.Millisecond), 1, "is 8.80, with 8.00"},
		"seven of eight starve":    {starved, 1, ""},
		"half of the time fails":   {failing, 1, ""},
		"a server was away":        {away, 1, ""},
		"two in flight each":       {closedLoop(8, 200, 10*time.Millisecond), 2, ""},
		"one of two in flight":     {closedLoop(8, 100, 10*time.Millisecond), 2, "only 8.00, with 16.0"},
		"the last ones are cut":    {closedLoop(8, 1, 600*time.Millisecond), 1, ""},
		"nothing was done":         {&load.Result{Counts: load.Counts{Connections: 8, Starved: 8}, Dur: time.Second}, 1, ""},
		"not even a round was run": {&load.Result{}, 1, ""},
	} {
		got := breaksLittle(test.r, test.depth)
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestUtilizationLaw(t *testing.T) {
	for _, test := range []struct {
		server, client time.Duration // in a round of 1 s, on two cores
		want           bool
	}{
		{time.Second, time.Second, false},
		{time.Second, 1050 * time.Millisecond, false}, // as exact as systems count
		{time.Second, 1200 * time.Millisecond, true},
		{2500 * time.Millisecond, 0, true},
	} {
		r := &load.Result{Dur: time.Second, ServerCPU: test.server, ClientCPU: test.client}
		if got := breaksUtilization(r, 2); (got != "") != test.want {
			t.Errorf("CPU %v and %v in 1 s on 2 cores: %q, want a complaint: %v", test.server, test.client, got, test.want)
		}
	}
}

func TestInvalid(t *testing.T) {
	openLoop := func(slip, response time.Duration) *load.Result {
		r := closedLoop(8, 100, response)
		load.Record(&r.Slips, slip)
		return r
	}
	busy := func(server, client time.Duration) *load.Result {
		return &load.Result{Dur: time.Second, ServerCPU: server, ClientCPU: client}
	}
	const ms = time.Millisecond
	for _, test := range []struct {
		name string
		r    *load.Result
		want string
	}{
		{"closed loop", closedLoop(8, 100, ms), ""},
		{"late by less than clocks can tell", openLoop(ms, ms), ""},
		{"late by little of the response", openLoop(5*ms, 50*ms), ""},
		{"late by half of the response", openLoop(5*ms, 10*ms), "although a connection was free: by 5.00ms"},
		{"all shared, both busy", busy(900*ms, 1100*ms), ""},
		{"the client has all", busy(100*ms, 1850*ms), "used up its CPU, 1.85 of 2 cores"},
		{"the servers have cores of their own", busy(1900*ms, 1900*ms), ""},
		{"the servers' CPU is not known", busy(0, 1900*ms), ""},
	} {
		got := invalid(test.r, 2)
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
