//go:build unix

package metrics

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

var origin = time.Now()

// Now returns the time since the program started, from a clock that never goes back.
// Only the difference between two readings has a meaning. A reading costs about 55 ns.
func Now() time.Duration { return time.Since(origin) }

func usage() (u syscall.Rusage) {
	syscall.Getrusage(syscall.RUSAGE_SELF, &u) // if it fails, u stays 0
	return u
}

// CPU returns the CPU time of the process, user and system; 0 if it is not known.
func CPU() time.Duration {
	u := usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMemory returns the peak resident memory of the process in bytes; 0 if it is not known.
func peakMemory() (peak int64) {
	if runtime.GOOS == "darwin" {
		return int64(usage().Maxrss) // in bytes there
	}
	// Elsewhere only Linux tells. There a process inherits Maxrss from its parent across exec: a server started
	// by bench would show the peak of bench. VmHWM, in KiB, is the server's own.
	scan(os.DirFS("/"), "proc/self/status", "VmHWM:", &peak)
	return peak << 10
}
