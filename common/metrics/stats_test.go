package metrics

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"
)

func TestTimer(t *testing.T) {
	var timer Timer
	if got := timer.Load().Mean(); got != 0 {
		t.Errorf("mean of nothing = %v, want 0", got)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for d := range time.Duration(1000) {
				timer.Add(d)
			}
		})
	}
	wg.Wait()
	if got, want := timer.Load(), (Timing{Count: 8000, Total: 8 * 999 * 1000 / 2}); got != want || got.Mean() != 499 {
		t.Errorf("got %+v, mean %d, want %+v, 499", got, got.Mean(), want)
	}
}

// Sleeps that end early, and one that ends at once.
func TestSleepUntil(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 2300 * time.Microsecond} {
		at, slept := time.Second, 0
		sleepUntil(at+d, func() time.Duration { return at }, func(rest time.Duration) {
			if slept++; slept != 2 {
				at += (rest + 2) * 2 / 3
			}
		})
		if took := at - time.Second; took < d || took > d+1 {
			t.Errorf("%v slept %v, in %d sleeps", d, took, slept)
		}
	}
}

func TestSnapshot(t *testing.T) {
	var s Stats
	locks := make([]Mutex, 8)
	for i := range locks {
		s.Watch(&locks[i])
		locks[i].acquired.Store(100)
		locks[i].contended.Store(int64(i))
		locks[i].waited.Store(int64(i))
	}
	locks[6].Lock() // held: Snapshot must not wait for it
	defer locks[6].Unlock()

	s.Serving.Store(true)
	for i, c := range []interface{ Store(int64) }{&s.Connections, &s.Open, &s.Requests, &s.Ops, &s.Refusals, &s.Keys} {
		c.Store(int64(i + 1))
	}
	s.QueueWait.Add(7)
	s.Table.Add(8)
	s.MemoryWait.Add(9)
	s.Suspended.Add(10)
	var wg sync.WaitGroup
	for _, kind := range []string{"decode", "panic", "decode", "decode"} {
		wg.Go(func() { s.Error(kind) })
	}
	wg.Wait()

	before := Now()
	got := s.Snapshot()
	if s := (&Stats{Ballast: 1 << 40}).Snapshot(); s.Heap > 0 {
		t.Errorf("heap %d of a process with a ballast that is larger, want it left out", s.Heap)
	}
	if got.Uptime < before || got.Uptime > Now() || got.Goroutines < 1 || got.Heap < 1000 || got.Heap > 1<<30 {
		t.Errorf("uptime %v after %v, %d goroutines, heap %d", got.Uptime, before, got.Goroutines, got.Heap)
	}
	want := Snapshot{
		Incarnation: got.Incarnation, Serving: true, Connections: 1, Open: 2, Requests: 3, Ops: 4, Refusals: 5, Keys: 6, Panics: 1,
		Errors:    map[string]int64{"decode": 3, "panic": 1},
		QueueWait: Timing{1, 7}, Table: Timing{1, 8}, MemoryWait: Timing{1, 9}, Suspended: Timing{1, 10},
		Watched: 8, Locks: Contention{801, 28, 28}, Hot: Contention{101, 7, 7},
		Uptime: got.Uptime, Goroutines: got.Goroutines, Heap: got.Heap, PeakMemory: got.PeakMemory, CPU: got.CPU,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if again, other := s.Snapshot().Incarnation, new(Stats).Snapshot().Incarnation; got.Incarnation == 0 || again != got.Incarnation || other == again {
		t.Errorf("incarnation %d, then %d, and %d of other Stats, want the same, and another", got.Incarnation, again, other)
	}
	s.Error("panic")
	if n := got.Errors["panic"]; n != 1 {
		t.Errorf("an error after the snapshot is in it: panic %d, want 1", n)
	}
}

// A program that computes and uses memory sees both.
func TestUsage(t *testing.T) {
	switch status, _ := os.ReadFile("/proc/self/status"); {
	case runtime.GOOS == "linux" && !strings.Contains(string(status), "VmHWM:"):
		t.Skip("this system does not report peak memory")
	case runtime.GOOS != "linux" && runtime.GOOS != "darwin":
		t.Skip("this system reports CPU time at most")
	}
	before := peakMemory()
	used := bytes.Repeat([]byte{1}, 4<<20)
	if after := peakMemory(); after < 4<<20 || after < before || after > 64<<30 {
		t.Errorf("peak memory %d, then, with 4 MiB more in use, %d", before, after)
	}
	for start, cpu := Now(), CPU(); CPU() < cpu+20*time.Millisecond; {
		bytes.Count(used, []byte{2})
		if Now()-start > 10*time.Second {
			t.Fatalf("10 s of computing took %v of CPU", CPU()-cpu)
		}
	}
}

func TestSub(t *testing.T) {
	earlier := Snapshot{
		Incarnation: 7, Uptime: 1, Connections: 1, Open: 1, Requests: 1, Ops: 1, Refusals: 1, Panics: 1, Keys: 1,
		Errors:    map[string]int64{"decode": 3, "idle": 1},
		QueueWait: Timing{1, 1}, MemoryWait: Timing{1, 1}, Table: Timing{1, 1}, Turn: Timing{1, 1}, Suspended: Timing{1, 1}, Watched: 1,
		Locks: Contention{1, 1, 1}, Hot: Contention{1, 1, 1}, Goroutines: 1, Heap: 1, PeakMemory: 1, CPU: 1,
	}
	later := Snapshot{
		Incarnation: 7, Serving: true, Uptime: 11, Connections: 12, Open: 13, Requests: 14, Ops: 15, Refusals: 16, Panics: 17, Keys: 18,
		Errors:    map[string]int64{"decode": 5, "idle": 1, "frame": 2},
		QueueWait: Timing{18, 19}, MemoryWait: Timing{38, 39}, Table: Timing{20, 21}, Turn: Timing{33, 35}, Suspended: Timing{36, 37}, Watched: 22,
		Locks: Contention{23, 24, 25}, Hot: Contention{4, 5, 6}, Goroutines: 29, Heap: 30, PeakMemory: 31, CPU: 32,
	}
	want := later // Serving, Open, Keys, Watched, Goroutines, Heap and PeakMemory stay
	want.Uptime, want.Connections, want.Requests, want.Ops, want.Refusals, want.Panics, want.CPU = 10, 11, 13, 14, 15, 16, 31
	want.Errors = map[string]int64{"decode": 2, "frame": 2}
	want.QueueWait, want.MemoryWait, want.Table = Timing{17, 18}, Timing{37, 38}, Timing{19, 20}
	want.Turn, want.Suspended, want.Locks, want.Hot = Timing{32, 34}, Timing{35, 36}, Contention{22, 23, 24}, Contention{3, 4, 5}
	if got := later.Sub(earlier); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if later.Errors["decode"] != 5 || earlier.Errors["decode"] != 3 {
		t.Error("Sub changed its operands")
	}
	earlier.Incarnation = 8 // of two starts, nothing is subtracted
	if got := later.Sub(earlier); !reflect.DeepEqual(got, later) {
		t.Errorf("after a restart: got %+v, want %+v", got, later)
	}
}

// One lock of a thousand that is always held is not hidden by the others.
func TestHeld(t *testing.T) {
	s := Snapshot{Uptime: time.Second, Watched: 1000, Table: Timing{10, 10 * time.Millisecond}, Locks: Contention{Acquired: 1000}}
	for want, most := range map[float64]int64{0.001: 0, 0.8: 800, 1: 2000} {
		if s.Hot.Acquired = most; s.Held() != want {
			t.Errorf("held %v, want %v", s.Held(), want)
		}
	}
}

func TestWidth(t *testing.T) {
	const most = 999_949_999
	wait := Timing{1000, 99900 * time.Millisecond}
	for name, s := range map[string]Snapshot{
		"nothing": {},
		"much": {
			Uptime: 9999 * time.Hour, Connections: most, Open: 999_999, Requests: most, Ops: most, Refusals: most, Panics: 999_999,
			Errors: map[string]int64{"a": most / 2, "b": most / 2}, QueueWait: wait, MemoryWait: wait, Table: wait, Suspended: wait,
			Locks:      Contention{most, most, wait.Total},
			Goroutines: 999_999, Heap: 99999 << 20, PeakMemory: 99999 << 20, CPU: 9999 * time.Hour,
		},
		"much in a second": {Uptime: time.Second, Requests: most, Ops: most, CPU: 1},
	} {
		for line := range strings.Lines(s.Detail()) {
			if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 80 || strings.Contains(line, "NaN") {
				t.Errorf("%s: %d columns, want at most 80\n%s", name, n, line)
			}
		}
	}
}

func ExampleSnapshot_Detail() {
	s := Snapshot{
		Serving: true, Uptime: 4200 * time.Millisecond, Connections: 8, Requests: 12345, Ops: 1234567,
		Errors:    map[string]int64{"slow": 2, "malformed": 1},
		QueueWait: Timing{12345, 150 * time.Millisecond},
		Turn:      Timing{12345, 14 * time.Second},
		Table:     Timing{192, 211 * time.Millisecond},
		Suspended: Timing{1, 5 * time.Second}, MemoryWait: Timing{2, 20 * time.Millisecond},
		Watched: 32,
		Locks:   Contention{12345, 123, 5600 * time.Microsecond},
		Hot:     Contention{140, 31, 1400 * time.Microsecond},
		CPU:     1230 * time.Millisecond, Goroutines: 12, Heap: 4 << 20, PeakMemory: 20 << 20,
	}
	fmt.Println(s.Detail()) // and s alone prints the first six lines
	// Output:
	// requests    12 345 in 4.20s (2 939/s); operations 1.23 M; refused 0
	// connections accepted 8, open 0; errors 3; panics 0
	// queue       turns 12 345; mean wait to begin 12.2µs
	// locks       taken 12 345, contended 123 (1.0 %); mean wait 45.5µs
	// time        per request: CPU 99.6µs, in the table 1.10ms; CPU in all 1.23s
	// memory      heap 4.00 MiB, peak 20.0 MiB; goroutines 12
	// serving     true
	// suspended   1 time, 5.00s in all
	// waited      for a worker 150ms, for memory 20.0ms, for locks 5.60ms, in all
	// turns       14.0s in all, including decoding and encoding
	// table       211ms in 192 requests that were timed
	// held        32 locks, the most used about 10.1 % of the time
	// hot lock    taken 140, contended 31 (22.1 %); mean wait 45.2µs
	// error       malformed: 1
	// error       slow: 2
}

// The first line of each kind is kept, and is told only of the kinds that occurred meanwhile.
func TestFaults(t *testing.T) {
	var s Stats
	s.Fault("panic", "panicked: first")
	before := s.Snapshot()
	s.Fault("stuck", "stuck: \x1b[2J")
	got := []string{s.Snapshot().Faulted(), s.Snapshot().Sub(before).Faulted()}
	s.Fault("panic", "panicked: second")
	got = append(got, s.Snapshot().Sub(before).Faults["panic"], before.Sub(before).Faulted())
	const stuck = `"stuck: \x1b[2J"`
	if want := []string{"panicked: first\n" + stuck, stuck, "panicked: first", ""}; !slices.Equal(got, want) {
		t.Errorf("faulted %q, want %q", got, want)
	}
}

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
