package report

import (
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// share is what a client counted that did n requests in a second.
func share(n int64, change func(*load.Result)) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: n, Answers: workload.Answers{OK: n}}, Dur: time.Second, ClientCPU: time.Second / 10, Cores: 2,
		Nodes: []metrics.Snapshot{{Server: "workers=8\n"}, {Server: "workers=4\n"}}}
	for range n {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(n))
	}
	change(r)
	return r
}

// Each client has a row, also one that starves or is missing; each is judged by itself; and nodes
// that work differently are named.
func TestClients(t *testing.T) {
	cfg := cluster.Default()
	cfg.Clients = []cluster.Client{{Control: "10.0.0.7:7201"}, {Control: "10.0.0.8:7201"}, {Control: "10.0.0.9:7201"}, {Control: "[fd00::1234:5678]:7201"}}
	rep := New(cfg, []string{"here"}, false)
	nothing := func(*load.Result) {}
	all := []*load.Result{share(1000, nothing), share(4000, nothing), nil,
		{Counts: load.Counts{Connections: 8, Starved: 8, NeverGreeted: 8}}}
	sum := new(load.Result)
	for _, r := range all[:2] {
		sum.Merge(r)
	}
	sum.Merge(all[3])
	sum.Dur, sum.ClientCPU, sum.Nodes = time.Second, time.Second/5, all[0].Nodes
	rep.AddClients("here", 1, sum, all)
	if rep.Verdict != "failed: here, round 1: missing: client 2 (10.0.0.9:7201)" {
		t.Errorf("verdict %q", rep.Verdict)
	}
	got := rep.String()
	benchtest.CheckWidth(t, got, text.Columns)
	wantAll(t, got, `
client                             ops/s     p99  CPU/request           notes
client 0 (10.0.0.7:7201)           1 000  8.00ms        100µs
client 1 (10.0.0.8:7201)           4 000  2.00ms       25.0µs
client 2 (10.0.0.9:7201)                                          1 × MISSING
client 3 ([fd00::1234:5678]:7201)      0                       8 of 8 starved
`, "4 clients, each with 8 connections", "nodes 0 (here) and 1 (there) work", "workers is 8 here, 4")
	data, err := rep.JSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(data)
	if err != nil || again.String() != got {
		t.Errorf("read again it is (%v)\n%s", err, again)
	}

	stalled := share(1000, func(r *load.Result) { r.Stalled = time.Second / 2 })
	slow := share(1000, func(r *load.Result) { r.Dur = 2 * time.Second })
	rep = New(cfg, []string{"here"}, false)
	rep.AddClients("here", 1, sum, []*load.Result{all[1], stalled, slow})
	run := rep.Runs[0]
	if run.Invalid == "" || !strings.HasPrefix(rep.Verdict, "invalid: here, round 1: client 1: ") || run.Clients[1].Invalid == "" || run.Clients[0].Invalid != "" {
		t.Errorf("verdict %q, clients %+v, want that client 1 is invalid", rep.Verdict, run.Clients)
	}
	if !strings.HasPrefix(strings.Join(run.Warnings[len(run.Warnings)-1:], ""), "client 2: Little's law") {
		t.Errorf("warnings %q, want one of client 2", run.Warnings)
	}
}
