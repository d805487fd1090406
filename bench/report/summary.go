package report

import (
	"cmp"
	"slices"
	"strings"

	"lockstep/bench/load"
	"lockstep/bench/stats"
	"lockstep/common/text"
)

// A Summary sums up the rounds of one stage, at one point of the sweep if there is one.
type Summary struct {
	Stage        string         `json:"stage"`
	Point        string         `json:"point,omitempty"`
	OpsPerSecond stats.Interval `json:"ops_per_s"`
	P99          stats.Interval `json:"p99_ns"`
	Figures
	load.Counts        // of all rounds; but Connections, Starved and NeverGreeted are the greatest of one
	Outliers    []int  `json:"outliers,omitempty"` // rounds whose throughput is far from the others'
	Ratio       *Ratio `json:"ratio"`              // to the first stage; null for that stage
	Runs        []*Run `json:"-"`                  // the rounds
}

// A Ratio compares a stage with the first one, round by round.
type Ratio struct {
	Of string `json:"of"` // "ops_per_s", or "p99" in an open loop, where the throughput is given
	stats.Interval
	NoDifference bool `json:"no_difference"` // no difference is shown
	Floor        bool `json:"noise_floor"`   // this is the first stage compared with itself
}

// Summarize makes Summary from Runs: point by point if there is a sweep, with the stages
// in their order. Stages without a round are left out.
func (rep *Report) Summarize() {
	type row struct{ point, stage string }
	runs := make(map[row][]*Run)
	for i := range rep.Runs {
		at := row{rep.Runs[i].Point, rep.Runs[i].Stage}
		runs[at] = append(runs[at], &rep.Runs[i])
	}
	points := []string{""}
	if rep.Sweep != nil {
		points = rep.Sweep.Points
	}
	rep.Summary = []Summary{}
	for _, point := range points {
		floor := stats.Interval{}
		for i, stage := range rep.Stages {
			rounds := runs[row{point, stage}]
			if len(rounds) == 0 {
				continue
			}
			s := summarize(rounds)
			if i > 0 {
				s.Ratio = rep.compare(rounds, runs[row{point, rep.Stages[0]}], floor)
				if s.Ratio.Floor = rep.AA && i == 1; s.Ratio.Floor {
					floor = s.Ratio.Interval
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
	throughput := make([]float64, len(runs))
	s := Summary{
		Stage: runs[0].Stage, Point: runs[0].Point,
		P99:     over(runs, func(r *Run) float64 { return float64(r.Latency["p99"]) }),
		Figures: medians(runs),
		Counts:  load.Counts{Errors: make(map[string]int64)},
		Runs:    runs,
	}
	for i, run := range runs {
		throughput[i] = run.OpsPerSecond
		connections, starved, never := s.Connections, s.Starved, s.NeverGreeted
		s.Add(run.Counts)
		s.Connections, s.Starved, s.NeverGreeted = max(connections, run.Connections), max(starved, run.Starved), max(never, run.NeverGreeted)
	}
	s.OpsPerSecond = stats.NewInterval(throughput)
	for _, i := range stats.Outliers(throughput) {
		s.Outliers = append(s.Outliers, runs[i].Round)
	}
	return s
}

// compare compares a stage with the first one in the rounds that both had.
func (rep *Report) compare(stage, first []*Run, floor stats.Interval) *Ratio {
	r := &Ratio{Of: "ops_per_s"}
	figure := func(run *Run) float64 { return run.OpsPerSecond }
	if rep.Workload(stage[0].Point).Rate > 0 {
		r.Of = "p99"
		figure = func(run *Run) float64 { return float64(run.Latency["p99"]) }
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

// String returns the ratio in words.
func (r *Ratio) String() string {
	words := strings.TrimSpace(text.Sig3(r.Median) + " times " + r.Bounds())
	switch {
	case r.Rounds == 0:
		return "not comparable" // no round in which the first stage did anything
	case r.Median == 0:
		return "nothing answered"
	case r.Floor:
		return words + " (noise floor)"
	case r.NoDifference:
		return "no difference shown"
	}
	return words
}

// short returns the ratio without its interval.
func (r *Ratio) short() string {
	short, _, _ := strings.Cut(r.String(), " times")
	return short
}
