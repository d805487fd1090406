package lincheck

import (
	"cmp"
	"context"
	"slices"
)

// A Counterexample is why a history is Violated.
type Counterexample struct {
	// Calls are those that no order explains, in order of Start. To leave out one is no
	// longer to know whether it took effect, between its Start and End; and if any one
	// of them is left out, there is an order.
	//
	// Just taking calls out of a history would prove nothing: a Get without the Put
	// before it is a violation, whatever history it comes from. These prove that the
	// whole history is violated, whichever of its other calls took effect.
	//
	// If the context ends while they are sought, or a history is too entangled, there
	// may be more of them than it takes.
	Calls []Call

	// Context are other calls, that wrote what Calls read, or wrote to the same keys at
	// the same time. Whether they took effect makes no difference.
	Context []Call

	others int    // calls that are neither, and can have written to the keys of Calls
	why    string // a sentence about what can be seen here, or ""
}

// explain makes a counterexample of a group of calls that is violated, whose search did
// not get past the end of a call at a certain time.
func explain(ctx context.Context, calls []Call, furthest int64) *Counterexample {
	e := &explanation{ctx: ctx, calls: calls, full: make([]bool, len(calls))}
	near := e.near(furthest)

	// There are mostly several, and some say more than others.
	var best *Counterexample
	for range 2 {
		x := new(Counterexample)
		need := e.minimal(slices.Clone(near))
		slices.Sort(need)
		for _, i := range need {
			x.Calls = append(x.Calls, calls[i])
		}
		x.addContext(calls, need)
		x.why = x.sentence(calls, need)
		if best == nil || x.why != "" && best.why == "" {
			best = x
		}
		slices.Reverse(near)
	}
	return best
}

type explanation struct {
	ctx   context.Context
	calls []Call
	full  []bool // by call: its answer counts
}

// violated reports whether it can be shown that the calls whose answers count are
// violated.
func (e *explanation) violated(cut bool) bool {
	if e.ctx.Err() != nil || !slices.Contains(e.full, true) {
		return false
	}
	s := newSearch(e.ctx, e.calls, e.full, cut)
	s.room = roomToExplain
	return s.run() == Violated
}

// near returns calls that are violated by themselves. What is wrong mostly shows by the
// last ones that had started by then, so it takes twice as many of them until it does.
func (e *explanation) near(furthest int64) []int {
	var order []int
	for i, known := range answered(e.calls) {
		if known {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := e.calls[i].Start, e.calls[j].Start
		if a <= furthest && b <= furthest {
			return cmp.Compare(b, a) // backwards from there
		}
		return cmp.Compare(a, b)
	})
	for n := 1; n < len(order); n *= 2 {
		clear(e.full)
		e.count(order[:n], true)
		if e.violated(true) {
			return order[:n]
		}
	}
	return order
}

func (e *explanation) count(which []int, full bool) {
	for _, i := range which {
		e.full[i] = full
	}
}

// minimal leaves out all that can be left out, from the last to the first: by halves,
// quarters, down to single calls. Once is enough: what was needed when there was more is
// needed when there is less.
func (e *explanation) minimal(need []int) []int {
	clear(e.full)
	e.count(need, true)
	leaveOut := func(size int, cut bool) {
		for to := len(need); to > 0; to -= size {
			from := max(to-size, 0)
			e.count(need[from:to], false)
			if e.violated(cut) {
				need = slices.Delete(need, from, to)
			} else {
				e.count(need[from:to], true)
			}
		}
	}
	for size := len(need) / 2; size > 0; size /= 2 {
		leaveOut(size, true)
	}
	leaveOut(1, false) // without the shortcuts, now that there are few
	return need
}
