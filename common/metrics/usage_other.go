//go:build !linux && !darwin && !windows

package metrics

import "time"

// usage would return the CPU time and the peak memory of the process, which are not
// known on this system.
func usage() (cpu time.Duration, peak int64) { return 0, 0 }
