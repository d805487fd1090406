package metrics

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Longest is the longest time that a Histogram tells apart. Whatever took longer
// is counted, and is part of Max and Mean.
const Longest = 60 * time.Second

// The layout is that of Gil Tene's HdrHistogram with two significant digits.
// Bucket 0 has 256 sub-buckets of 1 ns; each bucket after it covers twice the
// range of the one before, and only its upper half, 128 sub-buckets, is new. So a
// sub-bucket is at most 1/128 = 0.8 % as wide as the values in it are large.
const (
	half  = 128
	cells = 28*half + int(Longest>>28) + 1 // Longest lies in bucket 28; 29.75 KiB
)

// A Histogram counts times from 1 ns to 60 s and answers with quantiles that are
// at most 0.8 % too long. The zero Histogram is empty and ready. It is not safe for
// concurrent use: give each worker its own, and Merge them.
type Histogram struct {
	counts        [cells]uint64
	overflow      uint64 // longer than Longest
	count         uint64 // all of them, overflow included
	sum, min, max time.Duration
}

// cell finds the sub-bucket of d, which is not negative.
func cell(d time.Duration) int {
	bucket := max(bits.Len64(uint64(d))-8, 0)
	return bucket*half + int(d>>bucket)
}

// edge is the longest time that falls into sub-bucket i.
func edge(i int) time.Duration {
	bucket := max(i/half-1, 0)
	return time.Duration(i-bucket*half+1)<<bucket - 1
}

// Record counts d. A negative d counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	if d > Longest {
		h.overflow++
	} else {
		h.counts[cell(d)]++
	}
	if h.count == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.sum += d
	h.count++
}

// Merge adds what o has counted, as if each of its times had been recorded in h.
func (h *Histogram) Merge(o *Histogram) {
	if o.count == 0 {
		return
	}
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.overflow += o.overflow
	if h.count == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.sum += o.sum
	h.count += o.count
}

// Count is the number of times recorded, those longer than 60 s included.
func (h *Histogram) Count() int64 { return int64(h.count) }

// Overflow is the number of times recorded that were longer than 60 s.
func (h *Histogram) Overflow() int64 { return int64(h.overflow) }

// Max is the longest time recorded, exactly; 0 if there is none.
func (h *Histogram) Max() time.Duration { return h.max }

// Min is the shortest time recorded, exactly; 0 if there is none.
func (h *Histogram) Min() time.Duration { return h.min }

// Mean is the mean of the times recorded, exactly; 0 if there is none.
func (h *Histogram) Mean() time.Duration { return mean(h.sum, int64(h.count)) }

// Quantile returns a time that the share q, from 0 to 1, of the times recorded
// did not exceed: the upper edge of the sub-bucket that holds the one of rank
// ⌈q × Count⌉, and never more than Max. If that one is longer than 60 s, the answer
// is Max; if none was recorded, 0.
func (h *Histogram) Quantile(q float64) time.Duration {
	// One step below q: 0.07 × 100 comes out above 7, and must not mean rank 8.
	below := max(math.Nextafter(q, 0), 0)
	rank := max(uint64(math.Ceil(below*float64(h.count))), 1)
	for i, n := range h.counts {
		if n >= rank {
			return min(edge(i), h.max)
		}
		rank -= n
	}
	return h.max
}

// histogramJSON leaves out the sub-buckets in which nothing was counted, and Count,
// which is the sum of the others and Overflow.
type histogramJSON struct {
	Sum      time.Duration `json:"sum_ns"`
	Min      time.Duration `json:"min_ns"`
	Max      time.Duration `json:"max_ns"`
	Overflow uint64        `json:"overflow"`
	Buckets  [][2]uint64   `json:"buckets"` // upper edge in ns, count; ascending
}

// MarshalJSON writes only the sub-buckets in which something was counted. It takes a
// copy, unlike the other methods, because encoding/json would write {} for a
// Histogram that it cannot take the address of.
func (h Histogram) MarshalJSON() ([]byte, error) {
	j := histogramJSON{h.sum, h.min, h.max, h.overflow, [][2]uint64{}}
	for i, n := range h.counts {
		if n > 0 {
			j.Buckets = append(j.Buckets, [2]uint64{uint64(edge(i)), n})
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON replaces h by what MarshalJSON wrote. It refuses an edge that no
// sub-bucket has: the counts came from a histogram of another layout.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var j histogramJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*h = Histogram{overflow: j.Overflow, count: j.Overflow, sum: j.Sum, min: j.Min, max: j.Max}
	for _, b := range j.Buckets {
		// Compared first: cell wants no time that is negative as an int64.
		if b[0] > uint64(edge(cells-1)) || edge(cell(time.Duration(b[0]))) != time.Duration(b[0]) {
			return fmt.Errorf("histogram: %d ns is the upper edge of no bucket", b[0])
		}
		h.counts[cell(time.Duration(b[0]))] += b[1]
		h.count += b[1]
	}
	return nil
}
