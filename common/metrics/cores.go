package metrics

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
)

// Cores returns how many cores this process may keep busy. That is not GOMAXPROCS where a
// control group of Linux has a quota: a container may have a fifth of a core.
func Cores() float64 { return cores(os.DirFS("/")) }

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
