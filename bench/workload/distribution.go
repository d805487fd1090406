package workload

import (
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
)

// A distribution draws the number of a key, from 0 to the number of keys less one.
type distribution func(*rand.Rand) int

// newDistribution returns the distribution that spec names, or nil if it names none:
//
//	uniform     all keys alike
//	zipf:THETA  key k in proportion to 1/k^THETA; 0 < THETA <= 10
//
// Which keys are popular depends only on the number of keys, so all clients of a run agree.
func newDistribution(spec string, keys int) distribution {
	if spec == "uniform" {
		return func(r *rand.Rand) int { return r.IntN(keys) }
	}
	number, isZipf := strings.CutPrefix(spec, "zipf:")
	if theta, err := strconv.ParseFloat(number, 64); isZipf && err == nil && 0 < theta && theta <= 10 {
		return scatter(newZipf(theta, keys).rank, keys)
	}
	return nil
}

// scatter maps ranks to keys so that keys next to each other in popularity are not next to
// each other by number. It is a bijection: a hash modulo keys would give one key several ranks
// and others none, which is another distribution.
func scatter(rank distribution, keys int) distribution {
	n, step := int64(keys), int64(float64(keys)/math.Phi)|1
	for new(big.Int).GCD(nil, nil, big.NewInt(step), big.NewInt(n)).Int64() != 1 {
		step += 2
	}
	return func(r *rand.Rand) int { return int(int64(rank(r)) * step % n) }
}

// A zipf draws ranks by rejection inversion (W. Hörmann and G. Derflinger, Rejection-
// inversion to generate variates from monotone discrete distributions, ACM TOMACS 6,
// 1996). It is exact for every theta above 0, needs no table, and accepts nearly every
// draw. rand.Zipf needs a theta above 1, and YCSB uses 0.99.
//
// It draws a point under the curve x^-theta, which is easy to invert, and accepts it if it
// also lies under the step function of the ranks' weights.
type zipf struct {
	theta       float64
	keys        int
	left, right float64 // the area under the curve up to the start of rank 1 and the end of the last rank
	sure        float64 // a point at most this far left of its rank is under the steps
}

func newZipf(theta float64, keys int) *zipf {
	z := &zipf{theta: theta, keys: keys}
	z.left = z.area(1.5) - 1 // rank 1 has weight 1, and the curve begins at 1.5
	z.right = z.area(float64(keys) + 0.5)
	z.sure = 2 - z.inverse(z.area(2.5)-math.Pow(2, -theta))
	return z
}

// rank draws a rank, from 0, which is the most popular.
func (z *zipf) rank(r *rand.Rand) int {
	for {
		u := z.right + r.Float64()*(z.left-z.right)
		x := z.inverse(u)
		k := min(max(math.Round(x), 1), float64(z.keys))
		if k-x <= z.sure || u >= z.area(k+0.5)-math.Pow(k, -z.theta) {
			return int(k) - 1
		}
	}
}

// area returns the integral of x^-theta from 1 to x, (x^(1-theta) - 1) / (1-theta), in a form
// that becomes log x without loss of precision as theta approaches 1.
func (z *zipf) area(x float64) float64 {
	log := math.Log(x)
	if t := (1 - z.theta) * log; t != 0 {
		return math.Expm1(t) / t * log
	}
	return log
}

// inverse returns the x at which area is a.
func (z *zipf) inverse(a float64) float64 {
	if t := max((1-z.theta)*a, -1); t != 0 {
		return math.Exp(math.Log1p(t) / t * a)
	}
	return math.Exp(a)
}
