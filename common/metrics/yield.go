//go:build !interleave

package metrics

// Interleaved reports whether this program is built with the tag interleave. Its tests then
// run the steps of several goroutines in every order.
const Interleaved = false
