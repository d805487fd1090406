package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/stats"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// Figures follow from what was counted in a round; those of a Summary are the medians of
// its rounds.
type Figures struct {
	Latency             Times   `json:"latency_ns"`                // response time: from when a request was due until it was answered
	Service             Times   `json:"service_ns"`                // open loop: from when it was sent; null: the same as Latency
	Slip                Times   `json:"slip_ns"`                   // open loop: how late the client was; or null
	Connect             Times   `json:"connect_ns"`                // a connection for each request: until it was greeted; or null
	Where               Times   `json:"where_ns"`                  // where the mean service time goes, by Parts; null: the servers did not say
	OpsPerSecond        float64 `json:"ops_per_s,omitempty"`       // of a Run
	ServerCPUPerRequest float64 `json:"server_cpu_ns_per_request"` // requests answered or failed; 0: not known
	ClientCPUPerRequest float64 `json:"client_cpu_ns_per_request"`
	LockHeld            float64 `json:"lock_held"`   // the share of the round that the most contended lock was held, 0 to 1
	BytesPerSecond      float64 `json:"bytes_per_s"` // keys and values, sent and received; 0: not known
	OtherCores          float64 `json:"other_cores"` // that programs other than servers and client kept busy on this machine; 0: not known

	// The quantiles of Latency that are lower bounds: as many requests were never answered that
	// they may lie among those, which took longer. The other times are those of what was done.
	AtLeast []string `json:"at_least,omitempty"`
}

func (f *Figures) times() []*Times {
	return []*Times{&f.Latency, &f.Service, &f.Slip, &f.Connect, &f.Where}
}

// Times are the quantiles p50, p90, p99 and p999 of a kind of time, its max and its mean;
// or the parts of a mean. The max of a Summary is the greatest of its rounds.
type Times map[string]time.Duration

var levels = map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1}

// quantiles returns those of a kind of time, and the names of those that are only bounds
// because c counts requests that were never answered.
func quantiles(c *load.Counts, h *metrics.Histogram) (t Times, atLeast []string) {
	if h == nil {
		return nil, nil
	}
	t = Times{"mean": h.Mean()}
	for name, level := range levels {
		known := false
		if t[name], known = c.Quantile(h, level); !known {
			atLeast = append(atLeast, name)
		}
	}
	if c.Unanswered() > 0 {
		atLeast = append(atLeast, "mean")
	}
	return t, slices.Sorted(slices.Values(atLeast))
}

// Parts are the parts of the time of a request: waiting for a worker, waiting for memory,
// waiting for locks, in the table with its work, the rest of the server's turn, and the rest:
// network, kernel, scheduling, client.
var Parts = []string{"queue", "memory", "lock", "table", "codec", "rest"}

// parts splits the mean service time of a round, without the parts that no server has: a
// queue, locks, or requests so large that they wait for memory. A request to several nodes
// counts as several requests. The parts are not known where requests share a turn: each of
// them waits for all of it.
func parts(r *load.Result, service time.Duration) Times {
	var requests, turn time.Duration
	t := Times{}
	add := func(name string, has bool, total time.Duration) {
		if has {
			t[name] += total
		}
	}
	for _, n := range r.Nodes {
		requests += time.Duration(n.Requests)
		add("queue", n.QueueWait.Count > 0, n.QueueWait.Total)
		add("memory", n.MemoryWait.Count > 0, n.MemoryWait.Total)
		add("lock", n.Watched > 0, n.Locks.Waited)
		add("table", n.Table.Count > 0, n.Table.Mean()*time.Duration(n.Requests)) // the mean of a sample
		turn += n.Turn.Total
	}
	if requests == 0 || r.Client == load.Pipelined {
		return nil
	}
	t["codec"] = max(turn-t["memory"]-t["lock"]-t["table"], 0)
	rest := service
	for name := range t {
		t[name] /= requests
		rest -= t[name]
	}
	t["rest"] = max(rest, 0) // the servers have other clocks
	return t
}

