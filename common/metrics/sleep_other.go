//go:build !linux

package metrics

import "time"

// Sleep sleeps for d. Except on Linux, time.Sleep is as exact as the system is.
func Sleep(d time.Duration) { time.Sleep(d) }
