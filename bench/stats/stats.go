// Package stats says what a few rounds of a measurement show: their median with an
// interval, and whether two stages differ. It assumes only that rounds are independent
// of each other, and nothing of how their figures are distributed.
package stats

import (
	"fmt"
	"math"
	"slices"

	"lockstep/common/text"
)

// An Interval is the median of a figure over some rounds, with a confidence interval for
// the median that many more rounds would have. A round is one sample: its operations
// depend on each other, so a million of them tell no more about the next round than
// its throughput does.
type Interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Level  float64 `json:"level"` // how often such an interval holds the true median, 0 to 1; 0 for one round
	Rounds int     `json:"rounds"`
}

// confident is the lowest level of a confidence interval. Up to five rounds do not reach
// it and have only a range.
const confident = 0.95

// NewInterval returns the median of the samples with the narrowest symmetric interval
// between two of them whose level is at least 95 %, or with their range if no interval
// has that level. It returns the zero Interval if there are no samples.
//
// The k-th smallest and the k-th largest of n samples enclose the true median unless
// fewer than k samples lie on one side of it, as in n throws of a coin. For k = 1 the
// level is 1 - 2/2^n: 96.9 % for six rounds and 75 % for three. n is at most 1000.
func NewInterval(samples []float64) Interval {
	n := len(samples)
	if n == 0 {
		return Interval{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	chance := math.Pow(0.5, float64(n)) // that exactly k samples lie on one side; first, none
	k, level := 1, 1-2*chance
	for ; k < n/2; k++ {
		chance *= float64(n-k+1) / float64(k)
		if level-2*chance < confident {
			break
		}
		level -= 2 * chance
	}
	median := (sorted[(n-1)/2] + sorted[n/2]) / 2
	return Interval{Median: median, Low: sorted[k-1], High: sorted[n-k], Level: level, Rounds: n}
}

// WithinNoise reports whether a ratio shows no difference: its interval holds 1 or lies
// within the noise floor, in either direction. The floor is the interval of the ratio of
// a stage to itself, or zero if that was not measured.
//
// Of 10 000 simulated comparisons of a stage with itself, without a floor, six rounds
// show a difference in 3.1 % and three rounds in 25 %, which is why three rounds have only
// a range. That holds for normal noise and for a long tail, and on a machine that slows
// down and speeds up in between. Of three stages that are compared with the same first
// one, at least one is wrong in about 8 % of the runs.
//
// Rounds cannot show what stays the same in all of them, such as how the code of a program
// happens to lie in memory: hence the floor.
func (iv Interval) WithinNoise(floor Interval) bool {
	noise := max(floor.High, 1/floor.Low)
	return iv.Low <= 1 && 1 <= iv.High || floor.Rounds > 0 && 1/noise <= iv.Low && iv.High <= noise
}

// Bounds returns the interval in brackets, or "" for fewer than two rounds.
func (iv Interval) Bounds() string {
	if iv.Rounds < 2 {
		return ""
	}
	return "[" + text.Sig3(iv.Low) + ".." + text.Sig3(iv.High) + "]"
}

// Rule says what the median and the brackets are.
func (iv Interval) Rule() string {
	switch {
	case iv.Rounds < 2:
		return "one round: no interval"
	case iv.Level < confident:
		return fmt.Sprintf("median [range] of %d rounds; a verdict takes 6", iv.Rounds)
	}
	return fmt.Sprintf("median [%.0f %% interval] of %d rounds", 100*iv.Level, iv.Rounds)
}
