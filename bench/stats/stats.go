package stats

import (
	"fmt"
	"math"
	"slices"
)

// One round is one sample: its operations are not independent of each other, so that
// a million of them tell no more about the next round than its throughput does.
// Nothing is assumed of how the rounds of a stage are distributed, but that they are
// independent.

// An interval is the median of a figure over the rounds of a run, and an interval for
// the median that many more rounds would have.
type Interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Level  float64 `json:"level"` // how often such an interval holds the true median, 0 to 1; 0: one round
	Rounds int     `json:"rounds"`
}

// confident is the level from which on an interval is called one. Below, which is up
// to five rounds, there is only a range.
const confident = 0.95

// newInterval returns the median of the samples and the narrowest interval between two
// of them, as far from the least as from the greatest, whose level is 95 % at least;
// their whole range, if no level is. With n samples in order, the k-th from below and
// the k-th from above enclose the true median unless fewer than k samples fell on one
// side of it, as in n throws of a coin: for k = 1 the level is 1 - 2/2^n, 96.9 % with six
// rounds and 75 % with three. There may be 1000 samples; of none, the interval is zero.
func NewInterval(samples []float64) Interval {
	n := len(samples)
	if n == 0 {
		return Interval{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	throws := math.Pow(0.5, float64(n)) // the chance of none on one side; of exactly k, below
	k, level := 1, 1-2*throws
	for ; k < n/2; k++ {
		throws *= float64(n-k+1) / float64(k)
		if level-2*throws < confident {
			break
		}
		level -= 2 * throws
	}
	return Interval{
		Median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		Low:    sorted[k-1], High: sorted[n-k],
		Level: level, Rounds: n,
	}
}

// noDifference is the rule by which a comparison claims nothing: the interval of the
// ratio holds 1, or lies within the floor, in either direction. The floor is the
// interval that comparing a stage with itself gave; the zero interval, if nobody did.
//
// How often does the rule claim a difference between two stages that are the same? In
// 10 000 synthetic comparisons without a floor, 3.1 % of those with six rounds and 25 %
// of those with three (which is why that is called a range), whether the noise of the
// rounds is even or has a long tail, and though the machine gets slower and faster in
// between. Four stages make three comparisons with the first, which share its rounds:
// one of the three is wrong in about 8 % of the runs.
//
// What rounds cannot show is what stays the same in all of them. If each process is
// faster or slower than its like by 1 %, because of where its memory happens to lie,
// and a round's noise is 1 % as well, 29 % of the comparisons of a stage with itself
// claim a difference. That is what the floor is for.
func (ratio Interval) WithinNoise(floor Interval) bool {
	if ratio.Low <= 1 && 1 <= ratio.High {
		return true
	}
	if floor.Rounds == 0 {
		return false
	}
	noise := max(floor.High, 1/floor.Low)
	return 1/noise <= ratio.Low && ratio.High <= noise
}

// verdict reports whether so many rounds allow any: with fewer than six, chance alone
// would find a difference in one comparison of four.
func (iv Interval) Verdict() bool { return iv.Level >= confident }

// outlying returns which samples lie so far from the others that something else went
// on in their rounds: more than 5 standard deviations from the median (estimated from
// the median deviation, which an outlier cannot move: F. R. Hampel, The influence
// curve and its role in robust estimation, JASA 69, 1974), and more than 5 % of it.
// Fewer than five samples cannot tell.
func Outlying(samples []float64) []bool {
	marks := make([]bool, len(samples))
	if len(samples) < 5 {
		return marks
	}
	middle := NewInterval(samples).Median
	far := make([]float64, len(samples))
	for i, x := range samples {
		far[i] = math.Abs(x - middle)
	}
	const deviations = 1.4826 // median deviation to standard deviation, of normal noise
	limit := max(5*deviations*NewInterval(far).Median, 0.05*math.Abs(middle))
	for i := range samples {
		marks[i] = far[i] > limit
	}
	return marks
}

// rule says in words what newInterval made of the rounds.
func (iv Interval) Rule() string {
	switch {
	case iv.Rounds < 2:
		return "one round: nothing is known about chance"
	case iv.Level < confident:
		return fmt.Sprintf("median [range] of %d rounds, a %.0f %% interval", iv.Rounds, 100*iv.Level)
	}
	return fmt.Sprintf("median [%.0f %% interval] of %d rounds", 100*iv.Level, iv.Rounds)
}
