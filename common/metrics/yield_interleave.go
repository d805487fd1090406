//go:build interleave

package metrics

// Schedule decides which goroutine goes on. It is set while nothing else runs, and
// called by Yield; nil decides nothing.
var Schedule func(step Step, m *Mutex)

// Yield tells Schedule that the next step of this goroutine is about to come.
func Yield(step Step, m *Mutex) {
	if Schedule != nil {
		Schedule(step, m)
	}
}
