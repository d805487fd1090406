//go:build linux || darwin

package node

import (
	"math"
	"syscall"
)

// maxFiles returns how many descriptors the process may have open. The Go runtime has
// raised the soft limit to the hard one.
func maxFiles() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxInt
	}
	return int(min(limit.Cur, math.MaxInt))
}
