package metrics

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

func TestNow(t *testing.T) {
	last := Now()
	for moved := 0; moved < 1000; { // a clock that stands still never ends this
		now := Now()
		if now < last {
			t.Fatalf("%v after %v", now, last)
		}
		if now > last {
			moved++
		}
		last = now
	}
}

func TestTimer(t *testing.T) {
	var timer Timer
	if got := timer.Load().Mean(); got != 0 {
		t.Errorf("mean of nothing = %v, want 0", got)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for d := range time.Duration(100000) {
				timer.Add(d)
			}
		})
	}
	wg.Wait()
	want := Timing{Count: 800000, Total: 8 * 99999 * 100000 / 2}
	if got := timer.Load(); got != want || got.Mean() != 49999 {
		t.Errorf("got %+v, mean %d, want %+v, 49999", got, got.Mean(), want)
	}
}

func TestSnapshot(t *testing.T) {
	var s Stats
	locks := make([]Mutex, 8)
	for i := range locks {
		s.Watch(&locks[i])
		locks[i].acquired.Store(100)
		locks[i].contended.Store(int64(i % 7)) // 0 and 7 have none
		locks[i].waited.Store(int64(i))
	}
	locks[2].contended.Store(5) // as often as 5, and waited less
	locks[6].Lock()             // held: Snapshot must not wait
	defer locks[6].Unlock()

	s.Serving.Store(true)
	s.Connections.Store(1)
	s.Open.Store(2)
	s.Requests.Store(3)
	s.Ops.Store(4)
	s.Refusals.Store(5)
	s.Panics.Store(6)
	s.QueueWait.Add(7)
	s.Table.Add(8)
	var wg sync.WaitGroup
	for _, kind := range []string{"decode", "idle", "decode", "decode"} {
		wg.Go(func() { s.Error(kind) })
	}
	wg.Wait()

	before := Now()
	got := s.Snapshot()
	if got.Uptime < before || got.Uptime > Now() {
		t.Errorf("uptime %v, want %v or a little more", got.Uptime, before)
	}
	if got.Goroutines < 1 || got.Heap < 1000 || got.Heap > 1<<30 {
		t.Errorf("goroutines, heap = %d, %d", got.Goroutines, got.Heap)
	}
	want := Snapshot{
		Serving: true, Connections: 1, Open: 2, Requests: 3, Ops: 4, Refusals: 5, Panics: 6,
		Errors:    map[string]int64{"decode": 3, "idle": 1},
		QueueWait: Timing{1, 7}, Table: Timing{1, 8},
		Watched: 8, Locks: Contention{801, 24, 28},
		Hottest: []Hot{
			{6, Contention{101, 6, 6}}, {5, Contention{100, 5, 5}}, {2, Contention{100, 5, 2}},
			{4, Contention{100, 4, 4}}, {3, Contention{100, 3, 3}},
		},
		Uptime: got.Uptime, Goroutines: got.Goroutines, Heap: got.Heap, PeakMemory: got.PeakMemory, CPU: got.CPU,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	var calm Stats
	calm.Watch(new(Mutex), &locks[4])
	if got, want := calm.Snapshot().Hottest, []Hot{{1, Contention{100, 4, 4}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("of one lock that was fought for and one that was not: %v, want %v", got, want)
	}

	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var back Snapshot
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, got) {
		t.Errorf("%s reads back as %+v, %v, want %+v", data, back, err, got)
	}
	s.Error("idle")
	if n := got.Errors["idle"]; n != 1 {
		t.Errorf("an error after the snapshot shows in it: idle %d, want 1", n)
	}
}

// A program that computes, and uses memory, sees both.
func TestUsage(t *testing.T) {
	switch status, _ := os.ReadFile("/proc/self/status"); {
	case runtime.GOOS == "linux" && !strings.Contains(string(status), "VmHWM:"):
		t.Skip("this system does not tell a process its peak of memory")
	case runtime.GOOS != "linux" && runtime.GOOS != "darwin":
		t.Skip("not known, or only the CPU time")
	}
	_, peak := usage()
	used := make([]byte, 16<<20)
	touch := func() {
		for i := 0; i < len(used); i += 4096 {
			used[i]++
		}
	}
	touch()
	cpu, after := usage()
	if after < 16<<20 || after < peak || after > 64<<30 {
		t.Errorf("peak memory %d, then, with 16 MiB more in use, %d", peak, after)
	}
	for start, now := Now(), cpu; now < cpu+20*time.Millisecond; now, _ = usage() {
		touch()
		if Now()-start > 10*time.Second {
			t.Fatalf("10 s of computing took %v of CPU", now-cpu)
		}
	}
}

func TestSub(t *testing.T) {
	earlier := Snapshot{
		Serving: false, Uptime: 1, Connections: 1, Open: 1, Requests: 1, Ops: 1, Refusals: 1, Panics: 1,
		Errors:    map[string]int64{"decode": 3, "idle": 1},
		QueueWait: Timing{1, 1}, Table: Timing{1, 1}, Turn: Timing{1, 1}, Watched: 1, Locks: Contention{1, 1, 1},
		Hottest:    []Hot{{1, Contention{1, 1, 1}}},
		Goroutines: 1, Heap: 1, PeakMemory: 1, CPU: 1,
	}
	later := Snapshot{
		Serving: true, Uptime: 11, Connections: 12, Open: 13, Requests: 14, Ops: 15, Refusals: 16, Panics: 17,
		Errors:    map[string]int64{"decode": 5, "idle": 1, "frame": 2},
		QueueWait: Timing{18, 19}, Table: Timing{20, 21}, Turn: Timing{33, 35}, Watched: 22, Locks: Contention{23, 24, 25},
		Hottest:    []Hot{{2, Contention{26, 27, 28}}},
		Goroutines: 29, Heap: 30, PeakMemory: 31, CPU: 32,
	}
	want := Snapshot{
		Serving: true, Uptime: 10, Connections: 11, Open: 13, Requests: 13, Ops: 14, Refusals: 15, Panics: 16,
		Errors:    map[string]int64{"decode": 2, "frame": 2},
		QueueWait: Timing{17, 18}, Table: Timing{19, 20}, Turn: Timing{32, 34}, Watched: 22, Locks: Contention{22, 23, 24},
		Hottest:    []Hot{{2, Contention{26, 27, 28}}},
		Goroutines: 29, Heap: 30, PeakMemory: 31, CPU: 31,
	}
	if got := later.Sub(earlier); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if later.Errors["decode"] != 5 || earlier.Errors["decode"] != 3 {
		t.Error("Sub changed what it was given")
	}
	if got := (Snapshot{}).Sub(Snapshot{}); !reflect.DeepEqual(got, Snapshot{}) {
		t.Errorf("nothing less nothing = %+v", got)
	}
}

func TestHeld(t *testing.T) {
	s := Snapshot{Uptime: time.Second, Watched: 2, Locks: Contention{Acquired: 500}, Table: Timing{10, 10 * time.Millisecond}}
	if got := s.Held(); got != 0.25 { // 500 × 1 ms in 1 s, spread over two
		t.Errorf("got %v, want 0.25", got)
	}
	if got := (Snapshot{}).Held(); got != 0 {
		t.Errorf("of nothing: got %v, want 0", got)
	}
}

func TestSixLines(t *testing.T) {
	const most = 999949999 // 999.9 M
	wait := Timing{most, most * 99900 * time.Microsecond}
	for name, s := range map[string]Snapshot{
		"nothing": {},
		"much": {
			Uptime: 9999*time.Hour + 59*time.Minute, Connections: most, Open: most, Requests: most,
			Ops: most, Refusals: most, Panics: most, Errors: map[string]int64{"a": most / 2, "b": most / 2},
			QueueWait: wait, Table: wait, Locks: Contention{most, most, wait.Total},
			Goroutines: most, Heap: 99999 << 20, PeakMemory: 99999 << 20, CPU: 9999*time.Hour + 59*time.Minute,
		},
		"much in a second": {Uptime: time.Second, Requests: most, Ops: math.MaxInt64, CPU: 1},
	} {
		text := s.String()
		if n := len(strings.Split(text, "\n")); n != 6 {
			t.Errorf("%s: %d lines, want 6\n%s", name, n, text)
		}
		for line := range strings.SplitSeq(text, "\n") {
			if n := utf8.RuneCountInString(line); n > 80 {
				t.Errorf("%s: %d columns, want at most 80\n%s", name, n, line)
			}
		}
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1 000", 12345: "12 345", 999999: "999 999",
		1000000: "1 M", 12345678: "12.35 M", 5e9: "5 G", math.MaxInt64: "9.223 E"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "-", 999: "999ns", 1234: "1.23µs", 12345678: "12.3ms",
		4234 * time.Millisecond: "4.23s", 59960 * time.Millisecond: "1m0s", 100 * time.Second: "1m40s",
		90*time.Minute + 31*time.Second: "1h31m", time.Hour: "1h0m", -5: "-5ns"} {
		if got := short(d); got != want {
			t.Errorf("short(%d) = %q, want %q", d, got, want)
		}
	}
	if got, want := size(3<<19), "1.5 MiB"; got != want {
		t.Errorf("size = %q, want %q", got, want)
	}
}

func ExampleSnapshot_Detail() {
	s := Snapshot{
		Serving: true, Uptime: 4200 * time.Millisecond, Connections: 8, Requests: 12345, Ops: 12345,
		Errors:    map[string]int64{"idle timeout": 2, "frame too large": 1},
		QueueWait: Timing{12345, 150 * time.Millisecond},
		Turn:      Timing{12345, 96 * time.Millisecond},
		Table:     Timing{192, 211 * time.Microsecond},
		Watched:   1024,
		Locks:     Contention{12345, 123, 5600 * time.Microsecond},
		Hottest:   []Hot{{17, Contention{140, 31, 1400 * time.Microsecond}}},
		CPU:       1230 * time.Millisecond, Goroutines: 12, Heap: 4 << 20, PeakMemory: 20 << 20,
	}
	fmt.Println(s.Detail()) // and s alone prints the first six lines
	// Output:
	// requests    12 345 in 4.2s (2 939/s), 12 345 operations, 0 refused
	// connections 8 accepted, 0 open, 3 errors, 0 panics
	// queue       12 345 turns, begun 12.2µs after they were ready, in the mean
	// locks       12 345 taken, 123 contended (1.0 %), mean wait then 45.5µs
	// time        a request: 99.6µs CPU, 1.1µs in the table; CPU in all 1.23s
	// memory      heap 4.0 MiB, peak 20.0 MiB; 12 goroutines
	// up          4.2s, serving
	// waited      150ms for a worker, 5.6ms for locks, in all
	// turns       96ms in all, with decoding and encoding
	// table       211µs in the 192 requests that were timed
	// held        1024 locks, each about 0.0 % of the time
	// hot bucket  17: 140 taken, 31 contended (22.1 %), mean wait then 45.2µs
	// error       frame too large: 1
	// error       idle timeout: 2
}

func ExampleHistogram() {
	var morning, evening Histogram
	for range 98 {
		morning.Record(20 * time.Microsecond)
	}
	evening.Record(3 * time.Millisecond)
	evening.Record(2 * time.Minute) // longer than it tells apart, and counted all the same

	var day Histogram
	day.Merge(&morning)
	day.Merge(&evening)
	fmt.Println(day.Count(), "times,", day.Overflow(), "above a minute")
	fmt.Println("p50", day.Quantile(0.50)) // at most 0.8 % too long
	fmt.Println("p99", day.Quantile(0.99))
	fmt.Println("max", day.Max())
	// Output:
	// 100 times, 1 above a minute
	// p50 20.095µs
	// p99 3.014655ms
	// max 2m0s
}
