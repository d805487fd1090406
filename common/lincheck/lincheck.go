// Package lincheck decides whether the answers of a server are linearizable: whether each
// request can have taken effect in one atomic step, at one moment between its start and
// its end, so that a single table that executes the requests in the order of these moments
// gives the same answers (Herlihy and Wing, "Linearizability: a correctness condition for
// concurrent objects", 1990).
//
// It searches for such an order. The next request in the order can be any that began
// before the first end among the remaining ones. The search tries it against the table and
// takes it back if that leads nowhere (Wing and Gong, "Testing and verifying concurrent
// objects", 1993). It remembers where it has been: two orders of the same requests that
// leave the same table have the same future, so only one of them is followed (Lowe,
// "Testing for linearizability", 2017). Keys that no batch, or chain of batches, ties
// together are independent, so each group of tied keys is checked by itself.
//
// A request without an answer may have taken effect at any time after its start, even
// after all others, or never, but not twice.
//
// The problem is NP-complete. Histories of a few clients on a few keys are decided almost
// as fast as they are read. Many concurrent writes to one key, or many writes without an
// answer, may take too long, especially where there is no order. Batches over random keys
// tie all keys into one group; keep batches within small groups of keys.
package lincheck

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"lockstep/common/wire"
)

// Never is the End of a call that was not answered.
const Never = math.MaxInt64

// A Call is one request to one node, as its client saw it. A batch that was split over
// several nodes is several calls, since only each part is atomic.
type Call struct {
	Client  int // only printed
	Ops     []wire.Op
	Results []wire.Result // nil where the outcome is unknown
	// Start and End come from one counter, read before the request was sent and after
	// the answer arrived. One call precedes another if its End is less than the other's
	// Start. If the outcome is unknown, End counts as Never.
	Start, End int64
}

// A Verdict is what Check found.
type Verdict int

const (
	Undecided    Verdict = iota // the context ended first, or memory did
	Linearizable                // an order explains all answers
	Violated                    // no order does
)

func (v Verdict) String() string {
	return [...]string{"undecided", "linearizable", "violated"}[v]
}

// Check decides whether calls are linearizable, starting from an empty table. The calls
// may be given in any order. Check returns a Counterexample only if they are Violated.
//
// Results that are all Unknown are an unknown outcome, like nil. Results that are all
// NotRun mean that the call did nothing. Check ignores such a call, and also a call of
// Gets alone with unknown outcome. TooLarge stands for any value. Value counts only where
// the Status is Found; nil is the empty value.
//
// Answers that no table gives are a violation: too few or too many results, the status of
// another kind of operation, Unknown or NotRun among other statuses. Calls that cannot have
// been recorded are a bug in the caller, and Check panics: a call without Ops, with an
// invalid Kind, with an End not after its Start, or with an answer at Never.
//
// Check is Undecided when ctx ends, or when the search of one group of keys has about
// 256 MiB to remember. All other memory is proportional to the number of calls.
func Check(ctx context.Context, calls []Call) (Verdict, *Counterexample) {
	verdict := Linearizable
	for _, group := range split(calls) {
		s := newSearch(ctx, group, false, roomToSearch)
		switch s.run() {
		case Violated:
			return Violated, explain(ctx, group, s.furthest)
		case Undecided: // another group may still be violated
			verdict = Undecided
		}
	}
	return verdict, nil
}

// split returns the relevant calls, one slice for each group of keys that batches tie
// together, in order of Start.
func split(calls []Call) [][]Call {
	calls = relevant(calls)
	parent := make(map[string]string) // a union-find forest of keys; a root has no parent
	root := func(key string) string {
		for p, ok := parent[key]; ok; p, ok = parent[key] {
			key = p
		}
		return key
	}
	for _, c := range calls {
		for _, op := range c.Ops {
			if a, b := root(op.Key), root(c.Ops[0].Key); a != b {
				parent[a] = b
			}
		}
	}
	groups := make(map[string][]Call) // by root
	for _, c := range calls {
		key := root(c.Ops[0].Key)
		groups[key] = append(groups[key], c)
	}
	return slices.SortedFunc(maps.Values(groups), func(a, b []Call) int { return cmp.Compare(a[0].Start, b[0].Start) })
}

// relevant returns the calls that can have changed or seen anything, in order of Start.
// Calls with unknown outcome have nil Results, and end at Never.
func relevant(calls []Call) []Call {
	var some []Call
	for _, c := range calls {
		badKind := func(op wire.Op) bool { return op.Kind < wire.Get || op.Kind > wire.CompareAndSwap }
		if len(c.Ops) == 0 || slices.ContainsFunc(c.Ops, badKind) || c.Start >= c.End ||
			c.End == Never && c.Results != nil && !c.all(wire.Unknown) && !c.all(wire.NotRun) {
			panic(fmt.Sprintf("lincheck: a call that cannot have been recorded: %+v", c))
		}
		if !answered(c) || c.all(wire.Unknown) {
			c.Results, c.End = nil, Never
		}
		writes := slices.ContainsFunc(c.Ops, func(op wire.Op) bool { return op.Kind.Writes() })
		if !c.all(wire.NotRun) && (writes || answered(c)) {
			some = append(some, c)
		}
	}
	slices.SortStableFunc(some, func(a, b Call) int { return cmp.Compare(a.Start, b.Start) })
	return some
}

// all reports whether every operation has a result with this status.
func (c *Call) all(status wire.Status) bool {
	return len(c.Results) == len(c.Ops) &&
		!slices.ContainsFunc(c.Results, func(r wire.Result) bool { return r.Status != status })
}

// answered reports whether the outcome of a relevant call is known.
func answered(c Call) bool { return c.Results != nil }

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
