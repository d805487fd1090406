package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Mutex is a sync.Mutex that counts how often it was taken, how often it was not free
// then, and how long callers waited for it. The zero Mutex is unlocked.
type Mutex struct {
	mu sync.Mutex

	// Written only by the holder of mu, so that Load and Store can replace the more
	// expensive Add; atomic, so that Counts can read them without the lock.
	acquired, contended, waited atomic.Int64
}

// Contention is what one Mutex counted, or several together.
type Contention struct {
	Acquired  int64         `json:"acquired"`  // how often the lock was taken
	Contended int64         `json:"contended"` // how often it was not free then
	Waited    time.Duration `json:"waited_ns"` // by all callers together
}

// A Step is what a goroutine does after a Yield.
type Step int

const (
	Locking   Step = iota // it takes a Mutex once that is free
	Unlocking             // it frees a Mutex
	Working               // it acts on what it has looked up
)

// Yield marks where a goroutine could lose the processor between two steps that matter:
// before it takes or frees a Mutex, and inside a table, between look-up and effect. It is
// called only in a program that is Interleaved. A scheduler takes its place, while no other
// goroutine runs, and decides which one continues.
var Yield = func(step Step, m *Mutex) {}

// Lock waits until the lock is free and takes it. It reads the clock only if it waits.
func (m *Mutex) Lock() {
	if Interleaved {
		Yield(Locking, m)
	}
	if m.mu.TryLock() {
		m.acquired.Store(m.acquired.Load() + 1)
		return
	}
	start := Now()
	m.mu.Lock()
	m.acquired.Store(m.acquired.Load() + 1)
	m.contended.Store(m.contended.Load() + 1)
	m.waited.Store(m.waited.Load() + int64(Now()-start))
}

// Unlock frees the lock. As with a sync.Mutex, it is a fatal error if m is not locked.
func (m *Mutex) Unlock() {
	if Interleaved {
		Yield(Unlocking, m)
	}
	m.mu.Unlock()
}

// Counts returns the counts up to now, without waiting for the lock. A caller that is
// still waiting is not counted yet. Contended is never above Acquired.
func (m *Mutex) Counts() Contention {
	// Lock counts Acquired first, so it is read last: calls are evaluated in their order.
	return Contention{Contended: m.contended.Load(), Waited: time.Duration(m.waited.Load()), Acquired: m.acquired.Load()}
}

// Mean returns the mean wait of the callers that had to wait, or 0 if none had to.
func (c Contention) Mean() time.Duration { return mean(c.Waited, c.Contended) }

// A Timer adds up how long something took, and counts how often. It is safe for
// concurrent use; the zero Timer is ready to use.
type Timer struct {
	count, total atomic.Int64
}

// Add counts one occurrence, which took d.
func (t *Timer) Add(d time.Duration) {
	t.count.Add(1)
	t.total.Add(int64(d))
}

// Load returns the sums up to now. An Add at the same time may be in one of the two
// figures and not yet in the other.
func (t *Timer) Load() Timing {
	return Timing{Count: t.count.Load(), Total: time.Duration(t.total.Load())}
}

// A Timing is what a Timer has added up.
type Timing struct {
	Count int64         `json:"count"`
	Total time.Duration `json:"total_ns"`
}

// Mean returns the mean time, or 0 if there is none.
func (t Timing) Mean() time.Duration { return mean(t.Total, t.Count) }

// sleepUntil sleeps again until the clock says that it is time: on Windows, a sleep can
// end early.
func sleepUntil(end time.Duration, now func() time.Duration, sleep func(time.Duration)) {
	for rest := end - now(); rest > 0; rest = end - now() {
		sleep(rest)
	}
}

func mean(total time.Duration, n int64) time.Duration {
	if n == 0 {
		return 0
	}
	return total / time.Duration(n)
}

// A Tally counts things of several kinds. A nil Tally has counted none.
type Tally map[string]int64

// Add adds what o has counted.
func (t *Tally) Add(o Tally) {
	if *t == nil && o != nil {
		*t = make(Tally)
	}
	for kind, n := range o {
		(*t)[kind] += n
	}
}

// Sum returns how many things were counted.
func (t Tally) Sum() (sum int64) {
	for _, n := range t {
		sum += n
	}
	return sum
}

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

// A LaneState is what the connection of a lane is doing.
type LaneState int

const (
	Idle     LaneState = iota // no request has arrived
	Queued                    // a request has arrived and waits for a worker
	Awaiting                  // it is decoded and waits for its locks
	InTable                   // it is executed under them
	Writing                   // its answer is encoded and written
	LaneStates
)

// A LaneMark says what a lane does from a moment on. Lanes are numbered as the connections
// of the server are.
type LaneMark struct {
	Lane  int64
	State LaneState
	At    time.Duration // since the recording began
}

const (
	// LaneTime is the length of a recording. It is preceded by as much time again, which shows
	// what each lane is doing when the recording begins.
	LaneTime = 16 * time.Millisecond

	maxMarks = 2000 // of a recording: they fit a control message
)

// Lanes records, on demand, what each connection of a server is doing. While nobody asks,
// a mark costs an atomic load. The zero Lanes is ready to use.
type Lanes struct {
	asking sync.Mutex // held while recording: one at a time
	now    atomic.Pointer[Recording]
}

// A Recording takes marks. Mark and Begin do nothing to a nil *Recording.
type Recording struct {
	began time.Duration
	lanes sync.Map // int64, by request: the address of its first operation

	mu    sync.Mutex          // guards what follows
	first map[int64]LaneState // what each lane is doing when it begins
	marks []LaneMark
}

// Record returns what each lane is doing when the recording begins, as marks at 0 in the order
// of the lanes, and then the marks made during LaneTime, in order; at most 2000 in all.
func (l *Lanes) Record() []LaneMark {
	l.asking.Lock()
	defer l.asking.Unlock()
	r := &Recording{began: Now() + LaneTime, first: make(map[int64]LaneState)}
	l.now.Store(r)
	Sleep(2 * LaneTime)
	l.now.Store(nil)
	r.mu.Lock() // late marks may still come
	defer r.mu.Unlock()
	var marks []LaneMark
	for _, lane := range slices.Sorted(maps.Keys(r.first)) {
		marks = append(marks, LaneMark{Lane: lane, State: r.first[lane]})
	}
	marks = append(marks, r.marks...)
	return marks[:min(len(marks), maxMarks)]
}

// Recording returns the recording in progress, or nil.
func (l *Lanes) Recording() *Recording { return l.now.Load() }

// Mark notes what a lane does from now on.
func (r *Recording) Mark(lane int64, state LaneState) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch at := Now() - r.began; {
	case at <= 0:
		r.first[lane] = state
	case at <= LaneTime && len(r.marks) < maxMarks:
		r.marks = append(r.marks, LaneMark{lane, state, at})
	}
}

// Begin notes that a lane's request is decoded. Until its next Begin, request stands for it.
func (r *Recording) Begin(lane int64, request any) {
	if r != nil {
		r.lanes.Store(request, lane)
		r.Mark(lane, Awaiting)
	}
}

// MarkRequest is Mark for the lane of a request that has begun.
func (r *Recording) MarkRequest(request any, state LaneState) {
	if lane, ok := r.lanes.Load(request); ok {
		r.Mark(lane.(int64), state)
	}
}

// MarshalJSON writes a mark as [lane, state, nanoseconds], so that 2000 fit a message.
func (m LaneMark) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]any{m.Lane, m.State, m.At})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *LaneMark) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[3]any{&m.Lane, &m.State, &m.At})
}
