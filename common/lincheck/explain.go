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

// explain makes a counterexample of a violated group of calls. furthest is the latest
// end that the search of the group reached.
func explain(ctx context.Context, calls []Call, furthest int64) *Counterexample {
	e := &explanation{ctx, calls}
	some := e.only(e.minimize(e.near(furthest)))
	x := &Counterexample{Calls: slices.DeleteFunc(slices.Clone(some), func(c Call) bool { return !answered(c) })}
	x.addContext(calls, newSearch(ctx, some, false, 0))
	return x
}

// An explanation is a search for the calls whose answers count, by their indices.
type explanation struct {
	ctx   context.Context
	calls []Call
}

// only returns all calls, with the Results of those that count.
func (e *explanation) only(which []int) []Call {
	some := slices.Clone(e.calls)
	for i := range some {
		some[i].Results = nil
	}
	for _, i := range which {
		some[i].Results = e.calls[i].Results
	}
	return some
}

// violated reports whether some answers are shown to be a violation.
func (e *explanation) violated(which []int, cut bool) bool {
	return e.ctx.Err() == nil && len(which) > 0 && newSearch(e.ctx, e.only(which), cut, roomToExplain).run() == Violated
}

// near returns calls whose answers are a violation, if possible few, the last one first.
// The search got stuck at furthest, so all that started before are enough; mostly the last
// few of them are, so near tries one, and then twice as many each time.
func (e *explanation) near(furthest int64) []int {
	var latest []int
	for i, c := range slices.Backward(e.calls) {
		if answered(c) && c.Start <= furthest {
			latest = append(latest, i)
		}
	}
	n := 1
	for n < len(latest) && !e.violated(latest[:n], true) {
		n *= 2
	}
	return latest[:min(n, len(latest))]
}

// minimize drops the answers that are not needed, from the end of need to its start: halves,
// then quarters, and so on down to single calls. One pass of each size is enough: an
// answer that was needed among many is needed among few.
func (e *explanation) minimize(need []int) []int {
	for size, cut := len(need)/2, true; cut; size /= 2 {
		cut = size > 0 // the last pass is exact, now that few calls are left
		few := max(size, 1)
		for to := len(need); to > 0; to -= few {
			fewer := slices.Concat(need[:max(to-few, 0)], need[to:])
			if e.violated(fewer, cut) {
				need = fewer
			}
		}
	}
	return need
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
