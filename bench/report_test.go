package main

import (
	"errors"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/common/cluster"
)

// testReport returns a report of one round of two stages, of which b had an error.
func testReport() *report.Report {
	cfg := cluster.Default()
	cfg.Secret = "0123456789abcdef"
	rep := report.New(cfg, []string{"a", "b"}, true)
	troubled := testRound(50)
	troubled.Fail("other", errors.New("dial timeout"))
	rep.Add("b", 1, troubled)
	rep.Add("a", 1, testRound(100))
	return rep
}

// testRound returns a round of 1 s with 8 connections, of which each is always busy.
func testRound(requests int64) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: requests, OK: requests}, Dur: time.Second}
	for range requests {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(requests))
	}
	return r
}
