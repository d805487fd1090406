package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// A histogram against the sorted times, against the merged histograms of their parts, with and
// without one of them, and against what is saved and read again. All are of 1 ns to a minute.
func TestQuantileAgainstSortedData(t *testing.T) {
	for name, draw := range map[string]func(*rand.Rand) time.Duration{
		"tiny":          func(r *rand.Rand) time.Duration { return 1 + time.Duration(r.IntN(300)) },
		"log uniform":   func(r *rand.Rand) time.Duration { return time.Duration(math.Pow(float64(time.Minute), r.Float64())) },
		"powers of two": func(r *rand.Rand) time.Duration { return 1<<r.IntN(36) - time.Duration(r.IntN(2)) },
	} {
		for _, n := range []int{1, 2, 7, 3000} {
			r := rand.New(rand.NewPCG(1, uint64(n)))
			var h, merged Histogram
			var parts [3]Histogram // the last one stays empty
			var all []time.Duration
			var sum time.Duration
			for i := range n {
				d := draw(r)
				h.Record(d)
				parts[i%2].Record(d)
				all = append(all, d)
				sum += d
			}
			for i := range parts {
				merged.Merge(&parts[i])
			}
			if !reflect.DeepEqual(merged, h) {
				t.Errorf("%d of %s: the merged parts differ from one histogram of all", n, name)
			}
			merged.Sub(&parts[1])
			left := parts[0]
			left.max = merged.max
			if merged.Count() != left.Count() || merged.Mean() != left.Mean() || merged.Quantile(0.5) != left.Quantile(0.5) {
				t.Errorf("%d of %s: without the second part, %+v are left, want %+v", n, name, merged, left)
			}
			// In a struct without an address, as results are marshalled.
			data, _ := json.Marshal(struct{ Latency Histogram }{h})
			var back struct{ Latency Histogram }
			back.Latency.Record(7) // must be replaced
			if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back.Latency, h) {
				t.Errorf("%d of %s: %s reads back as a different histogram (%v)", n, name, data, err)
			}
			slices.Sort(all)
			for _, permille := range []int{0, 1, 10, 70, 250, 500, 750, 900, 990, 999, 1000} {
				rank := max((permille*n+999)/1000, 1)
				exact, got := all[rank-1], h.Quantile(float64(permille)/1000)
				if got < exact || float64(got-exact) > 0.008*float64(exact) {
					t.Errorf("%d of %s: Quantile(%d/1000) = %d, want %d and at most 0.8 %% more", n, name, permille, got, exact)
				}
				if within, _ := slices.BinarySearch(all, edge(cell(exact))+1); h.Within(exact) != int64(within) {
					t.Errorf("%d of %s: %d are within %d, want %d", n, name, h.Within(exact), exact, within)
				}
			}
			got := []int64{h.Count(), h.Within(math.MaxInt64), int64(h.Max()), int64(h.Mean())}
			if want := []int64{int64(n), int64(n), int64(all[n-1]), int64(sum) / int64(n)}; !slices.Equal(got, want) {
				t.Errorf("%s: count, all within a long time, max, mean = %d, want %d", name, got, want)
			}
		}
	}
}

func TestQuantileEdges(t *testing.T) {
	type times = []time.Duration
	for _, test := range []struct {
		recorded times
		q        float64
		want     time.Duration
	}{
		{nil, 0.5, 0},
		{times{-5}, 1, 0},
		{times{255, 256, 257, 258}, 0.50, 257}, // 256 and 257 share a cell
		{times{1, time.Minute + 1}, 0.51, time.Minute + 1},
		{times{math.MaxInt64, 1 << 62}, 0.5, edge(cell(1 << 62))},
	} {
		var h Histogram
		for _, d := range test.recorded {
			h.Record(d)
		}
		if got := h.Quantile(test.q); got != test.want {
			t.Errorf("%v: Quantile(%v) = %d, want %d", test.recorded, test.q, got, test.want)
		}
	}
	for d, want := range map[time.Duration]int{1: 1 << 10, time.Second: 24 << 10, time.Minute: 32 << 10, math.MaxInt64: 64 << 10} {
		var h Histogram
		h.Record(d)
		if got := 8 * cap(h.counts); got > want {
			t.Errorf("a histogram of %v has %d bytes, want at most %d", d, got, want)
		}
	}
}

