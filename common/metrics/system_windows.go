package metrics

import (
	"syscall"
	"time"
	"unsafe"
)

// The clock of package time moves in steps of half a millisecond or more on
// Windows (golang/go#67066), longer than most requests take. The
// performance counter moves in steps of 100 ns.
var (
	queryCounter   = syscall.NewLazyDLL("kernel32.dll").NewProc("QueryPerformanceCounter")
	queryFrequency = syscall.NewLazyDLL("kernel32.dll").NewProc("QueryPerformanceFrequency")

	frequency = ask(queryFrequency) // ticks a second; fixed when Windows starts
	origin    = ask(queryCounter)
)

// Now returns the time since the program started, from a clock that never goes back.
// Only the difference between two readings has a meaning.
func Now() time.Duration {
	ticks := ask(queryCounter) - origin
	// Whole seconds and the rest separately: ticks*1e9 would overflow within minutes.
	return time.Duration(ticks/frequency)*time.Second +
		time.Duration(ticks%frequency)*time.Second/time.Duration(frequency)
}

func ask(proc *syscall.LazyProc) (value int64) {
	// According to its documentation, neither call fails on Windows XP and later.
	proc.Call(uintptr(unsafe.Pointer(&value)))
	return value
}

// CPU returns the CPU time of the process, user and system; 0 if it is not known.
func CPU() (cpu time.Duration) {
	self, _ := syscall.GetCurrentProcess() // a constant
	var created, exited, kernel, user syscall.Filetime
	syscall.GetProcessTimes(self, &created, &exited, &kernel, &user) // if it fails, they stay 0
	// Not Filetime.Nanoseconds, which takes a Filetime for a date.
	for _, t := range []syscall.Filetime{kernel, user} {
		cpu += 100 * time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime))
	}
	return cpu
}

// peakMemory returns 0: package syscall does not have the call for it.
func peakMemory() int64 { return 0 }
