package metrics

import (
	"syscall"
	"time"
)

// usage returns the CPU time of the process, user and system. Its peak memory is not
// known: package syscall does not have the call for it.
func usage() (cpu time.Duration, peak int64) {
	self, _ := syscall.GetCurrentProcess() // a constant
	var created, exited, kernel, user syscall.Filetime
	syscall.GetProcessTimes(self, &created, &exited, &kernel, &user) // if it fails, they stay 0
	// Not Filetime.Nanoseconds, which takes a Filetime for a date.
	for _, t := range []syscall.Filetime{kernel, user} {
		cpu += 100 * time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime))
	}
	return cpu, 0
}
