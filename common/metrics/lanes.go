package metrics

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

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
	return json.Marshal([3]int64{m.Lane, int64(m.State), int64(m.At)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *LaneMark) UnmarshalJSON(data []byte) error {
	var of [3]int64
	err := json.Unmarshal(data, &of)
	*m = LaneMark{of[0], LaneState(of[1]), time.Duration(of[2])}
	return err
}
