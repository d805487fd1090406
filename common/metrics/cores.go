package metrics

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"time"
)

// Cores returns how many cores this process may keep busy. That is not GOMAXPROCS where a
// control group of Linux has a quota: a container may have a fifth of a core.
func Cores() float64 { return cores(os.DirFS("/")) }

// MachineCPU returns the CPU time that all programs of this machine have used since it
// started, to 10 ms a core; 0 if it is not known. The time in which the kernel handles
// interrupts, which belong to no program, is left out.
func MachineCPU() time.Duration { return machineCPU(os.DirFS("/")) }

func machineCPU(root fs.FS) time.Duration {
	stat, _ := fs.ReadFile(root, "proc/stat") // Linux has it
	var user, nice, system time.Duration      // in hundredths of a second
	fmt.Sscanf(string(stat), "cpu %d %d %d", &user, &nice, &system)
	return (user + nice + system) * time.Second / 100
}

// TimeWait returns how many TCP sockets of this network namespace are in TIME_WAIT; 0 if that
// is not known.
func TimeWait() int64 { return timeWait(os.DirFS("/")) }

func timeWait(root fs.FS) (n int64) {
	stat, _ := fs.ReadFile(root, "proc/net/sockstat") // Linux has it
	_, after, _ := strings.Cut(string(stat), " tw ")
	fmt.Sscan(after, &n)
	return n
}

const groups = "sys/fs/cgroup" // the root of the control groups, version 2

func cores(root fs.FS) float64 {
	n := float64(min(runtime.NumCPU(), runtime.GOMAXPROCS(0)))
	own, _ := fs.ReadFile(root, "proc/self/cgroup")
	_, group, _ := strings.Cut("\n"+string(own), "\n0::")
	group, _, _ = strings.Cut(group, "\n")
	for dir := path.Join(groups, group); strings.HasPrefix(dir, groups); dir = path.Dir(dir) {
		limit, _ := fs.ReadFile(root, path.Join(dir, "cpu.max")) // "QUOTA PERIOD", or "max PERIOD"
		var quota, period float64
		if fmt.Sscan(string(limit), &quota, &period); period > 0 {
			n = min(n, quota/period)
		}
	}
	return n
}
