package metrics

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// The layout is that of Gil Tene's HdrHistogram with two significant digits.
// Bucket 0 has 256 sub-buckets of 1 ns; each bucket after it covers twice the
// range of the one before, and only its upper half, 128 sub-buckets, is new. So a
// sub-bucket is at most 1/128 = 0.8 % as wide as the values in it.
const half = 128

// A Histogram counts times of any length and answers with quantiles that are at most 0.8 %
// too long. It grows to the longest time that it holds: 24 KiB up to a second, 31 KiB up to a
// minute. The zero Histogram is empty and ready to use. It is not safe for concurrent use:
// give each worker its own, and Merge them. A copy shares its counts with the original.
type Histogram struct {
	counts   []int64 // by sub-bucket, in whole buckets
	count    int64   // all of them, with those that a file does not resolve
	sum, max time.Duration
}

// cell returns the index of the sub-bucket of d, which must not be negative.
func cell(d time.Duration) int {
	bucket := max(bits.Len64(uint64(d))-8, 0)
	return bucket*half + int(d>>bucket)
}

// edge returns the longest time in sub-bucket i.
func edge(i int) time.Duration {
	bucket := max(i/half-1, 0)
	return time.Duration(i-bucket*half+1)<<bucket - 1
}

// Record counts d. A negative d counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	*h.at(cell(d))++
	h.max = max(h.max, d)
	h.sum += d
	h.count++
}

// at returns the count of sub-bucket i.
func (h *Histogram) at(i int) *int64 {
	if i >= len(h.counts) {
		h.counts = append(h.counts, make([]int64, (i/half+1)*half-len(h.counts))...)
	}
	return &h.counts[i]
}

// Merge adds the counts of o to h, as if each time in o had been recorded in h.
func (h *Histogram) Merge(o *Histogram) {
	h.add(o, 1)
	h.max = max(h.max, o.max)
}

// Sub takes away what o, an earlier state of h, has counted. Max stays.
func (h *Histogram) Sub(o *Histogram) { h.add(o, -1) }

func (h *Histogram) add(o *Histogram, sign int64) {
	for i, n := range o.counts {
		*h.at(i) += sign * n
	}
	h.sum += time.Duration(sign) * o.sum
	h.count += sign * o.count
}

// Count returns the number of times recorded.
func (h *Histogram) Count() int64 { return h.count }

// Max returns the exact longest time recorded, or 0 if there is none.
func (h *Histogram) Max() time.Duration { return h.max }

// Mean returns the exact mean of the times recorded, or 0 if there is none.
func (h *Histogram) Mean() time.Duration { return mean(h.sum, h.count) }

// Quantile returns a time that a share q of the times recorded, from 0 to 1, did not
// exceed: the upper edge of the sub-bucket that holds the time of rank ⌈q × Count⌉, and
// never more than Max. It returns 0 if none was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	// One step below q: 0.07 × 100 is slightly above 7, and must not become rank 8.
	rank := max(int64(math.Ceil(math.Nextafter(q, 0)*float64(h.count))), 1)
	for i, n := range h.counts {
		if n >= rank {
			return min(edge(i), h.max)
		}
		rank -= n
	}
	return h.max
}

// Within returns how many of the times recorded did not exceed d. Those in the sub-bucket of
// d count too.
func (h *Histogram) Within(d time.Duration) (n int64) {
	for _, count := range h.counts[:min(cell(d)+1, len(h.counts))] {
		n += count
	}
	return n
}

// histogramJSON leaves out empty sub-buckets, and Count, which is the sum of the others
// and Overflow: in old files, times above a minute were counted there and not resolved.
type histogramJSON struct {
	Sum      time.Duration `json:"sum_ns"`
	Max      time.Duration `json:"max_ns"`
	Overflow uint64        `json:"overflow"`
	Buckets  [][2]uint64   `json:"buckets"` // upper edge in ns, count; ascending
}

// MarshalJSON writes the sub-buckets that are not empty. It has a value receiver, unlike
// the other methods, because encoding/json would write {} for a Histogram whose address
// it cannot take.
func (h Histogram) MarshalJSON() ([]byte, error) {
	j := histogramJSON{h.sum, h.max, uint64(h.count), [][2]uint64{}}
	for i, n := range h.counts {
		if j.Overflow -= uint64(n); n > 0 {
			j.Buckets = append(j.Buckets, [2]uint64{uint64(edge(i)), uint64(n)})
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON replaces h by what MarshalJSON wrote. It refuses an edge that is not the
// edge of a sub-bucket: the counts come from a histogram with another layout.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var j histogramJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*h = Histogram{count: int64(j.Overflow), sum: j.Sum, max: j.Max}
	for _, b := range j.Buckets {
		longest, n := time.Duration(b[0]), int64(b[1])
		if longest < 0 || edge(cell(longest)) != longest {
			return fmt.Errorf("histogram: %d ns is not the upper edge of a bucket", b[0])
		}
		*h.at(cell(longest)) += n
		h.count += n
	}
	return nil
}
