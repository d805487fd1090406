//go:build !linux && !darwin

package node

// maxFiles returns how many descriptors the process may have open, as far as is known.
func maxFiles() uint64 { return 1 << 32 }
