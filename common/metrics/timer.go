package metrics

import (
	"sync/atomic"
	"time"
)

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

func (t Timing) sub(o Timing) Timing { return Timing{t.Count - o.Count, t.Total - o.Total} }

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
