//go:build !linux

package table

import "time"

// nap sleeps for d. Elsewhere than on Linux time.Sleep is as exact as the system is.
func nap(d time.Duration) { time.Sleep(d) }
