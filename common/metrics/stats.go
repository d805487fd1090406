// Package metrics measures: a clock, a histogram of times, a lock that counts how
// contended it is, and the Stats that every server keeps.
package metrics

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"reflect"
	"runtime"
	rt "runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/common/text"
)

// Stats are the live counters of one server. They are safe for concurrent use; the zero
// Stats are ready to use.
type Stats struct {
	Serving atomic.Bool // has passed the barrier, and was not told to stop yet

	Connections atomic.Int64 // accepted since the start
	Open        atomic.Int64 // open now
	Requests    atomic.Int64 // applied and answered
	Ops         atomic.Int64 // operations in them
	Refusals    atomic.Int64 // requests answered Busy
	Keys        atomic.Int64 // stored now

	Lanes   Lanes // what each connection is doing
	Ballast int64 // bytes of the heap that hold nothing; set before the first Snapshot

	QueueWait  Timer // from the moment a turn is ready until a worker takes it
	Turn       Timer // from then until its answers are encoded, memory, locks and table included
	MemoryWait Timer // until there was memory for a large request, part of Turn
	Table      Timer // in the table, from look-up to effect; a sample of the requests
	Suspended  Timer // the process did not run: it was stopped, or the machine slept

	mu          sync.Mutex // guards what follows
	incarnation uint64     // 0: not drawn yet
	errors      Tally
	faults      map[string]string // by kind
	locks       []*Mutex
}

// Error counts an error of a kind: a word or two such as "frame too large". Kinds are
// few and chosen by the program; nothing that a peer has sent is one.
func (s *Stats) Error(kind string) { s.Fault(kind, "") }

// Fault is Error for a fault of the server itself, such as a panic, described by a line of
// text. The Stats keep the first of each kind.
func (s *Stats) Fault(kind, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors.Add(Tally{kind: 1})
	if line == "" || s.faults[kind] != "" {
		return
	}
	if s.faults == nil {
		s.faults = make(map[string]string)
	}
	s.faults[kind] = line
}

// Watch adds the locks to every Snapshot from now on.
func (s *Stats) Watch(locks ...*Mutex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locks = append(s.locks, locks...)
}

// Snapshot reads all counters, each at a slightly different moment. It does not take a
// watched lock, so it works on a server that is stuck.
func (s *Stats) Snapshot() Snapshot {
	snap := Snapshot{Uptime: Now(), Goroutines: runtime.NumGoroutine(), CPU: CPU(), PeakMemory: peakMemory()}
	live, to := reflect.ValueOf(s).Elem(), reflect.ValueOf(&snap).Elem()
	for i := range to.NumField() { // those of Stats have the same names
		if counter := live.FieldByName(to.Type().Field(i).Name); counter.IsValid() {
			to.Field(i).Set(counter.Addr().MethodByName("Load").Call(nil)[0])
		}
	}
	heap := []rt.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	rt.Read(heap) // unlike runtime.ReadMemStats, does not stop the program
	snap.Heap = int64(heap[0].Value.Uint64()) - s.Ballast

	s.mu.Lock()
	defer s.mu.Unlock()
	s.incarnation = cmp.Or(s.incarnation, 1+rand.Uint64N(1<<53-1)) // a number that every reader of JSON can hold
	snap.Incarnation, snap.Errors, snap.Watched = s.incarnation, maps.Clone(s.errors), len(s.locks)
	snap.Faults, snap.Panics = maps.Clone(s.faults), s.errors["panic"]
	for _, lock := range s.locks {
		c := lock.Counts()
		snap.Locks.Acquired += c.Acquired
		snap.Locks.Contended += c.Contended
		snap.Locks.Waited += c.Waited
		snap.Hot = Contention{max(snap.Hot.Acquired, c.Acquired), max(snap.Hot.Contended, c.Contended), max(snap.Hot.Waited, c.Waited)}
	}
	return snap
}

// A Snapshot holds the Stats of one moment and the resources that the process had used
// by then; or, made by Sub, the difference between two moments.
type Snapshot struct {
	Stage       string            `json:"stage,omitempty"`       // the program, filled in by the caller of Stats.Snapshot
	Server      string            `json:"server,omitempty"`      // its properties, as cluster.Config.DescribeServer has them; filled in as Stage is
	Incarnation uint64            `json:"incarnation,omitempty"` // of the Stats: random, another for each start of a server
	Serving     bool              `json:"serving"`
	Uptime      time.Duration     `json:"uptime_ns"` // since the process started
	Connections int64             `json:"connections"`
	Open        int64             `json:"open"`
	Requests    int64             `json:"requests"`
	Ops         int64             `json:"ops"`
	Refusals    int64             `json:"refusals"`
	Panics      int64             `json:"panics"` // recovered from, each in a request
	Keys        int64             `json:"keys"`
	Errors      Tally             `json:"errors,omitempty"` // by kind
	Faults      map[string]string `json:"faults,omitempty"` // by kind: the first since the start
	QueueWait   Timing            `json:"queue_wait"`
	MemoryWait  Timing            `json:"memory_wait"` // of large requests
	Table       Timing            `json:"table"`       // a sample of the requests
	Turn        Timing            `json:"turn"`        // waits for memory and locks included, and the table
	Suspended   Timing            `json:"suspended"`   // the process did not run
	Watched     int               `json:"watched"`     // the number of locks
	Locks       Contention        `json:"locks"`       // of all watched locks together
	Hot         Contention        `json:"hot"`         // the most that one lock has of each; which lock does not matter
	Goroutines  int               `json:"goroutines"`
	Heap        int64             `json:"heap_bytes"`        // objects, including dead ones that are not collected yet
	PeakMemory  int64             `json:"peak_memory_bytes"` // resident; 0: not known on this system
	CPU         time.Duration     `json:"cpu_ns"`            // user and system; 0: not known on this system
}

