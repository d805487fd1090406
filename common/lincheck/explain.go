package lincheck

import (
	"context"
	"slices"
)

// A Counterexample shows why a history is Violated.
type Counterexample struct {
	// Calls are the calls, in order of Start, whose answers no order explains, whichever
	// of the other calls of the history took effect. Every answer is needed: without any
	// one of them, an order explains the rest.
	//
	// That is more than a history of Calls alone would show: a Get without the Put
	// before it is a violation, whatever history it was taken from.
	//
	// Calls may hold more than is needed if the context ends during the search, or if
	// the history is too entangled.
	Calls []Call

	// Context are other calls, in order of Start, that help to read the counterexample:
	// those that wrote what Calls read, and those that wrote to the same keys at the
	// same time. Whether they took effect makes no difference.
	Context []Call

	others int // calls in neither that may have written to the same keys
}

// explain makes a counterexample of a violated group of calls. It drops the answers that are
// not needed, from the first one on: halves of them, then quarters, and so on down to single
// ones. One pass of each size is enough: an answer that was needed among many is needed among few.
func explain(ctx context.Context, calls []Call) *Counterexample {
	var need []int // the calls whose answers count, the last one first
	for i, c := range slices.Backward(calls) {
		if answered(c) {
			need = append(need, i)
		}
	}
	for size, cut := len(need)/2, true; cut; size /= 2 {
		cut = size > 0 // the last pass is exact, now that few calls are left
		few := max(size, 1)
		for to := len(need); to > 0; to -= few {
			fewer := slices.Concat(need[:max(to-few, 0)], need[to:])
			if ctx.Err() == nil && len(fewer) > 0 && newSearch(ctx, only(calls, fewer), cut, roomToExplain).run() == Violated {
				need = fewer
			}
		}
	}
	some := only(calls, need)
	x := &Counterexample{Calls: slices.DeleteFunc(slices.Clone(some), func(c Call) bool { return !answered(c) })}
	x.addContext(calls, newSearch(ctx, some, false, 0))
	return x
}

// only returns all calls, with the Results of those that count, by their indices.
func only(calls []Call, which []int) []Call {
	some := slices.Clone(calls)
	for i := range some {
		some[i].Results = nil
	}
	for _, i := range which {
		some[i].Results = calls[i].Results
	}
	return some
}

// addContext chooses the other calls to show. s has a step for each call, optional unless
// its answer counts.
func (x *Counterexample) addContext(calls []Call, s *search) {
	const rows = 8 // in all, not counting calls that wrote what Calls read
	read, keys, end := make(map[[2]int32]bool), make(map[int32]bool), int64(0)
	for st := s.todo.next; st != &s.todo; st = st.next {
		if !st.optional {
			end = max(end, st.end)
			for _, o := range st.ops {
				keys[o.key], read[[2]int32{o.key, o.seen}] = true, o.seen != absent
			}
		}
	}
	for st := s.todo.prev; st != &s.todo; st = st.prev {
		wrote, wasRead := false, false
		for _, o := range st.ops {
			wrote = wrote || o.kind.Writes() && keys[o.key]
			if at := [2]int32{o.key, o.value}; read[at] && st.start <= end {
				wasRead = true
				delete(read, at) // earlier calls that wrote the same are less likely
			}
		}
		switch {
		case !st.optional || !wrote || st.start > end:
		case wasRead || st.end > x.Calls[0].Start && len(x.Calls)+len(x.Context) < rows:
			x.Context = append(x.Context, calls[st.id])
		default:
			x.others++
		}
	}
	slices.Reverse(x.Context)
}
