package report

import (
	"time"

	"lockstep/bench/load"
	"lockstep/bench/stats"
)

// A Summary is what the rounds of one stage come to.
type Summary struct {
	Stage               string         `json:"stage"`
	Point               string         `json:"point,omitempty"` // of the sweep
	OpsPerSecond        stats.Interval `json:"ops_per_s"`
	P99                 stats.Interval `json:"p99_ns"`
	Latency             Latency        `json:"latency_ns"`                // each the median of the rounds', but max: the greatest
	Service             *Latency       `json:"service_ns"`                // likewise; null in a closed loop
	Slip                *Latency       `json:"slip_ns"`                   // likewise
	Connect             *Latency       `json:"connect_ns"`                // null where connections are kept
	Achieved            float64        `json:"requests_per_s"`            // answered; median
	ServerCPUPerRequest float64        `json:"server_cpu_ns_per_request"` // medians; 0: not known
	ClientCPUPerRequest float64        `json:"client_cpu_ns_per_request"`
	load.Counts                        // of all rounds; but Connections are those of one, Starved and NeverGreeted those of the worst one
	Where               *Where         `json:"where_ns"`  // the time of a request goes; means; null: not known
	Held                float64        `json:"lock_held"` // the share of the time that a lock was held, 0 to 1; median
	Outliers            []int          `json:"outliers"`  // rounds whose throughput lies far from the others'
	Ratio               *Ratio         `json:"ratio"`     // to the first stage, which has none
}

// A Ratio compares a stage with the first one, round by round.
type Ratio struct {
	To string `json:"to"` // the first stage
	Of string `json:"of"` // "ops_per_s", or in an open loop, whose throughput is given, "p99"
	stats.Interval
	NoDifference bool `json:"no_difference"` // is shown
	Floor        bool `json:"noise_floor"`   // it compares the first stage with itself
}

// summarize sums the rounds up, point by point if there is a sweep, the stages in their
// order; stages without a round are left out.
func (rep *Report) Summarize() []Summary {
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
	floor := stats.Interval{}
	for _, stage := range rep.Stages {
		if len(rounds[stage]) == 0 {
			continue
		}
		s := summarize(stage, rounds[stage])
		s.Point = point
		if first := rep.Stages[0]; stage != first {
			s.Ratio = rep.ratio(point, rounds[stage], rounds[first], floor)
			if s.Ratio.Floor = rep.AA && stage == rep.Stages[1]; s.Ratio.Floor {
				floor = s.Ratio.Interval
			}
		}
		summary = append(summary, s)
	}
	return summary
}

func summarize(stage string, runs []Run) Summary {
	samples := func(figure func(Run) float64) []float64 {
		all := make([]float64, len(runs))
		for i, run := range runs {
			all[i] = figure(run)
		}
		return all
	}
	of := func(figure func(Run) float64) stats.Interval { return stats.NewInterval(samples(figure)) }
	throughput := func(r Run) float64 { return r.OpsPerSecond }
	s := Summary{
		Stage:               stage,
		OpsPerSecond:        of(throughput),
		P99:                 of(func(r Run) float64 { return float64(r.Latency.P99) }),
		Latency:             *middleLatency(runs, func(r Run) *Latency { return &r.Latency }),
		Service:             middleLatency(runs, func(r Run) *Latency { return r.Service }),
		Slip:                middleLatency(runs, func(r Run) *Latency { return r.Slip }),
		Connect:             middleLatency(runs, func(r Run) *Latency { return r.Connect }),
		Achieved:            of(func(r Run) float64 { return float64(r.Requests) / max(r.Dur, 1).Seconds() }).Median,
		ServerCPUPerRequest: of(func(r Run) float64 { return r.ServerCPUPerRequest }).Median,
		ClientCPUPerRequest: of(func(r Run) float64 { return r.ClientCPUPerRequest }).Median,
		Held:                of(func(r Run) float64 { return r.Held }).Median,
		Where:               meanWhere(runs),
		Outliers:            []int{},
		Counts:              load.Counts{Errors: make(map[string]int64)},
	}
	for i, far := range stats.Outlying(samples(throughput)) {
		if far {
			s.Outliers = append(s.Outliers, runs[i].Round)
		}
	}
	for _, run := range runs {
		s.Add(run.Counts)
	}
	s.Connections, s.Starved, s.NeverGreeted = 0, 0, 0
	for _, run := range runs {
		s.Connections = max(s.Connections, run.Connections)
		s.Starved = max(s.Starved, run.Starved)
		s.NeverGreeted = max(s.NeverGreeted, run.NeverGreeted)
	}
	return s
}

// middleLatency has the medians of one kind of time over the rounds, but of max the
// greatest; nil if no round has any.
func middleLatency(runs []Run, of func(Run) *Latency) *Latency {
	var all [5][]float64
	greatest := time.Duration(0)
	for _, run := range runs {
		if l := of(run); l != nil {
			for i, d := range []time.Duration{l.P50, l.P90, l.P99, l.P999, l.Mean} {
				all[i] = append(all[i], float64(d))
			}
			greatest = max(greatest, l.Max)
		}
	}
	if all[0] == nil {
		return nil
	}
	middle := func(i int) time.Duration { return time.Duration(stats.NewInterval(all[i]).Median) }
	return &Latency{P50: middle(0), P90: middle(1), P99: middle(2), P999: middle(3), Max: greatest, Mean: middle(4)}
}

// ratio compares a stage with the first by the rounds that both had at a point.
func (rep *Report) ratio(point string, stage, first []Run, floor stats.Interval) *Ratio {
	r := &Ratio{To: rep.Stages[0], Of: "ops_per_s"}
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
	r.Interval = stats.NewInterval(quotients)
	r.NoDifference = r.WithinNoise(floor)
	return r
}

// of returns the rounds that s sums up.
func (rep *Report) Of(s Summary) (runs []Run) {
	for _, run := range rep.Runs {
		if run.Stage == s.Stage && run.Point == s.Point {
			runs = append(runs, run)
		}
	}
	return runs
}
