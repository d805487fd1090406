//go:build !interleave

package metrics

// Yield marks where a goroutine could lose the processor between two steps that matter:
// before it takes or frees a Mutex, and inside a table, between look-up and effect.
// It does nothing unless the program is built with the tag interleave, with which the
// tests run these steps in every order.
func Yield(step Step, m *Mutex) {}
