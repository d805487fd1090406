package lincheck

import (
	"context"
	"slices"

	"lockstep/common/wire"
)

// A Counterexample shows why a history is Violated.
type Counterexample struct {
	// Calls are the calls, in order of Start, whose answers no order explains, whichever
	// of the other calls of the history took effect. No answer can be spared: without
	// any one of them, an order explains the rest.
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
	e := &explanation{ctx, calls, slices.Clone(calls)}
	e.minimize(e.near(furthest))
	x := &Counterexample{Calls: slices.DeleteFunc(slices.Clone(e.some), func(c Call) bool { return !answered(c) })}
	x.addContext(calls, e.some)
	return x
}

// An explanation is a counterexample in the making.
type explanation struct {
	ctx   context.Context
	calls []Call
	some  []Call // calls, without the Results that do not count
}

// violated reports whether the answers that count are shown to be a violation.
func (e *explanation) violated(cut bool) bool {
	if e.ctx.Err() != nil || !slices.ContainsFunc(e.some, answered) {
		return false
	}
	s := newSearch(e.ctx, e.some, cut)
	s.room = roomToExplain
	return s.run() == Violated
}

// near returns calls whose answers are a violation, if possible few. The search got stuck
// at furthest, so all that started before are enough; mostly the last few of them are, so
// near tries one, and then twice as many each time.
func (e *explanation) near(furthest int64) []int {
	var latest []int
	for i, c := range slices.Backward(e.calls) {
		if answered(c) && c.Start <= furthest {
			latest = append(latest, i)
		}
		e.some[i].Results = nil
	}
	for n := 1; ; n *= 2 {
		need := latest[:min(n, len(latest))]
		e.count(need)
		if n >= len(latest) || e.violated(true) {
			return need
		}
	}
}

// count lets the answers of some calls count.
func (e *explanation) count(which []int) {
	for _, i := range which {
		e.some[i].Results = e.calls[i].Results
	}
}

// minimize leaves out all answers that can be spared, the last in need first: halves,
// then quarters, and so on down to single calls. One pass of each size is enough: an
// answer that was needed among many is needed among few.
func (e *explanation) minimize(need []int) {
	for size, cut := len(need)/2, true; cut; size /= 2 {
		cut = size > 0 // the last pass is exact, now that few calls are left
		few := max(size, 1)
		for to := len(need); to > 0; to -= few {
			from := max(to-few, 0)
			for _, i := range need[from:to] {
				e.some[i].Results = nil
			}
			if e.violated(cut) {
				need = slices.Delete(need, from, to)
			} else {
				e.count(need[from:to])
			}
		}
	}
}

// addContext chooses the other calls to show.
func (x *Counterexample) addContext(calls, some []Call) {
	const rows = 8 // in all, not counting calls that wrote what Calls read
	type cell struct{ key, value string }
	read, keys, end := make(map[cell]bool), make(map[string]bool), int64(0)
	for _, c := range x.Calls {
		end = max(end, c.End)
		for i, op := range c.Ops {
			keys[op.Key] = true
			if i < len(c.Results) && c.Results[i].Status == wire.Found {
				read[cell{op.Key, string(c.Results[i].Value)}] = true
			} else if op.Kind == wire.CompareAndSwap && !op.Absent {
				read[cell{op.Key, string(op.Old)}] = true
			}
		}
	}
	for i, c := range slices.Backward(calls) {
		if c.Start > end {
			continue
		}
		wrote, wasRead := false, false
		for _, op := range c.Ops {
			wrote = wrote || op.Kind.Writes() && keys[op.Key]
			if at := (cell{op.Key, string(op.Value)}); op.Kind.Writes() && op.Kind != wire.Delete && read[at] {
				wasRead = true
				delete(read, at) // earlier calls that wrote the same are less likely
			}
		}
		switch {
		case answered(some[i]) || !wrote:
		case wasRead || c.End > x.Calls[0].Start && len(x.Calls)+len(x.Context) < rows:
			x.Context = append(x.Context, c)
		default:
			x.others++
		}
	}
	slices.Reverse(x.Context)
}
