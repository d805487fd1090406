//go:build linux || darwin

package node

import "syscall"

// maxFiles returns how many descriptors the process may have open. The Go runtime has
// raised the soft limit to the hard one.
func maxFiles() uint64 {
	limit := syscall.Rlimit{Cur: 1 << 32}
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) // which leaves it as it is on an error
	return limit.Cur
}
