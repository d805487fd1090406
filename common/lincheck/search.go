package lincheck

import (
	"context"
	"encoding/binary"
	"math"
	"slices"

	"lockstep/common/wire"
)

// What a key holds. Values are only compared with what calls saw or expected, so all
// values that no call saw or expected are the same.
const (
	anything int32 = iota - 1 // absent or a value, of those in search.before
	absent
	other // a value that no call names
	named // this and above: the values that calls name
)

// A step is a call in the form that the search needs.
type step struct {
	id         int32 // its index in the history
	start, end int64
	ops        []operation
	failed     bool // a CompareAndSwap in it answered Mismatch
	reads      bool // by its answer, it changed nothing
	optional   bool // it took effect or not, and its answer does not matter
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
	values   map[string]int32     // the named ones
	todo     step                 // the ring of steps that are not in the order yet, by start
	state    []int32              // what each key holds; replaced, and never changed in place
	before   map[[2]int32]bool    // a key that holds anything, and a value that it may hold
	visited  map[string][][]int32 // where the search has been, see seen
	room     int                  // bytes that visited may still grow by
	moves    int                  // so far
	furthest int64                // the latest end that the search reached
}

const roomToSearch, roomToExplain = 256 << 20, 8 << 20

// newSearch prepares a search of calls, which are in order of Start. A call without
// Results is optional: it may take effect between its Start and End, or not at all.
//
// With cut, optional calls that end are reduced to what the others can notice: their keys
// and the values they name. Calls that began before the first one with Results are
// replaced by keys that hold anything. This accepts more histories, never fewer.
func newSearch(ctx context.Context, calls []Call, cut bool, room int) *search {
	s := &search{
		ctx: ctx, keys: make(map[string]int32), values: make(map[string]int32),
		before: make(map[[2]int32]bool), visited: make(map[string][][]int32), room: room,
	}
	for i, c := range calls {
		if !cut || c.Results != nil || c.End == Never {
			s.step(i, c, true)
		}
	}
	s.state = make([]int32, len(s.keys))
	first := int64(math.MinInt64)
	if cut {
		first = calls[slices.IndexFunc(calls, answered)].Start
	}
	s.todo.next, s.todo.prev = &s.todo, &s.todo
	for i, c := range calls {
		st := s.step(i, c, false)
		for _, o := range st.ops {
			if st.start < first { // it may have written, or not
				s.state[o.key] = anything
				s.before[[2]int32{o.key, o.value}] = true
			}
		}
		if st.end >= first && len(st.ops) > 0 {
			st.prev, st.next = s.todo.prev, &s.todo
			st.prev.next, st.next.prev = st, st
		}
	}
	return s
}

// step makes a step of a call. When it learns, unknown keys, and the values that the call
// saw or expected, become known; otherwise operations on unknown keys are left out.
func (s *search) step(i int, c Call, learn bool) *step {
	id := func(ids map[string]int32, name string, next, unknown int32) int32 {
		if known, ok := ids[name]; ok {
			return known
		} else if !learn {
			return unknown
		}
		ids[name] = next
		return next
	}
	value := func(v []byte) int32 { return id(s.values, string(v), named+int32(len(s.values)), other) }
	st := &step{id: int32(i), start: c.Start, end: c.End, optional: !answered(c), reads: answered(c)}
	for j, op := range c.Ops {
		o := operation{kind: op.Kind, key: id(s.keys, op.Key, int32(len(s.keys)), -1)}
		if o.key < 0 || st.optional && op.Kind == wire.Get {
			continue
		}
		if op.Kind == wire.CompareAndSwap && !op.Absent {
			o.seen = value(op.Old)
		}
		if len(c.Results) == len(c.Ops) { // otherwise its status fits nothing
			if o.status = c.Results[j].Status; o.status == wire.Found {
				o.seen = value(c.Results[j].Value)
			}
		}
		if !learn && (op.Kind == wire.Put || op.Kind == wire.CompareAndSwap) {
			o.value = value(op.Value)
		}
		st.failed = st.failed || o.status == wire.Mismatch
		st.reads = st.reads && (op.Kind == wire.Get || op.Kind == wire.Delete && o.status == wire.Missing)
		st.ops = append(st.ops, o)
	}
	st.reads = st.reads || st.failed
	return st
}

