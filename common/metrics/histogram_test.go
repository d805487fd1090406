package metrics

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

const longest = 60 * time.Second

// distributions draw times from 1 ns to 60 s.
var distributions = map[string]func(*rand.Rand) time.Duration{
	"constant": func(*rand.Rand) time.Duration { return 1234567 },
	"tiny":     func(r *rand.Rand) time.Duration { return 1 + time.Duration(r.IntN(300)) },
	"log uniform": func(r *rand.Rand) time.Duration {
		return time.Duration(math.Exp(r.Float64() * math.Log(float64(longest))))
	},
	"powers of two": func(r *rand.Rand) time.Duration { return 1<<r.IntN(36) - time.Duration(r.IntN(2)) },
}

// A histogram against the sorted times, against the merged histograms of their parts, with and
// without one of them, and against what is saved and read again.
func TestQuantileAgainstSortedData(t *testing.T) {
	for name, draw := range distributions {
		for _, n := range []int{1, 2, 7, 3000} {
			r := rand.New(rand.NewPCG(1, uint64(n)))
			var h, merged Histogram
			var parts [3]Histogram // the last one stays empty
			var all []time.Duration
			var sum time.Duration
			for i := range n {
				d := draw(r)
				h.Record(d)
				parts[i%2].Record(d)
				all = append(all, d)
				sum += d
			}
			for i := range parts {
				merged.Merge(&parts[i])
			}
			if !reflect.DeepEqual(merged, h) {
				t.Errorf("%d of %s: the merged parts differ from one histogram of all", n, name)
			}
			merged.Sub(&parts[1])
			left := parts[0]
			if left.max = merged.max; merged.Count() != left.Count() || merged.Mean() != left.Mean() || merged.Quantile(0.5) != left.Quantile(0.5) {
				t.Errorf("%d of %s: without the second part, %+v are left, want %+v", n, name, merged, left)
			}
			// In a struct without an address, as results are marshalled.
			data, _ := json.Marshal(struct{ Latency Histogram }{h})
			var back struct{ Latency Histogram }
			back.Latency.Record(7) // must be replaced
			if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back.Latency, h) {
				t.Errorf("%d of %s: %s reads back as a different histogram (%v)", n, name, data, err)
			}
			slices.Sort(all)
			for _, permille := range []int{0, 1, 10, 70, 250, 500, 750, 900, 990, 999, 1000} {
				rank := max((permille*n+999)/1000, 1)
				exact, got := all[rank-1], h.Quantile(float64(permille)/1000)
				if got < exact || float64(got-exact) > 0.008*float64(exact) {
					t.Errorf("%d of %s: Quantile(%d/1000) = %d, want %d and at most 0.8 %% more", n, name, permille, got, exact)
				}
				if within, _ := slices.BinarySearch(all, edge(cell(exact))+1); h.Within(exact) != int64(within) {
					t.Errorf("%d of %s: %d are within %d, want %d", n, name, h.Within(exact), exact, within)
				}
			}
			if mean := sum / time.Duration(n); h.Count() != int64(n) || h.Within(math.MaxInt64) != int64(n) || h.Max() != all[n-1] || h.Mean() != mean {
				t.Errorf("%s: count, max, mean = %d, %d, %d, want %d, %d, %d", name, h.Count(), h.Max(), h.Mean(), n, all[n-1], mean)
			}
		}
	}
}

func TestQuantileEdges(t *testing.T) {
	type times = []time.Duration
	for _, test := range []struct {
		recorded times
		q        float64
		want     time.Duration
	}{
		{nil, 0.5, 0},
		{times{-5}, 1, 0},
		{times{20_000, 20_000, 3_000_000}, 0.5, 20_095},
		{times{255, 256, 257, 258}, 0.25, 255}, // the longest exact one
		{times{255, 256, 257, 258}, 0.50, 257}, // 256 and 257 share a cell
		{times{longest}, 0.5, longest},
		{times{1, longest + 1}, 0.51, longest + 1},
		{times{math.MaxInt64, 1 << 62}, 0.5, edge(cell(1 << 62))},
		{times{1, 2, 3}, -1, 1},
		{times{1, 2, 3}, 2, 3},
	} {
		var h Histogram
		for _, d := range test.recorded {
			h.Record(d)
		}
		if got := h.Quantile(test.q); got != test.want {
			t.Errorf("%v: Quantile(%v) = %d, want %d", test.recorded, test.q, got, test.want)
		}
	}
	for d, want := range map[time.Duration]int{1: 1 << 10, time.Second: 24 << 10, longest: 32 << 10, math.MaxInt64: 64 << 10} {
		var h Histogram
		h.Record(d)
		if got := 8 * cap(h.counts); got > want {
			t.Errorf("a histogram of %v has %d bytes, want at most %d", d, got, want)
		}
	}
}

func TestHistogramJSON(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{1, 300, 300, longest, time.Hour} {
		h.Record(d)
	}
	got, _ := json.Marshal(h)
	want := `{"sum_ns":3660000000601,"max_ns":3600000000000,"overflow":0,` +
		`"buckets":[[1,1],[301,2],[60129542143,1],[3607772528639,1]]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []string{`[]`, `{"buckets":[[-1,1]]}`, `{"buckets":[[300,1]]}`,
		`{"buckets":[[60397977598,1]]}`, `{"buckets":[[18446744073709551615,1]]}`} {
		if err := json.Unmarshal([]byte(bad), &h); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	// Times that an old file does not resolve count, and are the longest.
	if err := json.Unmarshal([]byte(`{"max_ns":90000000000,"overflow":1,"buckets":[[1,1]]}`), &h); err != nil || h.Count() != 2 || h.Quantile(0.5) != 1 || h.Quantile(1) != 90e9 {
		t.Errorf("an old file has %d times, median %v, longest %v (%v)", h.Count(), h.Quantile(0.5), h.Quantile(1), err)
	}
}
