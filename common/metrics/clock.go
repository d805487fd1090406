//go:build !windows

package metrics

import "time"

var origin = time.Now()

// Now returns the time since the program started, from a clock that never goes back.
// Only the difference between two readings has a meaning. A reading costs about 55 ns.
func Now() time.Duration { return time.Since(origin) }
