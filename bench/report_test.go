package main

import (
	"errors"
	"testing"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// fullReport has everything that there is a figure for: an open loop, on two nodes, in
// rounds of some seconds, of so many stages.
func fullReport(stages ...string) *report.Report {
	cfg := cluster.Default()
	cfg.Workload.Rate = 3000
	rep := report.New(cfg, stages, true)
	rep.Nodes = 2
	for round := 1; round <= 3; round++ {
		for i, stage := range stages {
			n := int64(400 * (i + 1))
			r := testRound(n)
			r.Dur = 4*time.Second + time.Millisecond
			for second := range 5 {
				r.Answered(int(n/4)>>(second/4*3), time.Duration(second)*time.Second) // the last one is not whole
			}
			for range n {
				load.Record(&r.ServiceTimes, time.Duration(i+1)*100*time.Microsecond)
			}
			busy := metrics.Timing{Count: n / 2, Total: time.Duration(n) * 10 * time.Microsecond}
			r.Nodes = []metrics.Snapshot{{Requests: n / 2, QueueWait: busy, Turn: busy, Table: busy}, {Requests: n - n/2, Turn: busy}}
			rep.Add(stage, round, r)
		}
	}
	return rep
}

// testReport compares three stages in six rounds: the second does three quarters of
// what the first does, all of it on one connection, and the third about as much.
func testReport(change func(*cluster.Config)) *report.Report {
	cfg := cluster.Default()
	cfg.Secret = "0123456789abcdef"
	change(&cfg)
	rep := report.New(cfg, []string{"stage2_coarselock", "stage1_singlethread", "mine"}, true)
	rep.Env = report.Environment{Command: []string{"bench", "compare"}, Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, CPUModel: "Test CPU", Shared: true}
	for round := 1; round <= 6; round++ {
		requests := int64(8000 + 10*round)
		rep.Add("mine", round, testRound(requests+int64(50*(round%2)-25)))
		slow := testRound(requests * 3 / 4)
		slow.ResponseTimes = metrics.Histogram{}
		for range slow.Requests { // one connection has it all
			slow.ResponseTimes.Record(time.Second / time.Duration(slow.Requests))
		}
		slow.Starved, slow.NeverGreeted, slow.Unfinished = 7, 6, 7
		slow.Fail("other", errors.New("dial timeout"))
		rep.Add("stage1_singlethread", round, slow)
		rep.Add("stage2_coarselock", round, testRound(requests))
	}
	return rep
}

// testRound returns a round of 1 s with 8 connections, of which each is always busy.
func testRound(requests int64) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: requests, OK: requests}, Dur: time.Second, ServerCPU: 700 * time.Millisecond, ClientCPU: 800 * time.Millisecond}
	for range requests {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(requests))
	}
	return r
}

// testSweep is a sweep of two stages with made up rounds; ops says how many operations
// a second a stage has at a point.
func testSweep(t *testing.T, text string, ops func(stage, point, round int) int64) *report.Report {
	t.Helper()
	sw, err := experiment.ParseSweep(text, cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	rep := report.New(cluster.Default(), []string{"one", "another"}, true)
	rep.Sweep = sw
	rep.Env = report.Environment{Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, Shared: true}
	for round := 1; round <= 3; round++ {
		for i, point := range sw.Points {
			for j, stage := range rep.Stages {
				if n := ops(j, i, round); n > 0 {
					rep.AddAt(point, stage, round, testRound(n))
				}
			}
		}
	}
	return rep
}
