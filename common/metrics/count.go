package metrics

import (
	"encoding/json"
	"maps"
	"slices"
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

// Yield marks where a goroutine could lose the processor between two steps that matter:
// before it takes or frees a Mutex, and inside a table, between look-up and effect. It is
// called only in a program that is Interleaved. A scheduler takes its place, while no other
// goroutine runs, and decides which one continues.
var Yield = func(step Step, m *Mutex) {}

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

// A LaneState is what the connection of a lane is doing.
type LaneState int

const (
	Idle     LaneState = iota // no request has arrived
	Queued                    // a request has arrived and waits for a worker
	Awaiting                  // it is decoded and waits for its locks
	InTable                   // it is executed under them
	Writing                   // its answer is encoded and written
	LaneStates
)

// A LaneMark says what a lane does from a moment on. Lanes are numbered as the connections
// of the server are.
type LaneMark struct {
	Lane  int64
	State LaneState
	At    time.Duration // since the recording began
}

const (
	// LaneTime is the length of a recording. It is preceded by as much time again, which shows
	// what each lane is doing when the recording begins.
	LaneTime = 16 * time.Millisecond

	maxMarks = 2000 // of a recording: they fit a control message
)

// Lanes records, on demand, what each connection of a server is doing. While nobody asks,
// a mark costs an atomic load. The zero Lanes is ready to use.
type Lanes struct {
	asking sync.Mutex // held while recording: one at a time
	now    atomic.Pointer[Recording]
}

// A Recording takes marks. Mark and Begin do nothing to a nil *Recording.
type Recording struct {
	began time.Duration
	lanes sync.Map // int64, by request: the address of its first operation

	mu    sync.Mutex          // guards what follows
	first map[int64]LaneState // what each lane is doing when it begins
	marks []LaneMark
}

// Record returns what each lane is doing when the recording begins, as marks at 0 in the order
// of the lanes, and then the marks made during LaneTime, in order; at most 2000 in all.
func (l *Lanes) Record() []LaneMark {
	l.asking.Lock()
	defer l.asking.Unlock()
	r := &Recording{began: Now() + LaneTime, first: make(map[int64]LaneState)}
	l.now.Store(r)
	Sleep(2 * LaneTime)
	l.now.Store(nil)
	r.mu.Lock() // late marks may still come
	defer r.mu.Unlock()
	var marks []LaneMark
	for _, lane := range slices.Sorted(maps.Keys(r.first)) {
		marks = append(marks, LaneMark{Lane: lane, State: r.first[lane]})
	}
	marks = append(marks, r.marks...)
	return marks[:min(len(marks), maxMarks)]
}

// Recording returns the recording in progress, or nil.
func (l *Lanes) Recording() *Recording { return l.now.Load() }

// Mark notes what a lane does from now on.
func (r *Recording) Mark(lane int64, state LaneState) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch at := Now() - r.began; {
	case at <= 0:
		r.first[lane] = state
	case at <= LaneTime && len(r.marks) < maxMarks:
		r.marks = append(r.marks, LaneMark{lane, state, at})
	}
}

// Begin notes that a lane's request is decoded. Until its next Begin, request stands for it.
func (r *Recording) Begin(lane int64, request any) {
	if r != nil {
		r.lanes.Store(request, lane)
		r.Mark(lane, Awaiting)
	}
}

// MarkRequest is Mark for the lane of a request that has begun.
func (r *Recording) MarkRequest(request any, state LaneState) {
	if lane, ok := r.lanes.Load(request); ok {
		r.Mark(lane.(int64), state)
	}
}

// MarshalJSON writes a mark as [lane, state, nanoseconds], so that 2000 fit a message.
func (m LaneMark) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]any{m.Lane, m.State, m.At})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *LaneMark) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[3]any{&m.Lane, &m.State, &m.At})
}
