//go:build !linux && !darwin && !windows

package metrics

import "time"

// usage returns the CPU time of the process and the peak of its memory in bytes,
// neither of which is known on this system.
func usage() (cpu time.Duration, peak int64) { return 0, 0 }
