package lincheck

import (
	"context"
	"encoding/binary"
	"math"
	"slices"

	"lockstep/common/wire"
)

// What a key holds. Values are compared with what calls saw or expected, and with
// nothing else, so all that nobody saw are one.
const (
	anything int32 = iota - 1 // absent or a value, of those in search.before
	absent
	other // a value that no call names
	named // and above: the values that calls name
)

// A step is a call as the search takes it.
type step struct {
	id         int32 // its place among the calls
	start, end int64
	ops        []operation
	failed     bool // a CompareAndSwap in it answered Mismatch
	reads      bool // by its answer, it changed nothing
	optional   bool // it took effect or not, and what it answered does not matter
	prev, next *step
}

type operation struct {
	kind   wire.OpKind
	status wire.Status
	key    int32
	value  int32 // Put, CompareAndSwap: what it stores
	seen   int32 // Get: what it found; CompareAndSwap: what it expects
}

// A search looks for an order of calls that explains their answers.
type search struct {
	ctx      context.Context
	keys     map[string]int32
	values   map[string]int32     // those that are named
	todo     step                 // the ring of steps that have no place in the order yet, by start
	left     int                  // how many of them are not optional
	state    []int32              // what each key holds
	before   []map[int32]bool     // what a key that holds anything may hold
	undo     []change             // what the order did to state, to take it back
	open     []*step              // the steps that can be next, of all moves in progress
	visited  map[string][][]int32 // where the search has been, see seen
	buffer   []byte
	room     int   // bytes that visited may still grow by
	moves    int   // so far
	furthest int64 // the latest end that the search got up to
}

type change struct{ key, from int32 }

const (
	roomToSearch  = 256 << 20
	roomToExplain = 8 << 20
)

// newSearch prepares a search that takes calls, in order of Start, by their answers where
// full says so. The others are optional: for ever if their outcome is unknown, or else
// between their Start and End.
//
// With cut it reduces those that are optional between Start and End to what the full ones
// can notice: their keys, the values they name, and in place of what began before the
// first of them, keys that hold anything. That lets more histories pass, never fewer.
func newSearch(ctx context.Context, calls []Call, full []bool, cut bool) *search {
	s := &search{
		ctx: ctx, keys: make(map[string]int32), values: make(map[string]int32),
		visited: make(map[string][][]int32), room: roomToSearch,
	}
	for i, c := range calls {
		if !cut || full[i] || c.End == Never {
			s.name(c, full[i])
		}
	}
	s.state = make([]int32, len(s.keys))
	s.before = make([]map[int32]bool, len(s.keys))
	first := int64(math.MinInt64)
	if cut {
		first = calls[slices.Index(full, true)].Start
	}
	s.todo.next, s.todo.prev = &s.todo, &s.todo
	for i, c := range calls {
		st := s.step(i, c, full[i])
		if len(st.ops) == 0 {
			continue
		}
		if st.start < first {
			s.mayHavePreceded(st)
		}
		if st.end >= first {
			st.prev, st.next = s.todo.prev, &s.todo
			st.prev.next, st.next.prev = st, st
			if !st.optional {
				s.left++
			}
		}
	}
	return s
}

// name makes known the keys of a call, and the values that it saw or expected.
func (s *search) name(c Call, full bool) {
	value := func(v []byte) {
		if _, known := s.values[string(v)]; !known {
			s.values[string(v)] = named + int32(len(s.values))
		}
	}
	for i, op := range c.Ops {
		if _, known := s.keys[op.Key]; !known {
			s.keys[op.Key] = int32(len(s.keys))
		}
		if op.Kind == wire.CompareAndSwap && !op.Absent {
			value(op.Old)
		}
		if full && i < len(c.Results) && c.Results[i].Status == wire.Found {
			value(c.Results[i].Value)
		}
	}
}

