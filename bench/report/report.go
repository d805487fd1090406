package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// A Report is what a run of bench measured, and the content of the file that -o
// names: version 2 of its schema. All times are in nanoseconds.
type Report struct {
	Schema  int               `json:"schema"`
	Env     Environment       `json:"env"`
	Config  cluster.Config    `json:"config"`          // without the secret
	Sweep   *experiment.Sweep `json:"sweep,omitempty"` // what took the place of one property of Config
	Runs    []Run             `json:"runs"`            // every round, in the order in which they ran
	Summary []Summary         `json:"summary"`
	Verdict string            `json:"verdict"` // "ok", or why not: "invalid: …", "wrong data: …", "interrupted"

	Stages []string `json:"stages"`       // in the order of the table; the first is the baseline
	Nodes  int      `json:"nodes"`        // of each stage, where bench started them; 0: they ran already
	AA     bool     `json:"aa,omitempty"` // the second stage is the first one again
}

// A Run is one round of one stage: what was counted, and what is derived from it.
type Run struct {
	Stage string `json:"stage"`
	Point string `json:"point,omitempty"` // of the sweep
	Round int    `json:"round"`           // from 1; the rounds of one number stood next to each other
	load.Result

	OpsPerSecond        float64  `json:"ops_per_s"`
	Latency             Latency  `json:"latency_ns"`                // of the requests answered
	Service             *Latency `json:"service_ns"`                // open loop: from when they were sent; null in a closed one: the same
	Slip                *Latency `json:"slip_ns"`                   // open loop: by how much the client was late; or null
	Connect             *Latency `json:"connect_ns"`                // a connection for each request: until it was greeted; or null
	Where               *Where   `json:"where_ns"`                  // the time goes, on average; null: the servers did not say
	ServerCPUPerRequest float64  `json:"server_cpu_ns_per_request"` // of the requests answered or failed; 0: not known
	ClientCPUPerRequest float64  `json:"client_cpu_ns_per_request"`
	InFlight            float64  `json:"in_flight"`    // throughput × mean response (Little's law)
	ServerCores         float64  `json:"server_cores"` // throughput × CPU a request (utilization law)
	ClientCores         float64  `json:"client_cores"`
	Held                float64  `json:"lock_held"`          // the share of the round that a lock was held, 0 to 1
	Invalid             string   `json:"invalid,omitempty"`  // why the client was measured instead
	Warnings            []string `json:"warnings,omitempty"` // the laws that it breaks, and the like
}

// Latency is what a histogram says of a kind of time.
type Latency struct {
	P50  time.Duration `json:"p50"`
	P90  time.Duration `json:"p90"`
	P99  time.Duration `json:"p99"`
	P999 time.Duration `json:"p999"`
	Max  time.Duration `json:"max"`
	Mean time.Duration `json:"mean"`
}

func NewLatency(h *metrics.Histogram) Latency {
	return Latency{h.Quantile(0.5), h.Quantile(0.9), h.Quantile(0.99), h.Quantile(0.999), h.Max(), h.Mean()}
}

const schema = 2 // of the file

// newReport returns the report of a run that is about to begin. shared says that
// servers and client run on this machine, and so share its cores.
func New(cfg cluster.Config, stages []string, shared bool) *Report {
	cfg.Secret = ""
	return &Report{Schema: schema, Env: environment(shared), Config: cfg, Verdict: "ok", Stages: stages,
		Runs: []Run{}, Summary: []Summary{}}
}

// workload is what was asked for at a point of the sweep; "" where there is none.
func (rep *Report) workload(point string) cluster.Workload {
	if rep.Sweep == nil {
		return rep.Config.Workload
	}
	return rep.Sweep.At(point)
}

// add adds a round of a stage, and brings Summary and Verdict up to date. The report
// keeps r's histogram.
func (rep *Report) Add(stage string, round int, r *load.Result) { rep.AddAt("", stage, round, r) }

// addAt is add, at a point of a sweep. A sweep goes to where the client is measured
// rather than the servers, and on: that is said of the point, and is no verdict.
func (rep *Report) AddAt(point, stage string, round int, r *load.Result) {
	w := rep.workload(point)
	run := newRun(r)
	run.Stage, run.Point, run.Round = stage, point, round
	run.Invalid = invalid(r, rep.Env.CPUs)
	if r.Misses > 0 && w.Mix.Delete == 0 {
		const lost = "keys were missing that had been stored, and nobody deletes any"
		if _, yardstick := rep.Env.Yardsticks[stage]; rep.Nodes > 0 && !yardstick { // nor can anybody else have
			run.FoundWrong(errors.New(lost))
		} else {
			run.warn(lost)
		}
	}
	if n := r.Errors[client.ErrBusy.Error()]; r.FirstError != "" && n < r.Failed() {
		run.warn(fmt.Sprintf("the first error: %v", r.FirstError))
	}
	where := stage
	if rep.Sweep != nil {
		where += fmt.Sprintf(" at %s=%s", rep.Sweep.Property, point)
	}
	if w.Rate == 0 {
		run.warn(breaksLittle(r, w.Depth))
	}
	if rep.Env.Shared {
		run.warn(breaksUtilization(r, max(rep.Env.Cores, rep.Env.CPUs)))
	}
	if run.Wrong > 0 && !strings.HasPrefix(rep.Verdict, "wrong data") {
		rep.Verdict = fmt.Sprintf("wrong data: %s, round %d: %v", where, round, run.FirstWrong)
	} else if err := r.Broken(); err != nil && (rep.Verdict == "ok" || strings.HasPrefix(rep.Verdict, "invalid")) {
		rep.Verdict = fmt.Sprintf("failed: %s, round %d: %v", where, round, err)
	} else if run.Invalid != "" && rep.Verdict == "ok" && rep.Sweep == nil {
		rep.Verdict = fmt.Sprintf("invalid: %s, round %d: %s", stage, round, run.Invalid)
	}
	rep.Runs = append(rep.Runs, run)
	rep.Summary = rep.Summarize()
}

func newRun(r *load.Result) Run {
	perRequest := func(cpu time.Duration) float64 { return float64(cpu) / float64(max(r.Requests+r.Failed(), 1)) }
	run := Run{
		Result:       *r,
		OpsPerSecond: float64(r.OK) / max(r.Dur, 1).Seconds(),
		Latency:      NewLatency(&r.ResponseTimes),
		Service:      latencyOf(r.ServiceTimes), Slip: latencyOf(r.Slips), Connect: latencyOf(r.ConnectTimes),
		Where: where(r), Held: r.Held(),
		ServerCPUPerRequest: perRequest(r.ServerCPU), ClientCPUPerRequest: perRequest(r.ClientCPU),
		InFlight: r.InFlight(), ServerCores: coresBusy(r, r.ServerCPU), ClientCores: coresBusy(r, r.ClientCPU),
	}
	if run.Errors == nil {
		run.Errors = map[string]int64{}
	}
	return run
}

// latencyOf is newLatency, where there is a histogram.
func latencyOf(h *metrics.Histogram) *Latency {
	if h == nil {
		return nil
	}
	l := NewLatency(h)
	return &l
}

func (run *Run) warn(warning string) {
	if warning != "" {
		run.Warnings = append(run.Warnings, warning)
	}
}

// json is the content of the file that -o names.
func (rep *Report) Json() ([]byte, error) {
	data, err := json.Marshal(rep)
	return append(data, '\n'), err
}
