package metrics

import (
	"runtime"
	"testing"
	"testing/fstest"
	"time"
)

func TestCores(t *testing.T) {
	all := float64(min(runtime.NumCPU(), runtime.GOMAXPROCS(0)))
	for name, test := range map[string]struct {
		group string
		max   map[string]string // by directory below the root of the groups
		want  float64
	}{
		"no groups":         {"", nil, all},
		"no quota":          {"1:cpu:/\n0::/a\n", map[string]string{"a/": "max 100000\n"}, all},
		"a fifth":           {"0::/a/b\n", map[string]string{"a/b/": "20000 100000\n"}, 0.2},
		"the parent's":      {"0::/a/b\n", map[string]string{"a/": "5000 10000\n", "a/b/": "max 100000\n"}, 0.5},
		"in a container":    {"0::/\n", map[string]string{"": "25000 100000\n"}, 0.25},
		"another namespace": {"0::/../../x\n", map[string]string{"": "25000 100000\n"}, all},
		"more than all":     {"0::/\n", map[string]string{"": "99900000 100000\n"}, all},
	} {
		system := fstest.MapFS{"proc/self/cgroup": {Data: []byte(test.group)}}
		for dir, limit := range test.max {
			system["sys/fs/cgroup/"+dir+"cpu.max"] = &fstest.MapFile{Data: []byte(limit)}
		}
		if got := cores(system); got != test.want {
			t.Errorf("%s: %v cores, want %v", name, got, test.want)
		}
	}
	if got := Cores(); got <= 0 || got > all {
		t.Errorf("this process may use %v cores, want at most %v", got, all)
	}
}

func TestFiguresOfLinux(t *testing.T) {
	system := fstest.MapFS{
		"proc/stat":         {Data: []byte("cpu  150 20 1000 9999999 6795 0 108320 0 0 0\ncpu0 130 10 70 0 0 0 0 0 0 0\n")},
		"proc/net/sockstat": {Data: []byte("sockets: used 15\nTCP: inuse 1 orphan 0 tw 26402 alloc 1 mem 89\nUDP: inuse 0 mem 0\n")},
	}
	if cpu, wait := machineCPU(system), timeWait(system); cpu != 11700*time.Millisecond || wait != 26402 {
		t.Errorf("%v of CPU time, %d sockets in TIME_WAIT, want 11.7 s, 26402", cpu, wait)
	}
	for name, other := range map[string]fstest.MapFS{
		"no files":  {},
		"no labels": {"proc/stat": {Data: []byte("150 20 1000\n")}, "proc/net/sockstat": {}},
	} {
		if cpu, wait := machineCPU(other), timeWait(other); cpu != 0 || wait != 0 {
			t.Errorf("%s: %v, %d, want 0, which means that it is not known", name, cpu, wait)
		}
	}
}
