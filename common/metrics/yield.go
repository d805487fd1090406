//go:build !interleave

package metrics

// Interleaved reports whether this program is built with the tag interleave. Its tests then
// run the steps of several goroutines in every order.
const Interleaved = false

// Yield marks where a goroutine could lose the processor between two steps that matter:
// before it takes or frees a Mutex, and inside a table, between look-up and effect. It is
// called only in a program that is Interleaved.
func Yield(step Step, m *Mutex) {}
