// Package lincheck decides whether the answers that a server gave are linearizable:
// whether every request can have taken effect as one atomic step, at one moment between
// its start and its end, so that a single table, executing the requests in the order of
// those moments, would have given the same answers (Herlihy and Wing, "Linearizability:
// a correctness condition for concurrent objects", 1990).
//
// It looks for such an order. The next request in it can be any that began before the
// first end among those not yet in it; it is tried against the table, and taken back if
// that leads nowhere (Wing and Gong, "Testing and verifying concurrent objects", 1993).
// What saves the search from trying every order is its memory: two orders of the same
// requests that leave the same table have the same future, and only one of them is
// followed (Lowe, "Testing for linearizability", 2017). And since no two keys have
// anything to do with each other unless a batch, or a chain of batches, ties them
// together, each group of tied keys is checked by itself.
//
// A request without an answer may have taken effect at any time after its start, also
// after everything else, or never, but not twice.
//
// The problem is NP-complete. A few clients on a few keys are decided almost as fast as
// they are read; many that write to one key at the same time, or many writes without an
// answer, may never be, least of all where there is no order. Batches over random keys tie
// all keys into one group: keep them inside small ones.
package lincheck

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"lockstep/common/wire"
)

// Never is the End of a call that was not answered.
const Never = math.MaxInt64

// A Call is one request to one node, as its client saw it. A batch that was split over
// several nodes is several calls: atomic is only each part.
type Call struct {
	Client  int // for people: it is printed, and means nothing else
	Ops     []wire.Op
	Results []wire.Result // nil where the outcome is unknown
	// Start and End are taken from one counter, before the request was sent and after
	// the answer was there. One call precedes another if its End is less than the
	// other's Start. If the outcome is unknown, End counts as Never.
	Start, End int64
}

// A Verdict is what Check found.
type Verdict int

const (
	Undecided    Verdict = iota // the context ended first, or memory did
	Linearizable                // there is an order that explains all answers
	Violated                    // there is none
)

func (v Verdict) String() string {
	return [...]string{"undecided", "linearizable", "violated"}[v]
}

// Check decides whether calls, in any order, are linearizable, from a table in which all
// keys are absent. Only if they are Violated it returns a Counterexample.
//
// Results that are all Unknown are an unknown outcome, as nil is. Results that are all
// NotRun mean that the call did nothing; it is ignored, and so is a call of Gets with
// unknown outcome. TooLarge is taken for any value. Value counts only where the Status is
// Found, and nil is the empty value.
//
// Answers that no table ever gives are a violation: too few results, or too many, the
// status of another kind of operation, Unknown or NotRun among others. Calls that cannot
// have been recorded are a bug of the caller, and panic: without Ops, with an invalid
// Kind, with an End that is not after Start, or answered at Never.
//
// Check is Undecided when ctx ends, or when what it must remember of one group of keys
// takes about 256 MiB. The search holds nothing else that grows with more than the
// number of calls.
func Check(ctx context.Context, calls []Call) (Verdict, *Counterexample) {
	verdict := Linearizable
	for _, group := range split(calls) {
		s := newSearch(ctx, group, answered(group), false)
		switch s.run() {
		case Violated:
			return Violated, explain(ctx, group, s.furthest)
		case Undecided: // but another group may be violated, if there is time to see it
			verdict = Undecided
		}
	}
	return verdict, nil
}

// split returns the calls that matter by groups of keys that batches tie together, each
// in order of Start.
func split(calls []Call) [][]Call {
	calls = relevant(calls)
	parent := make(map[string]string) // a union-find forest of keys
	root := func(key string) string {
		for parent[key] != key {
			parent[key] = parent[parent[key]]
			key = parent[key]
		}
		return key
	}
	for _, c := range calls {
		for _, op := range c.Ops {
			if _, known := parent[op.Key]; !known {
				parent[op.Key] = op.Key
			}
			parent[root(op.Key)] = root(c.Ops[0].Key)
		}
	}
	number := make(map[string]int) // of a group, by its root
	var groups [][]Call
	for _, c := range calls {
		key := root(c.Ops[0].Key)
		n, known := number[key]
		if !known {
			n = len(groups)
			number[key] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], c)
	}
	return groups
}

// relevant returns the calls that can have changed or seen anything, in order of Start,
// those with unknown outcome with nil Results and Never as their End.
func relevant(calls []Call) []Call {
	var some []Call
	for _, c := range calls {
		c.mustBePossible()
		if c.all(wire.NotRun) {
			continue
		}
		if c.Results == nil || c.all(wire.Unknown) {
			if !slices.ContainsFunc(c.Ops, func(op wire.Op) bool { return op.Kind.Writes() }) {
				continue
			}
			c.Results, c.End = nil, Never
		}
		some = append(some, c)
	}
	slices.SortStableFunc(some, func(a, b Call) int { return cmp.Compare(a.Start, b.Start) })
	return some
}

// all reports whether every operation has a result, and each has this status.
func (c *Call) all(status wire.Status) bool {
	return len(c.Results) == len(c.Ops) &&
		!slices.ContainsFunc(c.Results, func(r wire.Result) bool { return r.Status != status })
}

func (c *Call) mustBePossible() {
	switch {
	case len(c.Ops) == 0:
		panic(fmt.Sprintf("lincheck: a call of client %d has no operations", c.Client))
	case c.Start >= c.End:
		panic(fmt.Sprintf("lincheck: a call of client %d starts at %d and ends at %d", c.Client, c.Start, c.End))
	case c.End == Never && c.Results != nil && !c.all(wire.Unknown) && !c.all(wire.NotRun):
		panic(fmt.Sprintf("lincheck: a call of client %d has results and was never answered", c.Client))
	}
	for _, op := range c.Ops {
		if op.Kind < wire.Get || op.Kind > wire.CompareAndSwap {
			panic(fmt.Sprintf("lincheck: a call of client %d has an operation of kind %v", c.Client, op.Kind))
		}
	}
}

// answered says of each call whether its outcome is known.
func answered(calls []Call) []bool {
	known := make([]bool, len(calls))
	for i := range calls {
		known[i] = calls[i].Results != nil
	}
	return known
}
