package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

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
	s := Summary{
		Stage: runs[0].Stage, Point: runs[0].Point,
		OpsPerSecond: over(answered, throughput),
		P99:          over(answered, p99),
		Figures:      medians(answered),
		Counts:       load.Counts{Errors: make(map[string]int64)},
		Runs:         runs,
	}
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
	r := &Ratio{Of: what}
	figure := throughput
	if what == "p99" {
		figure = p99
		above, below := slices.Contains(s.AtLeast, "p99"), slices.Contains(first.AtLeast, "p99")
		switch {
		case above && below:
			return r // two bounds have no ratio
		case above:
			r.Bound = "at least"
		case below:
			r.Bound = "at most"
		}
	}
	baseline := make(map[int]float64)
	for _, run := range first.Runs {
		baseline[run.Round] = figure(run)
	}
	var quotients []float64
	for _, run := range s.Runs {
		if base := baseline[run.Round]; base > 0 && run.Requests > 0 {
			quotients = append(quotients, figure(run)/base)
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

// AddClients is Add for the result of all client processes, nil if they are missing, and their
// sum. Each of them is judged by itself, as it has CPU time of its own. A round is not complete
// without all of them.
func (rep *Report) AddClients(stage string, round int, sum *load.Result, all []*load.Result) {
	if len(all) == 1 {
		rep.Add(stage, round, sum)
		return
	}
	run := Run{Stage: stage, Round: round, Result: *sum, Clients: make([]*Run, len(all))}
	var laws, missing []string
	for i, r := range all {
		if r == nil {
			missing = append(missing, rep.client(i))
			continue
		}
		one := &Run{Result: *r, Invalid: invalid(r, int(math.Ceil(r.Cores)))}
		one.derive(false)
		one.Result = load.Result{Counts: r.Counts}
		if run.Clients[i] = one; one.Invalid != "" {
			run.Invalid = cmp.Or(run.Invalid, fmt.Sprintf("client %d: %s", i, one.Invalid))
		}
		for _, law := range littlesLaw(r, rep.Workload("")) {
			laws = append(laws, fmt.Sprintf("client %d: %s", i, law))
		}
	}
	if rep.Env.Shared { // one CPU time for all
		run.Invalid = cmp.Or(run.Invalid, invalid(sum, rep.Env.CPUs))
	}
	rep.add(run, laws, missing)
}

func (rep *Report) client(number int) string {
	name := fmt.Sprintf("client %d", number)
	if number < len(rep.Config.Clients) {
		name += " (" + rep.Config.Clients[number].Control + ")"
	}
	return name
}

// clients returns a table with a row for each client, if there are several, so that one that is
// worse off than the others is seen.
func (rep *Report) clients() []Table {
	rounds := rep.Summary[0].Runs
	if len(rep.Summary) > 1 || len(rounds[0].Clients) < 2 {
		return nil
	}
	t := Table{Head: []string{"client", "ops/s", "p99", "CPU/request", "notes"}}
	for i := range rounds[0].Clients {
		var took []*Run
		for _, run := range rounds {
			if i < len(run.Clients) && run.Clients[i] != nil {
				took = append(took, run.Clients[i])
			}
		}
		row, notes := []string{rep.client(i), "", "", ""}, counts(nil)
		if took != nil {
			s := summarize(took)
			if row[1] = text.Sig3(s.OpsPerSecond.Median); s.Requests > 0 {
				row[2], row[3] = s.written(s.Latency, "", "p99"), text.Duration(time.Duration(s.ClientCPUPerRequest))
			}
			notes.add(int64(len(s.invalid())), "× INVALID")
			notes.add(int64(s.Starved), fmt.Sprintf("of %d starved", s.Connections))
			notes.add(s.Failed(), "failed")
			notes.add(s.Misses, "missed")
			notes.add(s.Wrong, "wrong")
		}
		notes.add(int64(len(rounds)-len(took)), "× MISSING")
		t.Rows = append(t.Rows, append(row, strings.Join(notes, ", ")))
	}
	return []Table{t}
}
