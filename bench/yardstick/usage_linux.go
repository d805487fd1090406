package yardstick

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// cpuOf returns the CPU time, user and system, that the processes of a group have used.
func cpuOf(group int) (cpu time.Duration) {
	const tick = 10 * time.Millisecond // USER_HZ, the same on all processors that Go supports
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		stat, _ := os.ReadFile(process + "/stat")      // nothing of a process that is gone
		stat = stat[bytes.LastIndexByte(stat, ')')+1:] // after the name, which may contain anything
		var its, user, system int
		var skip string
		fmt.Sscan(string(stat), &skip, &skip, &its, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system)
		if its == group {
			cpu += time.Duration(user+system) * tick
		}
	}
	return cpu
}
