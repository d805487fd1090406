//go:build !linux

package main

import "time"

// sleep pauses for at least d: on Windows by up to about 0.5 ms too long.
func sleep(d time.Duration) { time.Sleep(d) }
