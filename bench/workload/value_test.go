package workload

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lockstep/common/cluster"
)

func TestValueText(t *testing.T) {
	const want = "key-017 by 3 #42 "
	got := string(appendValue(nil, "key-017", newStamp(3, 42), cluster.Bytes(30)))
	if len(got) != 30 || !strings.HasPrefix(got, want) || strings.Trim(got[len(want):], "abcdefghijklmnop") != "" {
		t.Errorf("value is %q (%d bytes), want %q and letters up to 30 bytes", got, len(got), want)
	}
	if got := string(appendValue([]byte("before"), "key-017", newStamp(3, 42), cluster.Bytes(9))); got != "beforekey-017 b" {
		t.Errorf("value of 9 bytes, appended, gives %q, want %q", got, "beforekey-017 b")
	}
}

func TestVerify(t *testing.T) {
	const key = "key-017"
	stamps := []stamp{0, newStamp(1, 1), newStamp(3, 42), newStamp(90, 123456), newStamp(1<<27-1, 1<<numberBits-1)}
	for n := range 70 {
		size := cluster.Bytes(n)
		for _, s := range stamps {
			value := appendValue(nil, key, s, size)
			got, _, err := verify(nil, key, value, size)
			if err != nil {
				t.Fatalf("verify of %q: %v", value, err)
			}
			// The stamp that was read writes the same value, also where it could not be read whole.
			if again := appendValue(nil, key, got, size); string(again) != string(value) {
				t.Fatalf("stamp %d of %q writes %q", got, value, again)
			}
			if n >= 40 && got != s {
				t.Errorf("stamp of %q is %d, want %d", value, got, s)
			}
			for i := range value {
				bad := bytes.Clone(value)
				bad[i] ^= 1
				// Without filler, another digit in the stamp is another value.
				if _, _, err := verify(nil, key, bad, size); err == nil && n > 45 {
					t.Fatalf("verify accepts %q", bad)
				}
			}
		}
	}
}

func TestVerifyErrors(t *testing.T) {
	const key = "key-017"
	size, sizes := cluster.Bytes(60), cluster.Size{Min: 101, Max: 200}
	value := appendValue(nil, key, newStamp(3, 42), size)
	other := appendValue(nil, key, newStamp(4, 42), size)
	ranged := appendValue(nil, key, newStamp(3, 42), sizes)
	for _, test := range []struct {
		name  string
		bad   []byte
		sizes cluster.Size
	}{
		{"nil", nil, size},
		{"cut", value[:59], size},
		{"too long", slices.Concat(value, []byte("a")), size},
		{"of another key", appendValue(nil, "key-018", newStamp(3, 42), size), size},
		{"of another size", appendValue(nil, key, newStamp(3, 42), cluster.Bytes(50)), size},
		{"half and half", slices.Concat(value[:40], other[40:]), size},
		{"a leading zero", []byte(strings.Replace(string(value), "#42 ", "#042", 1)), size},
		{"a number too long", []byte("key-017 by 3 #99999999999999999999999999999999999999999999999"), size},
		{"by hand", []byte("blue"), size},
		{"zeros", make([]byte, 60), size},
		{"of a range, cut", ranged[:len(ranged)-1], sizes},
		{"of a range, cut in the stamp", ranged[:14], sizes},
		{"of a range, by another writer", append([]byte("key-017 by 4"), ranged[12:]...), sizes},
		{"too short for the range", []byte("key-017 "), cluster.Size{Min: 9, Max: 36}},
		{"too long for the range", []byte("key-017 "), cluster.Size{Min: 2, Max: 7}},
	} {
		if _, _, err := verify(nil, key, test.bad, test.sizes); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: verify of %q has the error %v, want one with the key", test.name, test.bad, err)
		}
	}
}

// The stamp determines the size of a value in a range, and all sizes are equally likely, also
// those that do not hold key and stamp: such a value is verified as far as it goes.
func TestValueRange(t *testing.T) {
	const key = "key-017"
	for _, sizes := range []cluster.Size{{Min: 16, Max: 271}, {Min: 0, Max: 36}} {
		counts := make([]int, sizes.Max-sizes.Min+1)
		for number := range uint64(3_000) {
			s := newStamp(12, number)
			value := appendValue([]byte("before"), key, s, sizes)[len("before"):]
			counts[len(value)-sizes.Min]++
			want := s
			if len(value) < len(appendText(nil, key, s)) {
				want = unknown
			}
			if got, _, err := verify(nil, key, value, sizes); err != nil || got != want {
				t.Fatalf("verify of %q: stamp %d, error %v, want %d", value, got, err, want)
			}
			if n := len(value); n > 0 {
				value[n-1] ^= 64
				if _, _, err := verify(nil, key, value, sizes); err == nil {
					t.Fatalf("verify accepts %q", value)
				}
			}
		}
		if sum, limit := chiSquare(counts, func(int) float64 { return 1 }); sum > limit {
			t.Errorf("chi-square of the sizes %v is %.1f, want at most %.1f", sizes, sum, limit)
		}
	}
}

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
		{"hotspot:20,80", 1000, hotspotWeight(200, 0.8/200, 0.2/800)},
		{"hotspot:0.01,90", 1000, hotspotWeight(1, 0.9, 0.1/999)}, // one key at least
		{"hotspot:10,100", 1000, hotspotWeight(100, 1, 0)},
		{"hotspot:100,50", 1000, hotspotWeight(1000, 1, 0)},
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

func hotspotWeight(hot int, inside, outside float64) func(int) float64 {
	return func(rank int) float64 {
		if rank < hot {
			return inside
		}
		return outside
	}
}

// countRanks counts how often each rank is drawn, which scatter put on a key.
func countRanks(draw distribution, keys int) []int {
	onKey := make([]int, keys)
	r := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
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

func TestScatter(t *testing.T) {
	for _, keys := range []int{1, 2, 3, 10, 987, 1000, 1024, 100_000} {
		seen, near, last, rank := make([]bool, keys), 0, -2, 0
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
