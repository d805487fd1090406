// Package metrics measures: a clock, a histogram of times, a lock that counts how
// contended it is, and the Stats that every server keeps.
package metrics

import (
	"cmp"
	"maps"
	"runtime"
	rt "runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"
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
	Panics      atomic.Int64 // recovered from, each in a request

	QueueWait Timer // from the moment a turn is ready until a worker takes it
	Turn      Timer // from then until its answers are encoded, locks and table included
	Table     Timer // in the table, from look-up to effect; a sample of the requests

	mu     sync.Mutex // guards what follows
	errors map[string]int64
	locks  []*Mutex
}

// Error counts an error of a kind: a word or two such as "frame too large". Kinds are
// few and chosen by the program; nothing that a peer has sent is one.
func (s *Stats) Error(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.errors == nil {
		s.errors = make(map[string]int64)
	}
	s.errors[kind]++
}

// Watch adds the locks to every Snapshot from now on. Locks are numbered from 0 in the
// order in which they are added.
func (s *Stats) Watch(locks ...*Mutex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locks = append(s.locks, locks...)
}

// Snapshot reads all counters, each at a slightly different moment. It does not take a
// watched lock, so it works on a server that is stuck.
func (s *Stats) Snapshot() Snapshot {
	s.mu.Lock()
	errors := maps.Clone(s.errors)
	locks := s.locks
	s.mu.Unlock()

	heap := []rt.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	rt.Read(heap) // unlike runtime.ReadMemStats, does not stop the program
	cpu, peak := usage()
	snap := Snapshot{
		Serving:     s.Serving.Load(),
		Uptime:      Now(),
		Connections: s.Connections.Load(),
		Open:        s.Open.Load(),
		Requests:    s.Requests.Load(),
		Ops:         s.Ops.Load(),
		Refusals:    s.Refusals.Load(),
		Panics:      s.Panics.Load(),
		Errors:      errors,
		QueueWait:   s.QueueWait.Load(),
		Table:       s.Table.Load(),
		Turn:        s.Turn.Load(),
		Watched:     len(locks),
		Goroutines:  runtime.NumGoroutine(),
		Heap:        int64(heap[0].Value.Uint64()),
		PeakMemory:  peak,
		CPU:         cpu,
	}
	for i, lock := range locks {
		c := lock.Counts()
		snap.Locks = snap.Locks.add(c)
		if c.Contended > 0 {
			snap.Hottest = append(snap.Hottest, Hot{i, c})
		}
	}
	slices.SortStableFunc(snap.Hottest, func(a, b Hot) int {
		return cmp.Or(cmp.Compare(b.Contended, a.Contended), cmp.Compare(b.Waited, a.Waited))
	})
	snap.Hottest = slices.Clone(snap.Hottest[:min(len(snap.Hottest), 5)])
	return snap
}

// A Snapshot holds the Stats of one moment and the resources that the process had used
// by then; or, made by Sub, the difference between two moments.
type Snapshot struct {
	Stage       string           `json:"stage,omitempty"`       // the program, filled in by the caller of Stats.Snapshot
	Incarnation uint64           `json:"incarnation,omitempty"` // of the Stats: random, another for each start of a server
	Serving     bool             `json:"serving"`
	Uptime      time.Duration    `json:"uptime_ns"` // since the process started
	Connections int64            `json:"connections"`
	Open        int64            `json:"open"`
	Requests    int64            `json:"requests"`
	Ops         int64            `json:"ops"`
	Refusals    int64            `json:"refusals"`
	Panics      int64            `json:"panics"`
	Errors      map[string]int64 `json:"errors,omitempty"` // by kind
	QueueWait   Timing           `json:"queue_wait"`
	MemoryWait  Timing           `json:"memory_wait"`       // of large requests
	Table       Timing           `json:"table"`             // a sample of the requests
	Turn        Timing           `json:"turn"`              // lock waits and table included
	Watched     int              `json:"watched"`           // the number of locks
	Locks       Contention       `json:"locks"`             // of all watched locks together
	Hottest     []Hot            `json:"hottest,omitempty"` // the most contended, at most 5
	Goroutines  int              `json:"goroutines"`
	Heap        int64            `json:"heap_bytes"`        // objects, including dead ones that are not collected yet
	PeakMemory  int64            `json:"peak_memory_bytes"` // resident; 0: not known on this system
	CPU         time.Duration    `json:"cpu_ns"`            // user and system; 0: not known on this system
}

// A Hot is a contended lock.
type Hot struct {
	Bucket int `json:"bucket"` // its number by Stats.Watch
	Contention
}

// Sub returns what was counted since an earlier Snapshot of the same process: counters,
// times and Uptime are differences. Serving, Open, Watched, Goroutines, Heap, PeakMemory
// and Hottest are those of s.
func (s Snapshot) Sub(earlier Snapshot) Snapshot {
	s.Uptime -= earlier.Uptime
	s.Connections -= earlier.Connections
	s.Requests -= earlier.Requests
	s.Ops -= earlier.Ops
	s.Refusals -= earlier.Refusals
	s.Panics -= earlier.Panics
	s.QueueWait = s.QueueWait.sub(earlier.QueueWait)
	s.MemoryWait = s.MemoryWait.sub(earlier.MemoryWait)
	s.Table = s.Table.sub(earlier.Table)
	s.Turn = s.Turn.sub(earlier.Turn)
	s.Locks = s.Locks.sub(earlier.Locks)
	s.CPU -= earlier.CPU
	s.Errors = maps.Clone(s.Errors)
	for kind, n := range earlier.Errors {
		if s.Errors[kind] -= n; s.Errors[kind] == 0 {
			delete(s.Errors, kind)
		}
	}
	return s
}

// Held estimates the share of the time, from 0 to 1, that a watched lock was held, as a
// mean over all of them: acquisitions a second × mean time in the table, since a lock is
// held for what happens there. Near 0, no lock matters; near 1, only the lock does.
func (s Snapshot) Held() float64 {
	if s.Uptime <= 0 || s.Watched == 0 {
		return 0
	}
	held := float64(s.Locks.Acquired) * float64(s.Table.Mean()) / float64(s.Uptime) / float64(s.Watched)
	return min(held, 1) // the sampled mean can be too long
}
