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
	var user, nice, system time.Duration // in hundredths of a second
	scan(root, "proc/stat", "cpu ", &user, &nice, &system)
	return (user + nice + system) * time.Second / 100
}

// TimeWait returns how many TCP sockets of this network namespace are in TIME_WAIT; 0 if that
// is not known.
func TimeWait() int64 { return timeWait(os.DirFS("/")) }

func timeWait(root fs.FS) (n int64) {
	scan(root, "proc/net/sockstat", " tw ", &n)
	return n
}

// scan reads the words after a label in a file of Linux. Elsewhere it leaves the values as they are.
func scan(root fs.FS, file, label string, values ...any) {
	content, _ := fs.ReadFile(root, file)
	_, after, _ := strings.Cut(string(content), label)
	fmt.Sscan(after, values...)
}

const groups = "sys/fs/cgroup" // the root of the control groups, version 2

func cores(root fs.FS) float64 {
	n := float64(min(runtime.NumCPU(), runtime.GOMAXPROCS(0)))
	var group string
	scan(root, "proc/self/cgroup", "0::", &group)
	for dir := path.Join(groups, group); strings.HasPrefix(dir, groups); dir = path.Dir(dir) {
		var quota, period float64
		if scan(root, path.Join(dir, "cpu.max"), "", &quota, &period); period > 0 { // not "max PERIOD"
			n = min(n, quota/period)
		}
	}
	return n
}
