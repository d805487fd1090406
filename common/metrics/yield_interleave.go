//go:build interleave

package metrics

const Interleaved = true

// Schedule decides which goroutine continues. Yield calls it, unless it is nil. It must
// be set while no other goroutine runs.
var Schedule func(step Step, m *Mutex)

// Yield tells Schedule which step this goroutine takes next.
func Yield(step Step, m *Mutex) {
	if Schedule != nil {
		Schedule(step, m)
	}
}
