package table

import (
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// working returns what does the work of one operation.
func working(work cluster.Work) func() {
	switch {
	case work.Time <= 0:
		return func() { metrics.Yield(metrics.Working, nil) }
	case work.Spin:
		return func() { spin(work.Time) }
	default:
		return func() { metrics.Sleep(work.Time) }
	}
}

// spin computes for d. Two readings of the clock that lie far apart say that somebody
// else had the processor in between, and that time does not count: four goroutines
// that compute for 20 ms on one processor take 80 ms together.
func spin(d time.Duration) {
	last := metrics.Now()
	for d > 0 {
		now := metrics.Now()
		d -= min(now-last, 10*time.Microsecond)
		last = now
	}
}