// run looks for an order of the steps that are still to do.
func (s *search) run() Verdict {
	if s.room < 0 || s.moves%1024 == 0 && s.ctx.Err() != nil {
		return Undecided
	}
	s.moves++

	// The next step can be any that began before the first end of the others.
	var open []*step
	end, soonest := int64(Never), 0
	for st := s.todo.next; st != &s.todo && st.start <= end; st = st.next {
		if st.end < end {
			end, soonest = st.end, len(open)
		}
		open = append(open, st)
	}
	if end == Never { // what is left need not have happened
		return Linearizable
	}
	s.furthest = max(s.furthest, end)

	// A step that only reads, fits, and settles nothing is safe to take next: an order
	// without it here remains possible with it here. So no other step need be tried.
	before := s.state
	for _, st := range open {
		if st.reads && s.apply(st) {
			if slices.Equal(s.state, before) {
				return s.with(st)
			}
			s.state = before
		}
	}
	if s.seen(open) {
		return Violated
	}
	// The step that ends soonest goes first, so that the order follows time as long as it
	// can.
	open[0], open[soonest] = open[soonest], open[0]
	for _, st := range open {
		if s.apply(st) {
			if v := s.with(st); v != Violated {
				return v
			}
			s.state = before
		}
	}
	if open[0].optional {
		return s.with(open[0]) // it did nothing, and its time is over
	}
	return Violated
}

// with continues the search without a step whose place is found.
func (s *search) with(st *step) Verdict {
	st.prev.next, st.next.prev = st.next, st.prev
	v := s.run()
	st.prev.next, st.next.prev = st, st
	return v
}

// seen reports whether the search has already failed from here, or from a place where more
// was possible. If not, it remembers this place.
//
// A place is the state and the open steps: all steps that are not open yet are still to
// do. Steps that never end are listed separately, in ascending order, because having more of
// them left only makes more possible: none of them has to be done.
func (s *search) seen(open []*step) bool {
	place, spare := slices.Clone(s.state), []int32(nil)
	for _, st := range open {
		if st.end == Never {
			spare = append(spare, st.id)
		} else {
			place = append(place, st.id)
		}
	}
	key, _ := binary.Append(nil, binary.NativeEndian, place)
	for _, had := range s.visited[string(key)] {
		isMissing := func(id int32) bool { _, found := slices.BinarySearch(had, id); return !found }
		if !slices.ContainsFunc(spare, isMissing) {
			return true
		}
	}
	s.visited[string(key)] = append(s.visited[string(key)], spare)
	s.room -= 2*len(key) + 4*len(spare) + 100 // the state may be copied once more
	return false
}

// The model of the table. It does not compute answers; it decides whether the state allows
// the answers that a step had.

// apply executes a step, and reports whether it could: whether the answers fit the state
// or, for an optional step, whether it changes the state. If not, the state is unchanged.
func (s *search) apply(st *step) bool {
	before := s.state
	if s.check(st) && (st.failed || s.execute(st)) && (!st.optional || !slices.Equal(s.state, before)) {
		return true
	}
	s.state = before
	return false
}

// check compares the state with what the step expects before it starts. Either every
// CompareAndSwap matches; or the step failed, and each one that answered Mismatch does not
// match, and each one that was Aborted does.
func (s *search) check(st *step) bool {
	for _, o := range st.ops {
		fits := false
		switch {
		case o.kind != wire.CompareAndSwap:
			fits = !st.failed || o.status == wire.Aborted
		case st.failed && o.status == wire.Mismatch:
			fits = s.state[o.key] != o.seen // anything can be something else
		case st.optional, st.failed && o.status == wire.Aborted, !st.failed && o.status == wire.Swapped:
			fits = s.narrow(o.key, o.seen)
		}
		if !fits {
			return false
		}
	}
	return true
}

// execute carries out the operations in order, unless the state rules out an answer.
func (s *search) execute(st *step) bool {
	type answer struct {
		kind   wire.OpKind
		status wire.Status
	}
	for _, o := range st.ops {
		fits := false
		switch (answer{o.kind, o.status}) {
		case answer{wire.Get, wire.Found}:
			fits = s.narrow(o.key, o.seen)
		case answer{wire.Get, wire.Missing}, answer{wire.Put, wire.Created}, answer{wire.Delete, wire.Missing}:
			fits = s.narrow(o.key, absent)
		case answer{wire.Get, wire.TooLarge}, answer{wire.Put, wire.Replaced}, answer{wire.Delete, wire.Deleted}:
			fits = s.state[o.key] != absent // anything can be there
		case answer{wire.CompareAndSwap, wire.Swapped}:
			fits = true // check has compared it
		}
		if !fits && !st.optional {
			return false
		}
		if o.kind.Writes() {
			s.set(o.key, o.value) // absent for a Delete
		}
	}
	return true
}

// narrow reports whether a key can hold a value. If so, from now on it does.
func (s *search) narrow(key, value int32) bool {
	if s.state[key] == anything && (value == absent || s.before[[2]int32{key, value}]) {
		s.set(key, value)
	}
	return s.state[key] == value
}

// set changes a copy of the state, so that a caller that kept the slice can go back to it.
func (s *search) set(key, value int32) {
	if s.state[key] != value {
		s.state = slices.Clone(s.state)
		s.state[key] = value
	}
}
