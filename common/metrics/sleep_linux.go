package metrics

import (
	"syscall"
	"time"
)

// Sleep sleeps for d and about 0.1 ms more, and never for less. time.Sleep alone turns
// 50 µs into more than a millisecond, because an idle runtime on Linux waits in whole
// milliseconds (golang/go#53824). So time.Sleep sleeps the whole milliseconds, and the
// system call, which blocks a thread, sleeps the rest.
func Sleep(d time.Duration) {
	end := Now() + d
	sleepUntil(end-d%time.Millisecond, Now, time.Sleep)
	sleepUntil(end, Now, func(rest time.Duration) {
		ts := syscall.NsecToTimespec(int64(rest))
		syscall.Nanosleep(&ts, nil) // ends early when the runtime sends a signal
	})
}
