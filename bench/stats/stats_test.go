package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestInterval(t *testing.T) {
	for _, test := range []struct {
		samples []float64
		want    Interval
	}{
		{nil, Interval{}},
		{[]float64{7}, Interval{7, 7, 7, 0, 1}},
		{[]float64{3, 1, 2}, Interval{2, 1, 3, 0.75, 3}},
		{[]float64{6, 5, 4, 3, 2, 1}, Interval{3.5, 1, 6, 0.96875, 6}},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8}, Interval{4.5, 1, 8, 1 - 2.0/256, 8}},
		// The tables of the sign test: for nine, the second from either end.
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9}, Interval{5, 2, 8, 1 - 20.0/512, 9}},
		{[]float64{20, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 1},
			Interval{10.5, 6, 15, 0.958610, 20}},
	} {
		got := NewInterval(test.samples)
		if math.Abs(got.Level-test.want.Level) < 1e-6 {
			got.Level = test.want.Level
		}
		if got != test.want {
			t.Errorf("newInterval(%v) = %+v, want %+v", test.samples, got, test.want)
		}
	}
}

// The level is what it says: the interval holds the true median as often as that.
func TestIntervalCoverage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, rounds := range []int{3, 6, 9, 20} {
		const runs = 10_000
		held, level := 0, 0.0
		for range runs {
			samples := make([]float64, rounds)
			for i := range samples {
				samples[i] = math.Exp(r.NormFloat64()) // skewed; its median is 1
			}
			iv := NewInterval(samples)
			level = iv.Level
			if iv.Low <= 1 && 1 <= iv.High {
				held++
			}
		}
		if got := float64(held) / runs; math.Abs(got-level) > 0.015 {
			t.Errorf("%d rounds: the interval holds the median in %.3f of the runs, want %.3f", rounds, got, level)
		}
	}
}

func TestOutlying(t *testing.T) {
	for _, test := range []struct {
		samples []float64
		want    []bool
	}{
		{[]float64{100, 101, 99, 100, 60, 102}, []bool{false, false, false, false, true, false}},
		{[]float64{100, 140, 60, 100, 80, 120}, make([]bool, 6)}, // all far from each other
		{[]float64{100, 100, 100, 100, 100, 104}, make([]bool, 6)},
		{[]float64{100, 100, 100, 100, 100, 106}, []bool{false, false, false, false, false, true}},
		{[]float64{100, 100, 100, 5}, make([]bool, 4)}, // four cannot tell
		{nil, nil},
	} {
		if got := Outlying(test.samples); !slices.Equal(got, test.want) {
			t.Errorf("outlying of %v are %v, want %v", test.samples, got, test.want)
		}
	}
}

func TestNoDifference(t *testing.T) {
	measured := func(low, high float64) Interval { return Interval{Low: low, High: high, Rounds: 6} }
	for _, test := range []struct {
		ratio, floor Interval
		want         bool
	}{
		{measured(0.98, 1.02), Interval{}, true},
		{measured(1, 1.02), Interval{}, true},
		{measured(1.01, 1.02), Interval{}, false},
		{measured(0.97, 0.99), Interval{}, false},
		{measured(1.01, 1.02), measured(0.99, 1.03), true},
		{measured(0.98, 0.99), measured(0.99, 1.03), true}, // the floor holds both ways
		{measured(1.01, 1.02), measured(0.97, 1.01), true},
		{measured(1.01, 1.04), measured(0.99, 1.03), false},
		{measured(0.96, 0.99), measured(0.99, 1.03), false},
	} {
		if got := test.ratio.WithinNoise(test.floor); got != test.want {
			t.Errorf("ratio %v..%v with floor %v..%v: no difference %v, want %v", test.ratio.Low, test.ratio.High,
				test.floor.Low, test.floor.High, got, test.want)
		}
	}
}

// How often the rule claims a difference, under several kinds of noise: the figures
// that stand at noDifference.
func TestErrorRate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	even := func() float64 { return 1 + 0.05*r.NormFloat64() }
	tail := func() float64 { // one round in ten loses up to half
		if r.IntN(10) == 0 {
			return even() * (1 - r.Float64()/2)
		}
		return even()
	}
	steady := func() float64 { return 1 }
	biased := func() float64 { return 1 + 0.01*r.NormFloat64() }
	better := func() float64 { return 1.2 }
	for _, test := range []struct {
		name         string
		rounds       int
		noise        func() float64   // a round's
		base         func() float64   // the first stage's speed, drawn once a process
		others       []func() float64 // that of the stages compared with it
		least, limit float64          // the share of runs in which at least one difference is claimed
	}{
		{"six rounds", 6, even, steady, []func() float64{steady}, 0.026, 0.037},
		{"six rounds, long tail", 6, tail, steady, []func() float64{steady}, 0.026, 0.037},
		{"three rounds", 3, even, steady, []func() float64{steady}, 0.235, 0.265},
		{"three stages with the first", 6, even, steady, []func() float64{steady, steady, steady}, 0.065, 0.095},
		{"processes differ by 1 %", 6, biased, biased, []func() float64{biased}, 0.26, 0.31},
		{"one is 20 % faster", 6, even, steady, []func() float64{better}, 0.95, 1},
	} {
		const runs = 10_000
		claimed := 0
		for range runs {
			first, base := make([]float64, test.rounds), test.base()
			machine := make([]float64, test.rounds) // drifts from round to round
			speed := 1.0
			for i := range first {
				speed *= 1 + 0.1*r.NormFloat64()
				machine[i] = speed
				first[i] = speed * base * test.noise()
			}
			claims := false
			for _, other := range test.others {
				ratios, speed := make([]float64, test.rounds), other()
				for i := range ratios {
					ratios[i] = machine[i] * speed * test.noise() / first[i]
				}
				claims = claims || !NewInterval(ratios).WithinNoise(Interval{})
			}
			if claims {
				claimed++
			}
		}
		got := float64(claimed) / runs
		t.Logf("%s: %.1f %%", test.name, 100*got)
		if got < test.least || got > test.limit {
			t.Errorf("%s: a difference is claimed in %.3f of the runs, want %v to %v",
				test.name, got, test.least, test.limit)
		}
	}
}
