package main

import (
	"syscall"
	"time"
)

// sleep pauses for at least d, by about 0.1 ms too long, unless a signal cuts it
// short. time.Sleep rounds up to the next millisecond or two when the process is idle
// (golang/go#53824).
func sleep(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&ts, nil)
}
