package metrics

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Mutex is a sync.Mutex that counts how often it was taken, how often it was not free
// then, and how long callers waited for it. The zero Mutex is unlocked.
type Mutex struct {
	mu sync.Mutex

	// Written only by the holder of mu, so that Load and Store can replace the more
	// expensive Add; atomic, so that Counts can read them without the lock.
	acquired, contended, waited atomic.Int64
}

// Contention is what one Mutex counted, or several together.
type Contention struct {
	Acquired  int64         `json:"acquired"`  // how often the lock was taken
	Contended int64         `json:"contended"` // how often it was not free then
	Waited    time.Duration `json:"waited_ns"` // by all callers together
}

// A Step is what a goroutine does after a Yield.
type Step int

const (
	Locking   Step = iota // it takes a Mutex once that is free
	Unlocking             // it frees a Mutex
	Working               // it acts on what it has looked up
)

// Lock waits until the lock is free and takes it. It reads the clock only if it waits.
func (m *Mutex) Lock() {
	if Interleaved {
		Yield(Locking, m)
	}
	if m.mu.TryLock() {
		m.acquired.Store(m.acquired.Load() + 1)
		return
	}
	start := Now()
	m.mu.Lock()
	m.acquired.Store(m.acquired.Load() + 1)
	m.contended.Store(m.contended.Load() + 1)
	m.waited.Store(m.waited.Load() + int64(Now()-start))
}

// Unlock frees the lock. As with a sync.Mutex, it is a fatal error if m is not locked.
func (m *Mutex) Unlock() {
	if Interleaved {
		Yield(Unlocking, m)
	}
	m.mu.Unlock()
}

// Counts returns the counts up to now, without waiting for the lock. A caller that is
// still waiting is not counted yet. Contended is never above Acquired.
func (m *Mutex) Counts() Contention {
	// Lock counts Acquired first, so it is read last: calls are evaluated in their order.
	return Contention{Contended: m.contended.Load(), Waited: time.Duration(m.waited.Load()), Acquired: m.acquired.Load()}
}

// Mean returns the mean wait of the callers that had to wait, or 0 if none had to.
func (c Contention) Mean() time.Duration { return mean(c.Waited, c.Contended) }

func (c Contention) sub(o Contention) Contention {
	return Contention{c.Acquired - o.Acquired, c.Contended - o.Contended, c.Waited - o.Waited}
}

// A Timer adds up how long something took, and counts how often. It is safe for
// concurrent use; the zero Timer is ready to use.
type Timer struct {
	count, total atomic.Int64
}

// Add counts one occurrence, which took d.
func (t *Timer) Add(d time.Duration) {
	t.count.Add(1)
	t.total.Add(int64(d))
}

// Load returns the sums up to now. An Add at the same time may be in one of the two
// figures and not yet in the other.
func (t *Timer) Load() Timing {
	return Timing{Count: t.count.Load(), Total: time.Duration(t.total.Load())}
}

// A Timing is what a Timer has added up.
type Timing struct {
	Count int64         `json:"count"`
	Total time.Duration `json:"total_ns"`
}

// Mean returns the mean time, or 0 if there is none.
func (t Timing) Mean() time.Duration { return mean(t.Total, t.Count) }

func (t Timing) sub(o Timing) Timing { return Timing{t.Count - o.Count, t.Total - o.Total} }

// sleepUntil sleeps again until the clock says that it is time: on Windows, a sleep can
// end early.
func sleepUntil(end time.Duration, now func() time.Duration, sleep func(time.Duration)) {
	for rest := end - now(); rest > 0; rest = end - now() {
		sleep(rest)
	}
}

func mean(total time.Duration, n int64) time.Duration {
	if n == 0 {
		return 0
	}
	return total / time.Duration(n)
}

// A Tally counts things of several kinds. A nil Tally has counted none.
type Tally map[string]int64

// Add adds what o has counted.
func (t *Tally) Add(o Tally) {
	if *t == nil && o != nil {
		*t = make(Tally)
	}
	for kind, n := range o {
		(*t)[kind] += n
	}
}

// Sum returns how many things were counted.
func (t Tally) Sum() (sum int64) {
	for _, n := range t {
		sum += n
	}
	return sum
}