// derive sets the figures that follow from the result. Without requests there are none.
// shared says that the servers and the client share the cores of this machine.
func (run *Run) derive(shared bool) {
	r := &run.Result
	run.Figures = Figures{}
	if r.Requests == 0 {
		return
	}
	run.Latency, run.AtLeast = quantiles(&r.Counts, &r.ResponseTimes)
	var none load.Counts // what was not answered may not have been sent
	run.Service, _ = quantiles(&none, r.ServiceTimes)
	run.Slip, _ = quantiles(&none, r.Slips)
	run.Connect, _ = quantiles(&none, r.ConnectTimes)
	requests := float64(max(r.Requests+r.Failed(), 1))
	run.OpsPerSecond = float64(r.OK) / max(r.Dur, 1).Seconds()
	run.ServerCPUPerRequest, run.ClientCPUPerRequest = float64(r.ServerCPU)/requests, float64(r.ClientCPU)/requests
	run.LockHeld, run.BytesPerSecond = r.Held(), float64(r.Bytes)/max(r.Dur, 1).Seconds()
	others := r.MachineCPU - r.ClientCPU
	if shared {
		others -= r.ServerCPU
	}
	if r.MachineCPU > 0 && (r.ServerCPU > 0 || !shared) {
		run.OtherCores = max(busyCores(r, others), 0)
	}
	run.Where = parts(r, cmp.Or(r.ServiceTimes, &r.ResponseTimes).Mean())
}

// medians returns the figures of several rounds.
func medians(runs []*Run) (f Figures) {
	for _, run := range runs {
		f.AtLeast = slices.Compact(slices.Sorted(slices.Values(append(f.AtLeast, run.AtLeast...))))
	}
	f.ServerCPUPerRequest = over(runs, func(r *Run) float64 { return r.ServerCPUPerRequest }).Median
	f.ClientCPUPerRequest = over(runs, func(r *Run) float64 { return r.ClientCPUPerRequest }).Median
	f.LockHeld = over(runs, func(r *Run) float64 { return r.LockHeld }).Median
	f.BytesPerSecond = over(runs, func(r *Run) float64 { return r.BytesPerSecond }).Median
	f.OtherCores = over(runs, func(r *Run) float64 { return r.OtherCores }).Median
	for i, kind := range f.times() {
		found := make(map[string][]float64)
		for _, run := range runs {
			for name, d := range *run.times()[i] {
				found[name] = append(found[name], float64(d))
				*kind = make(Times)
			}
		}
		for name, all := range found {
			(*kind)[name] = time.Duration(stats.NewInterval(all).Median)
			if name == "max" {
				(*kind)[name] = time.Duration(slices.Max(all))
			}
		}
	}
	return f
}

// over returns the interval of a figure over several rounds.
func over(runs []*Run, of func(*Run) float64) stats.Interval {
	var samples []float64
	for _, run := range runs {
		samples = append(samples, of(run))
	}
	return stats.NewInterval(samples)
}

// A Summary sums up the rounds of one stage, at one point of the sweep if there is one.
type Summary struct {
	Stage        string         `json:"stage"`
	Point        string         `json:"point,omitempty"`
	OpsPerSecond stats.Interval `json:"ops_per_s"`
	P99          stats.Interval `json:"p99_ns"`
	Figures
	load.Counts        // of all rounds; but Connections, Starved and NeverGreeted are the greatest of one
	Ratio       *Ratio `json:"ratio"`     // to the first stage: of ops_per_s, or of p99 in an open loop; null for that stage
	P99Ratio    *Ratio `json:"p99_ratio"` // the same, of p99 in any loop
	Runs        []*Run `json:"-"`         // the rounds
}

// A Ratio compares a stage with the first one, round by round.
type Ratio struct {
	Of    string `json:"of"`              // "ops_per_s", or "p99" in an open loop, where the throughput is given
	Bound string `json:"bound,omitempty"` // "at most" or "at least", if the p99 of one of the two is a bound
	stats.Interval
	NoDifference bool `json:"no_difference"` // no difference is shown
	Floor        bool `json:"noise_floor"`   // this is the first stage compared with itself
}

