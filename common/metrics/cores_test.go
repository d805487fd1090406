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

func TestTimeWait(t *testing.T) {
	const stat = "sockets: used 15\nTCP: inuse 1 orphan 0 tw 26402 alloc 1 mem 89\nUDP: inuse 0 mem 0\n"
	for content, want := range map[string]int64{stat: 26402, "": 0, "no such line": 0} {
		if got := timeWait(fstest.MapFS{"proc/net/sockstat": {Data: []byte(content)}}); got != want {
			t.Errorf("%q: %d, want %d", content, got, want)
		}
	}
}

func TestMachineCPU(t *testing.T) {
	stat := "cpu  150 20 1000 9999999 6795 0 108320 0 0 0\ncpu0 130 10 70 0 0 0 0 0 0 0\n"
	for content, want := range map[string]time.Duration{stat: 11700 * time.Millisecond, "": 0, "no such line": 0} {
		if got := machineCPU(fstest.MapFS{"proc/stat": {Data: []byte(content)}}); got != want {
			t.Errorf("%q: %v, want %v", content, got, want)
		}
	}
	if got := machineCPU(fstest.MapFS{}); got != 0 {
		t.Errorf("without a file: %v", got)
	}
}