func TestHistogramJSON(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{1, 300, 300, time.Minute, time.Hour} {
		h.Record(d)
	}
	got, _ := json.Marshal(h)
	want := `{"sum_ns":3660000000601,"max_ns":3600000000000,"overflow":0,` +
		`"buckets":[[1,1],[301,2],[60129542143,1],[3607772528639,1]]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []string{`[]`, `{"buckets":[[-1,1]]}`, `{"buckets":[[300,1]]}`,
		`{"buckets":[[60397977598,1]]}`, `{"buckets":[[18446744073709551615,1]]}`} {
		if err := json.Unmarshal([]byte(bad), &h); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	// Times that an old file does not resolve count, and are the longest.
	err := json.Unmarshal([]byte(`{"max_ns":90000000000,"overflow":1,"buckets":[[1,1]]}`), &h)
	if err != nil || h.Count() != 2 || h.Quantile(0.5) != 1 || h.Quantile(1) != 90e9 {
		t.Errorf("an old file has %d times, median %v, longest %v (%v)", h.Count(), h.Quantile(0.5), h.Quantile(1), err)
	}
}

func TestMutexCounts(t *testing.T) {
	var mu Mutex
	mu.Lock() // is free
	mu.Unlock()
	const waiters = 3
	mu.Lock()
	before := Now()
	var wg sync.WaitGroup
	for range waiters {
		wg.Go(func() {
			mu.Lock()
			mu.Unlock()
		})
	}
	// Only the runtime can tell that they wait: a goroutine that waits for a lock runs no code.
	for all, waiting := make([]byte, 1<<20), 0; waiting < waiters; runtime.Gosched() {
		waiting = strings.Count(string(all[:runtime.Stack(all, true)]), "[sync.Mutex.Lock")
	}
	compute(time.Millisecond)
	// Counts does not wait, although the lock is held and three goroutines want it.
	if got, want := mu.Counts(), (Contention{Acquired: 2}); got != want {
		t.Errorf("while they wait: %+v, want %+v", got, want)
	}
	mu.Unlock()
	wg.Wait()
	got, most := mu.Counts(), waiters*(Now()-before)
	if got.Acquired != 2+waiters || got.Contended != waiters || got.Waited < waiters*time.Millisecond || got.Waited > most {
		t.Errorf("counted %+v, want %d, %d and %v to %v", got, 2+waiters, waiters, waiters*time.Millisecond, most)
	}
}

// A Mutex excludes and counts each acquisition, and Counts may be called meanwhile. A Timer needs no lock.
func TestConcurrentCounts(t *testing.T) {
	const goroutines, rounds = 4, 2000
	var mu Mutex
	var timer Timer
	guarded := 0
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				mu.Lock()
				guarded++
				mu.Unlock()
				timer.Add(3)
				if c := mu.Counts(); c.Contended > c.Acquired {
					t.Errorf("counted %+v, more contended than acquired", c)
				}
			}
		})
	}
	wg.Wait()
	const all = goroutines * rounds
	if got, timed := mu.Counts().Acquired, timer.Load(); guarded != all || got != all || timed != (Timing{all, 3 * all}) {
		t.Errorf("%d increments under the lock, acquired %d times, timed %+v, want %d, of 3 ns", guarded, got, timed, all)
	}
}

func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond // the clock is synctest's
		var lanes Lanes
		lanes.Recording().Mark(1, Queued) // nobody asks
		lanes.Recording().Begin(1, new(int))
		recorded := make(chan []LaneMark)
		go func() { recorded <- lanes.Record() }()
		synctest.Wait()
		one, two := new(int), new(int)
		r := lanes.Recording()
		r.Mark(2, Queued)
		r.Begin(2, two)
		r.Mark(1, Idle) // what it did at the begin is what it did last before
		<-time.After(LaneTime + ms)
		r.MarkRequest(two, InTable)
		r.MarkRequest(one, InTable) // has begun before the recording: its lane is not known
		r.Begin(1, one)
		for range 2 * maxMarks {
			r.MarkRequest(one, Writing)
		}
		got := <-recorded
		r.Mark(1, Idle) // too late
		want := []LaneMark{{1, Idle, 0}, {2, Awaiting, 0}, {2, InTable, ms}, {1, Awaiting, ms}, {1, Writing, ms}}
		if len(got) != maxMarks || !slices.Equal(got[:len(want)], want) {
			t.Errorf("%d marks, want %d that begin with %v: %v", len(got), maxMarks, want, got[:min(len(got), 9)])
		}
		data, err := json.Marshal(got)
		var back []LaneMark
		if err != nil || json.Unmarshal(data, &back) != nil || !slices.Equal(back, got) || len(data) > 60<<10 {
			t.Errorf("%d bytes of JSON (%v), want the same marks again, in at most 60 KiB", len(data), err)
		}
	})
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

// A Snapshot has all that was counted, and Sub what was counted since an earlier one.
func TestSnapshot(t *testing.T) {
	var s Stats
	locks := make([]Mutex, 8)
	for i := range locks {
		s.Watch(&locks[i])
	}
	count := func() {
		for i, c := range []*atomic.Int64{&s.Connections, &s.Open, &s.Requests, &s.Ops, &s.Refusals, &s.Keys} {
			c.Add(int64(i + 1))
		}
		for i, timer := range []*Timer{&s.QueueWait, &s.Turn, &s.Table, &s.MemoryWait, &s.Suspended} {
			timer.Add(time.Duration(i + 7))
		}
		for i := range locks {
			locks[i].acquired.Add(100)
			locks[i].contended.Add(int64(i))
			locks[i].waited.Add(int64(i))
		}
		for _, kind := range []string{"decode", "panic", "decode", "decode"} {
			s.Error(kind)
		}
	}
	locks[6].mu.Lock() // held: Snapshot must not wait for it
	defer locks[6].mu.Unlock()
	s.Serving.Store(true)
	s.Error("idle") // and not again
	count()
	before := Now()
	got := s.Snapshot()
	if got.Uptime < before || got.Uptime > Now() || got.Goroutines < 1 || got.Heap < 1000 || got.Heap > 1<<30 {
		t.Errorf("uptime %v after %v, %d goroutines, heap %d", got.Uptime, before, got.Goroutines, got.Heap)
	}
	want := Snapshot{
		Incarnation: got.Incarnation, Serving: true, Connections: 1, Open: 2, Requests: 3, Ops: 4, Refusals: 5, Keys: 6, Panics: 1,
		Errors:    Tally{"decode": 3, "idle": 1, "panic": 1},
		QueueWait: Timing{1, 7}, Turn: Timing{1, 8}, Table: Timing{1, 9}, MemoryWait: Timing{1, 10}, Suspended: Timing{1, 11},
		Watched: 8, Locks: Contention{800, 28, 28}, Hot: Contention{100, 7, 7},
		Uptime: got.Uptime, Goroutines: got.Goroutines, Heap: got.Heap, PeakMemory: got.PeakMemory, CPU: got.CPU,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	other := (&Stats{Ballast: 1 << 40}).Snapshot()
	if got.Incarnation == 0 || other.Incarnation == got.Incarnation || other.Heap > 0 {
		t.Errorf("incarnation %d, want another than %d; heap %d, want no ballast in it", other.Incarnation, got.Incarnation, other.Heap)
	}

	count()
	later := s.Snapshot()
	want.Errors = Tally{"decode": 3, "panic": 1}
	want.Open, want.Keys = 4, 12 // as they are now, and so are these
	want.Goroutines, want.Heap, want.PeakMemory = later.Goroutines, later.Heap, later.PeakMemory
	want.Uptime, want.CPU = later.Uptime-got.Uptime, later.CPU-got.CPU
	if since := later.Sub(got); !reflect.DeepEqual(since, want) {
		t.Errorf("since the first: got  %+v\nwant %+v", since, want)
	}
	if got.Errors["decode"] != 3 || later.Errors["decode"] != 6 {
		t.Error("the second Snapshot, or Sub, has changed one that was there")
	}
	got.Incarnation++ // of two starts, nothing is subtracted
	if since := later.Sub(got); !reflect.DeepEqual(since, later) {
		t.Errorf("after a restart: got %+v, want %+v", since, later)
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
	for _, s := range []Snapshot{
		{},
		{Uptime: time.Second, Requests: most, Ops: most, CPU: 1},
		{
			Uptime: 9999 * time.Hour, Connections: most, Open: 999_999, Requests: most, Ops: most, Refusals: most, Panics: 999_999,
			Errors: map[string]int64{"a": most / 2, "b": most / 2}, QueueWait: wait, MemoryWait: wait, Table: wait, Suspended: wait,
			Locks:      Contention{most, most, wait.Total},
			Goroutines: 999_999, Heap: 99999 << 20, PeakMemory: 99999 << 20, CPU: 9999 * time.Hour,
		},
	} {
		for line := range strings.Lines(s.Detail()) {
			if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 80 || strings.Contains(line, "NaN") {
				t.Errorf("%d columns, want at most 80\n%s", n, line)
			}
		}
	}
}

func ExampleSnapshot_Detail() {
	s := Snapshot{
		Serving: true, Uptime: 4200 * time.Millisecond, Connections: 8, Requests: 12345, Ops: 1234567,
		Errors:    map[string]int64{"slow": 2, "malformed": 1},
		QueueWait: Timing{12345, 150 * time.Millisecond},
		Turn:      Timing{12345, 14 * time.Second}, Table: Timing{192, 211 * time.Millisecond},
		Suspended: Timing{1, 5 * time.Second}, MemoryWait: Timing{2, 20 * time.Millisecond},
		Watched: 32, Locks: Contention{12345, 123, 5600 * time.Microsecond}, Hot: Contention{140, 31, 1400 * time.Microsecond},
		CPU: 1230 * time.Millisecond, Goroutines: 12, Heap: 4 << 20, PeakMemory: 20 << 20,
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

func TestFilesOfLinux(t *testing.T) {
	all := float64(min(runtime.NumCPU(), runtime.GOMAXPROCS(0)))
	for name, test := range map[string]struct {
		group string
		max   map[string]string // by directory below the root of the groups
		want  float64
	}{
		"no groups":         {"", nil, all},
		"a fifth":           {"0::/a/b\n", map[string]string{"a/b/": "20000 100000\n"}, 0.2},
		"the parent's":      {"1:cpu:/\n0::/a/b\n", map[string]string{"a/": "5000 10000\n", "a/b/": "max 100000\n"}, 0.5},
		"in a container":    {"0::/\n", map[string]string{"": "25000 100000\n"}, 0.25},
		"another namespace": {"0::/../../x\n", map[string]string{"": "25000 100000\n"}, all},
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
	system := fstest.MapFS{
		"proc/stat":         {Data: []byte("cpu  150 20 1000 9999999 6795 0 108320 0 0 0\ncpu0 130 10 70 0 0 0 0 0 0 0\n")},
		"proc/net/sockstat": {Data: []byte("sockets: used 15\nTCP: inuse 1 orphan 0 tw 26402 alloc 1 mem 89\nUDP: inuse 0 mem 0\n")},
	}
	if cpu, wait := machineCPU(system), timeWait(system); cpu != 11700*time.Millisecond || wait != 26402 {
		t.Errorf("%v of CPU time, %d sockets in TIME_WAIT, want 11.7 s, 26402", cpu, wait)
	}
}

// One goroutine takes a lock again as soon as it has freed it, and holds it for 20 µs each time.
// Another one takes it 100 times, with 20 µs without it in between. Does each get it in turn?
//
// A Go mutex prefers the goroutine that is running: the other one has to be woken first. Only
// a goroutine that has waited for 1 ms is handed the lock. A channel hands over each time,
// which is fair, but each hand-over is a change of goroutines; where many wait for such a
// lock, it becomes a convoy that never dissolves. That the other gets its 100 times is all
// that is checked: the figures depend on the machine.
//
//	go test ./common/metrics -run Specimen -v
func TestSpecimenUnfairLock(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		lock             sync.Locker
	}{
		{"a mutex", "no: dozens of times for one, and the other waits for up to 1 ms", new(sync.Mutex)},
		{"a channel", "nearly: the other waits for about the 20 µs of one holder", make(handedOver, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			const times, hold = 100, 20 * time.Microsecond
			var done atomic.Bool
			again, begun := 0, make(chan int, 1)
			var hog sync.WaitGroup
			hog.Go(func() { // ends after the other
				for begun <- 1; !done.Load(); again++ {
					c.lock.Lock()
					compute(hold)
					c.lock.Unlock()
				}
			})
			<-begun
			var waited, most time.Duration
			for range times {
				compute(hold)
				asked := Now()
				c.lock.Lock()
				wait := Now() - asked
				c.lock.Unlock()
				waited, most = waited+wait, max(most, wait)
			}
			done.Store(true)
			hog.Wait()
			t.Logf("prediction: %s\nfound: %d times for one, %d for the other, which waits for %v on average and %v at most",
				c.prediction, again, times, (waited / times).Round(time.Microsecond), most.Round(time.Microsecond))
		})
	}
}

// A handedOver lock goes to the goroutine that has waited longest when it is freed.
type handedOver chan struct{}

func (h handedOver) Lock()   { h <- struct{}{} }
func (h handedOver) Unlock() { <-h }

func compute(d time.Duration) {
	for end := Now() + d; Now() < end; {
	}
}

// Two cores each add to a counter of their own, or lock a mutex of their own, which are next to
// each other in memory or 128 bytes apart. Cores exchange whole cache lines of 64 bytes, so
// neighbors wait for each other although they share nothing that the program names.
//
//	go test ./common/metrics -run '^$' -bench FalseSharing
func BenchmarkFalseSharing(b *testing.B) {
	counters, mutexes := make([]atomic.Int64, 64), make([]sync.Mutex, 64)
	for name, use := range map[string]func(i int){
		"counter": func(i int) { counters[i].Add(1) },
		"mutex": func(i int) {
			mutexes[i].Lock()
			mutexes[i].Unlock()
		},
	} {
		for _, apart := range []int{1, 16} {
			b.Run(fmt.Sprintf("of=%s/apart=%dB", name, 8*apart), func(b *testing.B) {
				var both sync.WaitGroup
				for core := range 2 {
					both.Go(func() {
						for range b.N {
							use(core * apart)
						}
					})
				}
				both.Wait()
			})
		}
	}
}