func (s *search) step(i int, c Call, full bool) *step {
	value := func(v []byte) int32 {
		if id, known := s.values[string(v)]; known {
			return id
		}
		return other
	}
	st := &step{id: int32(i), start: c.Start, end: c.End, optional: !full, reads: full}
	for j, op := range c.Ops {
		key, known := s.keys[op.Key]
		if !known || !full && op.Kind == wire.Get {
			continue
		}
		o := operation{kind: op.Kind, key: key}
		if op.Kind == wire.Put || op.Kind == wire.CompareAndSwap {
			o.value = value(op.Value)
		}
		if op.Kind == wire.CompareAndSwap && !op.Absent {
			o.seen = value(op.Old)
		}
		if full && len(c.Results) == len(c.Ops) { // or else its status fits nothing
			o.status = c.Results[j].Status
			if o.status == wire.Found {
				o.seen = value(c.Results[j].Value)
			}
		}
		st.failed = st.failed || o.status == wire.Mismatch
		st.reads = st.reads && (op.Kind == wire.Get || op.Kind == wire.Delete && o.status == wire.Missing)
		st.ops = append(st.ops, o)
	}
	st.reads = st.reads || st.failed
	return st
}

// mayHavePreceded lets keys hold what a step may have written, or what they held before.
func (s *search) mayHavePreceded(st *step) {
	for _, o := range st.ops {
		if s.before[o.key] == nil {
			s.before[o.key] = map[int32]bool{absent: true}
		}
		s.before[o.key][o.value] = true // absent for a Delete
		if len(s.before[o.key]) > 1 {
			s.state[o.key] = anything
		}
	}
}

// run looks for an order of the steps that are still to do.
func (s *search) run() Verdict {
	if s.left == 0 {
		return Linearizable
	}
	if s.room < 0 || s.moves%1024 == 0 && s.ctx.Err() != nil {
		return Undecided
	}
	s.moves++

	// Next can be what began before the first end of the others.
	base := len(s.open)
	defer func() { s.open = s.open[:base] }()
	end, soonest := int64(Never), 0
	for st := s.todo.next; st != &s.todo && st.start <= end; st = st.next {
		if st.end < end {
			end, soonest = st.end, len(s.open)-base
		}
		s.open = append(s.open, st)
	}
	open := s.open[base:]
	s.furthest = max(s.furthest, end)

	// If a step that only reads fits, and settles nothing, it does no harm as the next:
	// whoever could go on without it can go on with it. So no other needs to be tried.
	mark := len(s.undo)
	for _, st := range open {
		if st.reads && s.apply(st) {
			if len(s.undo) == mark {
				return s.with(st)
			}
			s.takeBack(mark)
		}
	}
	if s.seen(open) {
		return Violated
	}
	// What ends soonest goes first: then the order follows time for as long as it can.
	open[0], open[soonest] = open[soonest], open[0]
	for _, st := range open {
		if s.apply(st) {
			if v := s.with(st); v != Violated {
				return v
			}
			s.takeBack(mark)
		}
	}
	if open[0].optional && open[0].end != Never {
		return s.with(open[0]) // it did nothing, and its time is over
	}
	return Violated
}

// with runs the search on without a step, whose place is found.
func (s *search) with(st *step) Verdict {
	st.prev.next, st.next.prev = st.next, st.prev
	if !st.optional {
		s.left--
	}
	v := s.run()
	st.prev.next, st.next.prev = st, st
	if !st.optional {
		s.left++
	}
	return v
}

// seen reports whether the search has been here before, or where more was possible, in
// vain; and if not, remembers that it has been.
//
// Which steps are done need not be remembered: all that cannot be next are still to do.
// Steps that never end are kept apart, in ascending order. To have more of them left is
// more than to have fewer, since none of them has to be done.
func (s *search) seen(open []*step) bool {
	key := s.buffer[:0]
	var spare []int32
	for _, value := range s.state {
		key = binary.NativeEndian.AppendUint32(key, uint32(value))
	}
	for _, st := range open {
		if st.end == Never {
			spare = append(spare, st.id)
		} else {
			key = binary.NativeEndian.AppendUint32(key, uint32(st.id))
		}
	}
	s.buffer = key
	for _, had := range s.visited[string(key)] {
		if contains(had, spare) {
			return true
		}
	}
	s.visited[string(key)] = append(s.visited[string(key)], spare)
	s.room -= len(key) + 4*len(spare) + 100
	return false
}

// contains reports whether all of some are among all; both ascend.
func contains(all, some []int32) bool {
	for _, id := range some {
		i, found := slices.BinarySearch(all, id)
		if !found {
			return false
		}
		all = all[i+1:]
	}
	return true
}
