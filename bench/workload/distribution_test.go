package workload

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestDistributions(t *testing.T) {
	for _, test := range []struct {
		spec   string
		keys   int
		weight func(rank int) float64 // in proportion to how often the rank is drawn, from 0
	}{
		{"uniform", 1000, func(int) float64 { return 1 }},
		{"zipf:0.5", 1000, zipfWeight(0.5)},
		{"zipf:0.99", 1000, zipfWeight(0.99)},
		{"zipf:1", 1000, zipfWeight(1)},
		{"zipf:1.5", 1000, zipfWeight(1.5)},
		{"zipf:10", 3, zipfWeight(10)},
		{"zipf:0.99", 1, zipfWeight(0.99)},
	} {
		t.Run(test.spec, func(t *testing.T) {
			counts := countRanks(newDistribution(test.spec, test.keys), test.keys)
			if sum, limit := chiSquare(counts, test.weight); sum > limit {
				t.Errorf("chi-square is %.1f, want at most %.1f", sum, limit)
			}
		})
	}
}

func zipfWeight(theta float64) func(int) float64 {
	return func(rank int) float64 { return math.Pow(float64(rank+1), -theta) }
}

// countRanks counts how often each rank is drawn, which scatter put on a key.
func countRanks(draw distribution, keys int) []int {
	onKey := make([]int, keys)
	r := rand.New(rand.NewPCG(1, 1))
	for range 300_000 {
		onKey[draw(r)]++
	}
	rank := 0
	key := scatter(func(*rand.Rand) int { return rank }, keys)
	counts := make([]int, keys)
	for rank = range keys {
		counts[rank] = onKey[key(nil)]
	}
	return counts
}

// chiSquare compares counts with the exact distribution. It joins ranks until at least ten
// draws are expected. One right generator in 10 000 is above the limit (Wilson and
// Hilferty's approximation).
func chiSquare(counts []int, weight func(int) float64) (sum, limit float64) {
	draws, total := 0.0, 0.0
	for rank, n := range counts {
		draws += float64(n)
		total += weight(rank)
	}
	freedom := -1.0
	observed, expected := 0.0, 0.0
	for rank, n := range counts {
		observed += float64(n)
		expected += draws * weight(rank) / total
		if expected >= 10 || rank == len(counts)-1 && expected > 0 {
			sum += (observed - expected) * (observed - expected) / expected
			freedom++
			observed, expected = 0, 0
		}
	}
	if observed > 0 {
		return math.Inf(1), 0 // ranks with weight 0
	}
	if freedom == 0 {
		return sum, 0
	}
	return sum, freedom * math.Pow(1-2/(9*freedom)+3.719*math.Sqrt(2/(9*freedom)), 3)
}

// chiSquare sees the error of YCSB's generator, which draws rank 3 of 1000 17 % too often.
func TestChiSquareSees(t *testing.T) {
	counts := countRanks(newDistribution("zipf:0.99", 1000), 1000)
	if sum, limit := chiSquare(counts, zipfWeight(1)); sum <= limit {
		t.Errorf("0.99 passes for 1: chi-square is %.1f, want above %.1f", sum, limit)
	}
	counts[2] = counts[2] * 117 / 100
	if sum, limit := chiSquare(counts, zipfWeight(0.99)); sum <= limit {
		t.Errorf("17 percent too much of rank 3: chi-square is %.1f, want above %.1f", sum, limit)
	}
}

func TestScatter(t *testing.T) {
	for _, keys := range []int{1, 2, 3, 10, 987, 1000, 1024, 1_000_000} {
		seen := make([]bool, keys)
		near := 0
		last := -2
		rank := 0
		key := scatter(func(*rand.Rand) int { return rank }, keys)
		for rank = range keys {
			k := key(nil)
			if k < 0 || k >= keys || seen[k] {
				t.Fatalf("%d keys: rank %d is on key %d, which is taken or out of range", keys, rank, k)
			}
			seen[k] = true
			if k-last == 1 || last-k == 1 {
				near++
			}
			last = k
		}
		if keys >= 987 && near > 0 {
			t.Errorf("%d keys: %d ranks are on a key beside the one of the rank before", keys, near)
		}
	}
}
