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
	kernel32       = syscall.NewLazyDLL("kernel32.dll")
	queryCounter   = kernel32.NewProc("QueryPerformanceCounter")
	queryFrequency = kernel32.NewProc("QueryPerformanceFrequency")

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
