//go:build !windows

package metrics

import "time"

var origin = time.Now()

// Now is the time since the program started, from a clock that never goes back.
// Only the difference of two readings means anything. A reading costs about 55 ns.
func Now() time.Duration { return time.Since(origin) }
