package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestInterval(t *testing.T) {
	for _, test := range []struct {
		samples []float64
		want    Interval
		text    string
	}{
		{nil, Interval{}, " one round: no interval"},
		{[]float64{7}, Interval{7, 7, 7, 0, 1}, " one round: no interval"},
		{[]float64{3, 1, 2}, Interval{2, 1, 3, 0.75, 3}, "[1.00..3.00] median [range] of 3 rounds; a verdict takes 6"},
		{[]float64{6, 5, 4, 3, 2, 1}, Interval{3.5, 1, 6, 0.96875, 6}, "[1.00..6.00] median [97 % interval] of 6 rounds"},
		// By the tables of the sign test, the sixth from either end.
		{[]float64{20, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 1},
			Interval{10.5, 6, 15, 0.958610, 20}, "[6.00..15.0] median [96 % interval] of 20 rounds"},
	} {
		got := NewInterval(test.samples)
		if math.Abs(got.Level-test.want.Level) < 1e-6 {
			got.Level = test.want.Level
		}
		if text := got.Bounds() + " " + got.Rule(); got != test.want || text != test.text {
			t.Errorf("NewInterval(%v) = %+v, %s, want %+v, %s", test.samples, got, text, test.want, test.text)
		}
	}
}

func TestWithinNoise(t *testing.T) {
	measured := func(low, high float64) Interval { return Interval{Low: low, High: high, Rounds: 6} }
	none, above, below := Interval{}, measured(0.99, 1.03), measured(0.97, 1.01)
	for _, test := range []struct {
		ratio, floor Interval
		want         bool
	}{
		{measured(0.98, 1.02), none, true}, {measured(1, 1.02), none, true}, {measured(1.01, 1.02), none, false},
		{measured(0.97, 0.99), none, false},
		{measured(1.01, 1.02), above, true}, {measured(0.98, 0.99), above, true}, // the floor holds both ways
		{measured(1.01, 1.02), below, true}, {measured(1.01, 1.04), above, false}, {measured(0.96, 0.99), above, false},
	} {
		if got := test.ratio.WithinNoise(test.floor); got != test.want {
			t.Errorf("ratio %v with floor %v: within noise: %v, want %v", test.ratio, test.floor, got, test.want)
		}
	}
}

// The rule shows a difference as often as its documentation says. How fast the machine is in a
// round is in no ratio, since both of a ratio are of one round.
func TestErrorRate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	normal := func() float64 { return 1 + 0.05*r.NormFloat64() }
	tail := func() float64 { // one round in ten loses up to half
		if r.IntN(10) == 0 {
			return normal() * (1 - r.Float64()/2)
		}
		return normal()
	}
	for _, test := range []struct {
		name        string
		rounds      int
		noise       func() float64 // of a round
		others      int            // the stages compared with the first
		least, most float64        // the share of runs that show a difference
	}{
		{"six rounds", 6, normal, 1, 0.026, 0.037},
		{"six rounds, long tail", 6, tail, 1, 0.026, 0.037},
		{"three rounds", 3, normal, 1, 0.235, 0.265},
		{"three stages with the first", 6, normal, 3, 0.065, 0.095},
	} {
		const runs = 10_000
		shown := 0
		for range runs {
			base, differs := make([]float64, test.rounds), false
			for i := range base {
				base[i] = test.noise()
			}
			for range test.others {
				ratios := make([]float64, test.rounds)
				for i := range ratios {
					ratios[i] = test.noise() / base[i]
				}
				differs = differs || !NewInterval(ratios).WithinNoise(Interval{})
			}
			if differs {
				shown++
			}
		}
		if got := float64(shown) / runs; got < test.least || got > test.most {
			t.Errorf("%s: %.3f of the runs show a difference, want %v to %v", test.name, got, test.least, test.most)
		}
	}
}
