package table

import (
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// working returns a function that does the work of one operation.
func working(work cluster.Work) func() {
	switch {
	case work.Time <= 0 && metrics.Interleaved:
		return func() { metrics.Yield(metrics.Working, nil) }
	case work.Time <= 0:
		return func() {}
	case work.Spin:
		return func() { spin(work.Time) }
	default:
		return func() { metrics.Sleep(work.Time) }
	}
}

// spin computes for d. If two readings of the clock are far apart, another thread had the
// processor in between; that time does not count. So four goroutines that compute for
// 20 ms each on one processor take 80 ms together.
func spin(d time.Duration) {
	last := metrics.Now()
	for d > 0 {
		now := metrics.Now()
		d -= min(now-last, 10*time.Microsecond)
		last = now
	}
}
