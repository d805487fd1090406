//go:build interleave

package metrics

const Interleaved = true
