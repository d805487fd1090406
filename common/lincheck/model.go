package lincheck

import (
	"slices"

	"lockstep/common/wire"
)

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
