package metrics

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Mutex is a sync.Mutex that counts how often it was taken, how often somebody
// else held it then, and how long was waited for it. The zero Mutex is unlocked.
type Mutex struct {
	mu sync.Mutex

	// Written by the holder of mu alone, so that Load and Store do in place of a
	// dearer Add; atomically, so that Counts reads them without the lock.
	acquired, contended, waited atomic.Int64
}

// Contention is what a Mutex counted, or several together.
type Contention struct {
	Acquired  int64         `json:"acquired"`  // how often the lock was taken
	Contended int64         `json:"contended"` // how often it was not free then
	Waited    time.Duration `json:"waited_ns"` // in all
}

// A Step is what comes after a Yield.
type Step int

const (
	Locking   Step = iota // the goroutine takes a Mutex, once that is free
	Unlocking             // it frees a Mutex
	Working               // it has looked something up, and goes on to act on it
)

// Lock takes the lock, and waits until it is free. Only a wait reads the clock.
func (m *Mutex) Lock() {
	Yield(Locking, m)
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

// Unlock frees the lock. As with a sync.Mutex, it is a fatal error if nobody holds it.
func (m *Mutex) Unlock() {
	Yield(Unlocking, m)
	m.mu.Unlock()
}

// Counts returns what was counted up to now, without waiting for the lock. Whoever
// waits still is not counted yet. Contended is never above Acquired.
func (m *Mutex) Counts() Contention {
	// Lock counts Contended last, so it is read first.
	c := Contention{Contended: m.contended.Load(), Waited: time.Duration(m.waited.Load())}
	c.Acquired = m.acquired.Load()
	return c
}

// Mean is the mean wait of those who had to wait; 0 if nobody had to.
func (c Contention) Mean() time.Duration { return mean(c.Waited, c.Contended) }

func (c Contention) add(o Contention) Contention {
	return Contention{c.Acquired + o.Acquired, c.Contended + o.Contended, c.Waited + o.Waited}
}

func (c Contention) sub(o Contention) Contention {
	return Contention{c.Acquired - o.Acquired, c.Contended - o.Contended, c.Waited - o.Waited}
}
