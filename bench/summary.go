package main

import "time"

// A Summary is what the rounds of one stage come to.
type Summary struct {
	Stage        string           `json:"stage"`
	Point        string           `json:"point,omitempty"` // of the sweep
	OpsPerSecond interval         `json:"ops_per_s"`
	P99          interval         `json:"p99_ns"`
	Latency      Latency          `json:"latency_ns"`                // each the median of the rounds', but max: the greatest
	ServerCPU    float64          `json:"server_cpu_ns_per_request"` // medians; 0: not known
	ClientCPU    float64          `json:"client_cpu_ns_per_request"`
	OK           int64            `json:"ok"` // from here on: of all rounds
	Misses       int64            `json:"misses"`
	Mismatches   int64            `json:"mismatches"`
	Errors       map[string]int64 `json:"errors"`
	Unfinished   int64            `json:"unfinished"`
	Wrong        int64            `json:"wrong"`
	Connections  int              `json:"connections"`   // of a round
	Starved      int              `json:"starved"`       // in the worst round
	NeverGreeted int              `json:"never_greeted"` // in the worst round
	Ratio        *Ratio           `json:"ratio"`         // to the first stage, which has none
}

// A Ratio compares a stage with the first one, round by round.
type Ratio struct {
	To string `json:"to"` // the first stage
	Of string `json:"of"` // "ops_per_s", or in an open loop, whose throughput is given, "p99"
	interval
	NoDifference bool `json:"no_difference"` // is shown

	words string // of rounds that do not pair up: what String says
}

// summarize sums the rounds up, point by point if there is a sweep, the stages in their
// order; stages without a round are left out.
func (rep *Report) summarize() []Summary {
	if rep.Sweep == nil {
		return rep.summarizeAt("")
	}
	summary := []Summary{}
	for _, point := range rep.Sweep.Points {
		summary = append(summary, rep.summarizeAt(point)...)
	}
	return summary
}

func (rep *Report) summarizeAt(point string) []Summary {
	rounds := make(map[string][]Run)
	for _, run := range rep.Runs {
		if run.Point == point {
			rounds[run.Stage] = append(rounds[run.Stage], run)
		}
	}
	summary := []Summary{}
	for _, stage := range rep.stages {
		if len(rounds[stage]) == 0 {
			continue
		}
		s := summarize(stage, rounds[stage])
		s.Point = point
		if first := rep.stages[0]; stage != first {
			s.Ratio = rep.ratio(point, rounds[stage], rounds[first])
		}
		summary = append(summary, s)
	}
	return summary
}

func summarize(stage string, runs []Run) Summary {
	of := func(figure func(Run) float64) interval {
		samples := make([]float64, len(runs))
		for i, run := range runs {
			samples[i] = figure(run)
		}
		return newInterval(samples)
	}
	middle := func(figure func(Latency) time.Duration) time.Duration {
		return time.Duration(of(func(r Run) float64 { return float64(figure(r.Latency)) }).Median)
	}
	s := Summary{
		Stage:        stage,
		OpsPerSecond: of(func(r Run) float64 { return r.OpsPerSecond }),
		P99:          of(func(r Run) float64 { return float64(r.Latency.P99) }),
		Latency: Latency{
			P50:  middle(func(l Latency) time.Duration { return l.P50 }),
			P90:  middle(func(l Latency) time.Duration { return l.P90 }),
			P99:  middle(func(l Latency) time.Duration { return l.P99 }),
			P999: middle(func(l Latency) time.Duration { return l.P999 }),
			Mean: middle(func(l Latency) time.Duration { return l.Mean }),
		},
		ServerCPU: of(func(r Run) float64 { return r.ServerCPU }).Median,
		ClientCPU: of(func(r Run) float64 { return r.ClientCPU }).Median,
		Errors:    make(map[string]int64),
	}
	for _, run := range runs {
		s.Latency.Max = max(s.Latency.Max, run.Latency.Max)
		s.OK += run.OK
		s.Misses += run.Misses
		s.Mismatches += run.Mismatches
		s.Unfinished += run.Unfinished
		s.Wrong += run.Wrong
		for kind, n := range run.Errors {
			s.Errors[kind] += n
		}
		s.Connections = max(s.Connections, run.Connections)
		s.Starved = max(s.Starved, run.Starved)
		s.NeverGreeted = max(s.NeverGreeted, run.NeverGreeted)
	}
	return s
}

// ratio compares a stage with the first by the rounds that both had at a point.
func (rep *Report) ratio(point string, stage, first []Run) *Ratio {
	r := &Ratio{To: rep.stages[0], Of: "ops_per_s"}
	figure := func(run Run) float64 { return run.OpsPerSecond }
	if rep.workload(point).Rate > 0 {
		r.Of = "p99"
		figure = func(run Run) float64 { return float64(run.Latency.P99) }
	}
	baseline := make(map[int]float64)
	for _, run := range first {
		baseline[run.Round] = figure(run)
	}
	var quotients []float64
	for _, run := range stage {
		if base := baseline[run.Round]; base > 0 {
			quotients = append(quotients, figure(run)/base)
		}
	}
	r.interval = newInterval(quotients)
	r.NoDifference = r.noDifference(interval{})
	return r
}