// Sub returns what was counted since an earlier Snapshot of the same start of a server:
// counters, times and Uptime are differences, Hot is what one lock has counted at least,
// and Faults are of the kinds that occurred in between. Serving, Open, Keys, Watched, Goroutines,
// Heap and PeakMemory are those of s. If the server was restarted in between, nothing can be
// subtracted, and Sub returns s.
func (s Snapshot) Sub(earlier Snapshot) Snapshot {
	if s.Incarnation != earlier.Incarnation {
		return s
	}
	now := s
	subtract(reflect.ValueOf(&s).Elem(), reflect.ValueOf(earlier))
	s.Open, s.Keys, s.Heap, s.PeakMemory = now.Open, now.Keys, now.Heap, now.PeakMemory
	s.Errors = maps.Clone(s.Errors)
	for kind, n := range earlier.Errors {
		if s.Errors[kind] -= n; s.Errors[kind] == 0 {
			delete(s.Errors, kind)
		}
	}
	s.Faults = maps.Clone(s.Faults)
	maps.DeleteFunc(s.Faults, func(kind, _ string) bool { return s.Errors[kind] == 0 })
	return s
}

// subtract subtracts from each int64 in a struct, times among them, the same one of an earlier
// struct.
func subtract(from, earlier reflect.Value) {
	for i := range from.NumField() {
		switch field := from.Field(i); field.Kind() {
		case reflect.Int64:
			field.SetInt(field.Int() - earlier.Field(i).Int())
		case reflect.Struct:
			subtract(field, earlier.Field(i))
		}
	}
}

// Held estimates the share of the time, from 0 to 1, that the most used lock was held:
// acquisitions a second × mean time in the table, since a lock is held for what happens
// there. Near 0, no lock matters; near 1, only the lock does. (A mean over a thousand locks
// would hide the one that all requests wait for.)
func (s Snapshot) Held() float64 {
	if s.Uptime <= 0 || s.Watched == 0 {
		return 0
	}
	most := max(float64(s.Hot.Acquired), float64(s.Locks.Acquired)/float64(s.Watched))
	return min(most*float64(s.Table.Mean())/float64(s.Uptime), 1) // the sampled mean can be too long
}

// Faulted returns a line for each kind of Faults, with its number if there are several: "3 ×
// panicked: ...". It is fit for a terminal, wherever s comes from.
func (s Snapshot) Faulted() string {
	var lines []string
	for _, kind := range slices.Sorted(maps.Keys(s.Faults)) {
		line := text.Quote(s.Faults[kind], 1000)
		if n := s.Errors[kind]; n > 1 {
			line = text.Count(n) + " × " + line
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// String returns the most important figures in six lines of at most 80 columns, without
// a newline at the end.
func (s Snapshot) String() string { return strings.Join(s.lines()[:6], "\n") }

// Detail returns all figures, beginning with those of String.
func (s Snapshot) Detail() string { return strings.Join(s.lines(), "\n") }

func (s Snapshot) lines() (all []string) {
	line := func(label, format string, args ...any) {
		all = append(all, fmt.Sprintf("%-11s ", label)+fmt.Sprintf(format, args...))
	}
	peak := "not known"
	if s.PeakMemory > 0 {
		peak = text.Bytes(s.PeakMemory)
	}
	rate := float64(s.Requests) / max(s.Uptime.Seconds(), 1e-9)
	line("requests", "%s in %s (%s/s); operations %s; refused %s",
		text.ShortCount(s.Requests), text.Duration(s.Uptime), text.ShortCount(int64(rate)), text.ShortCount(s.Ops), text.ShortCount(s.Refusals))
	line("connections", "accepted %s, open %s; errors %s; panics %s",
		text.ShortCount(s.Connections), text.ShortCount(s.Open), text.ShortCount(s.Errors.Sum()), text.ShortCount(s.Panics))
	line("queue", "turns %s; mean wait to begin %s", text.ShortCount(s.QueueWait.Count), text.Duration(s.QueueWait.Mean()))
	line("locks", "%s", s.Locks.text())
	line("time", "per request: CPU %s, in the table %s; CPU in all %s",
		text.Duration(mean(s.CPU, s.Requests)), text.Duration(s.Table.Mean()), text.Duration(s.CPU))
	line("memory", "heap %s, peak %s; goroutines %s", text.Bytes(s.Heap), peak, text.ShortCount(int64(s.Goroutines)))
	line("serving", "%v", s.Serving)
	line("suspended", "%s, %s in all", text.Plural(s.Suspended.Count, "time"), text.Duration(s.Suspended.Total))
	line("waited", "for a worker %s, for memory %s, for locks %s, in all",
		text.Duration(s.QueueWait.Total), text.Duration(s.MemoryWait.Total), text.Duration(s.Locks.Waited))
	line("turns", "%s in all, including decoding and encoding", text.Duration(s.Turn.Total))
	line("table", "%s in %s that were timed", text.Duration(s.Table.Total), text.Plural(s.Table.Count, "request"))
	line("held", "%s, the most used about %.1f %% of the time", text.Plural(int64(s.Watched), "lock"), 100*s.Held())
	line("hot lock", "%s", s.Hot.text())
	for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
		line("error", "%s: %s", kind, text.ShortCount(s.Errors[kind]))
	}
	return all
}

func (c Contention) text() string {
	percent := 100 * float64(c.Contended) / float64(max(c.Acquired, 1))
	return fmt.Sprintf("taken %s, contended %s (%.1f %%); mean wait %s", text.ShortCount(c.Acquired), text.ShortCount(c.Contended), percent, text.Duration(c.Mean()))
}

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
