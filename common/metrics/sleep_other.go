//go:build !linux

package metrics

import "time"

// Sleep sleeps for d or more. Except on Linux, time.Sleep is as exact as the system is.
func Sleep(d time.Duration) { sleepUntil(Now()+d, Now, time.Sleep) }
