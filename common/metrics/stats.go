// Package metrics measures: a clock, a histogram of times, a lock that counts how
// often it was fought for, and the Stats that every server keeps.
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

// Stats are the live counters of one server. They are safe for concurrent use; the
// zero Stats are ready.
type Stats struct {
	Serving atomic.Bool // past the barrier, and not yet told to stop

	Connections atomic.Int64 // accepted since the start
	Open        atomic.Int64 // open now
	Requests    atomic.Int64 // applied and answered
	Ops         atomic.Int64 // operations in them
	Refusals    atomic.Int64 // requests answered Busy
	Panics      atomic.Int64 // recovered from, each inside a request

	QueueWait Timer // from a turn's arrival in the queue until a worker takes it
	Turn      Timer // from then until its answers are encoded: decoding, locks and table included
	Table     Timer // in the table, from look-up to effect; a sample of the requests

	mu     sync.Mutex // guards what follows
	errors map[string]int64
	locks  []*Mutex
}

// Error counts an error of this kind, a word or two such as "frame too large". The
// kinds are few and the program's own: nothing that a peer sent.
func (s *Stats) Error(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.errors == nil {
		s.errors = make(map[string]int64)
	}
	s.errors[kind]++
}

// Watch makes the locks part of every Snapshot from now on, numbered from 0 in the
// order in which they came.
func (s *Stats) Watch(locks ...*Mutex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locks = append(s.locks, locks...)
}

// Snapshot reads all counters, each at a slightly different moment. It takes no
// watched lock, and so can be taken of a server that is stuck.
func (s *Stats) Snapshot() Snapshot {
	s.mu.Lock()
	errors := maps.Clone(s.errors)
	locks := s.locks
	s.mu.Unlock()

	heap := []rt.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	rt.Read(heap) // unlike runtime.ReadMemStats, stops nobody
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
	slices.SortFunc(snap.Hottest, func(a, b Hot) int {
		return cmp.Or(cmp.Compare(b.Contended, a.Contended), cmp.Compare(b.Waited, a.Waited),
			cmp.Compare(a.Bucket, b.Bucket))
	})
	snap.Hottest = slices.Clone(snap.Hottest[:min(len(snap.Hottest), 5)])
	return snap
}

// A Snapshot is what Stats said at one moment, and what the process used up to then;
// or, made by Sub, what came between two moments.
type Snapshot struct {
	Stage       string           `json:"stage,omitempty"` // the program; set by who knows it
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
	Table       Timing           `json:"table"`             // a sample of the requests
	Turn        Timing           `json:"turn"`              // lock waits and table included
	Watched     int              `json:"watched"`           // the number of locks
	Locks       Contention       `json:"locks"`             // of all of them
	Hottest     []Hot            `json:"hottest,omitempty"` // the most contended, at most 5
	Goroutines  int              `json:"goroutines"`
	Heap        int64            `json:"heap_bytes"`        // objects, dead ones not yet collected included
	PeakMemory  int64            `json:"peak_memory_bytes"` // resident, ever; 0: not known on this system
	CPU         time.Duration    `json:"cpu_ns"`            // user and system; 0: not known on this system
}

// A Hot is a lock that was fought for.
type Hot struct {
	Bucket int `json:"bucket"` // its number by Stats.Watch
	Contention
}

// Sub returns what came since an earlier Snapshot of the same process: counters,
// times and Uptime are the differences. Serving, Open, Watched, Goroutines, Heap,
// PeakMemory and Hottest stay as they are in s.
func (s Snapshot) Sub(earlier Snapshot) Snapshot {
	s.Uptime -= earlier.Uptime
	s.Connections -= earlier.Connections
	s.Requests -= earlier.Requests
	s.Ops -= earlier.Ops
	s.Refusals -= earlier.Refusals
	s.Panics -= earlier.Panics
	s.QueueWait = s.QueueWait.sub(earlier.QueueWait)
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

// Held estimates the share of the time, from 0 to 1, that a watched lock was held, in
// the mean over all of them: acquisitions a second × mean time in the table, which is
// what the lock is held for. Near 0, no lock can matter; near 1, nothing else does.
func (s Snapshot) Held() float64 {
	if s.Uptime <= 0 || s.Watched == 0 {
		return 0
	}
	held := float64(s.Locks.Acquired) * float64(s.Table.Mean()) / float64(s.Uptime) / float64(s.Watched)
	return min(held, 1) // what is sampled can come out too long
}