// Summarize makes Summary from Runs: point by point if there is a sweep, with the stages
// in their order. Stages without a round are left out. It does nothing if no round was added
// since the last call.
func (rep *Report) Summarize() {
	if rep.Summary != nil {
		return
	}
	runs := make(map[[2]string][]*Run) // by point and stage
	for i := range rep.Runs {
		at := [2]string{rep.Runs[i].Point, rep.Runs[i].Stage}
		runs[at] = append(runs[at], &rep.Runs[i])
	}
	points := []string{""}
	if rep.Sweep != nil {
		points = rep.Sweep.Points
	}
	rep.Summary = []Summary{}
	for _, point := range points {
		floor, floorP99, first := stats.Interval{}, stats.Interval{}, Summary{}
		for i, stage := range rep.Stages {
			rounds := runs[[2]string{point, stage}]
			if len(rounds) == 0 {
				continue
			}
			s := summarize(rounds)
			if i == 0 {
				first = s
			} else {
				s.P99Ratio = s.compare(&first, "p99", floorP99)
				if s.Ratio = s.P99Ratio; rep.Workload(point).Rate == 0 {
					s.Ratio = s.compare(&first, "ops_per_s", floor)
				}
				if rep.AA && i == 1 {
					s.Ratio.Floor, s.P99Ratio.Floor, floor, floorP99 = true, true, s.Ratio.Interval, s.P99Ratio.Interval
				}
			}
			rep.Summary = append(rep.Summary, s)
		}
	}
}

// Points returns the rows of a stage in a sweep, by the value of the swept property.
func (rep *Report) Points(stage string) []Summary {
	points := slices.DeleteFunc(slices.Clone(rep.Summary), func(s Summary) bool { return s.Stage != stage })
	slices.SortFunc(points, func(a, b Summary) int {
		return cmp.Compare(rep.Sweep.Number(a.Point), rep.Sweep.Number(b.Point))
	})
	return points
}

func summarize(runs []*Run) Summary {
	// Rounds in which nobody was answered have no figures.
	answered := slices.DeleteFunc(slices.Clone(runs), func(r *Run) bool { return r.Requests == 0 })
	s := Summary{Stage: runs[0].Stage, Point: runs[0].Point, Counts: load.Counts{Errors: make(map[string]int64)}, Runs: runs,
		OpsPerSecond: over(answered, throughput), P99: over(answered, p99), Figures: medians(answered)}
	for _, run := range runs {
		connections, starved, never := s.Connections, s.Starved, s.NeverGreeted
		s.Add(run.Counts)
		s.Connections, s.Starved, s.NeverGreeted = max(connections, run.Connections), max(starved, run.Starved), max(never, run.NeverGreeted)
	}
	return s
}

// compare compares ops_per_s or p99 with that of the first stage, in the rounds in which both
// were answered.
func (s *Summary) compare(first *Summary, what string, floor stats.Interval) *Ratio {
	r, of := &Ratio{Of: what}, map[string]func(*Run) float64{"ops_per_s": throughput, "p99": p99}[what]
	above, below := slices.Contains(s.AtLeast, what), slices.Contains(first.AtLeast, what)
	switch {
	case above && below:
		return r // two bounds have no ratio
	case above:
		r.Bound = "at least"
	case below:
		r.Bound = "at most"
	}
	baseline := make(map[int]float64)
	for _, run := range first.Runs {
		baseline[run.Round] = of(run)
	}
	var quotients []float64
	for _, run := range s.Runs {
		if base := baseline[run.Round]; base > 0 && run.Requests > 0 {
			quotients = append(quotients, of(run)/base)
		}
	}
	r.Interval = stats.NewInterval(quotients)
	// What is at most 1.2 may be 1, too.
	r.NoDifference = r.WithinNoise(floor) || r.Bound == "at most" && r.High > 1 || r.Bound == "at least" && r.Low < 1
	return r
}

// ratio returns the ratio of ops_per_s or p99 to the first stage; nil if there is none.
func (s *Summary) ratio(of string) *Ratio {
	for _, r := range []*Ratio{s.Ratio, s.P99Ratio} {
		if r != nil && r.Of == of {
			return r
		}
	}
	return nil
}

func throughput(run *Run) float64 { return run.OpsPerSecond }
func p99(run *Run) float64        { return float64(run.Latency["p99"]) }

// String returns the ratio in words.
func (r *Ratio) String() string {
	words := strings.TrimSpace(r.Bound + " " + text.Sig3(r.Median) + " times " + r.Bounds())
	switch {
	case r.Rounds == 0:
		return "not comparable"
	case r.Floor:
		return words + " (noise floor)"
	case r.NoDifference:
		return "no difference shown"
	}
	return words
}
