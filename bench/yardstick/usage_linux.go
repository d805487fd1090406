package yardstick

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usageOf returns the CPU time and the peak memory, in bytes, of the processes in the group of
// the process id, not counting that process itself if it is only a keeper.
func usageOf(id int, keeper bool) (cpu time.Duration, peak int64) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range procs {
		used, group := processCPU(dir)
		if group == id && !(keeper && filepath.Base(dir) == strconv.Itoa(id)) {
			cpu += used
			peak += processPeak(dir)
		}
	}
	return cpu, peak
}

// processCPU returns the CPU time of a process, user and system, and its group, or zeros if
// it is gone.
func processCPU(dir string) (cpu time.Duration, group int) {
	const tick = 10 * time.Millisecond // USER_HZ, the same on all processors that Go supports
	stat, _ := os.ReadFile(dir + "/stat")
	stat = stat[bytes.LastIndexByte(stat, ')')+1:] // after the name, which may contain anything
	var user, system int
	var skip string
	fmt.Sscan(string(stat), &skip, &skip, &group, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system)
	return time.Duration(user+system) * tick, group
}

// processPeak returns the peak of a process's resident memory, in bytes.
func processPeak(dir string) (peak int64) {
	status, _ := os.ReadFile(dir + "/status")
	_, hwm, _ := strings.Cut(string(status), "VmHWM:") // in KiB
	fmt.Sscan(hwm, &peak)
	return peak << 10
}
