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
	"strconv"
	"strings"

	"lockstep/common/text"
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

func (v Verdict) String() string { return [...]string{"undecided", "linearizable", "violated"}[v] }

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
	violated := func(which []int, cut bool) bool {
		return ctx.Err() == nil && len(which) > 0 && newSearch(ctx, only(calls, which), cut, roomToExplain).run() == Violated
	}

	// The search got stuck at furthest, so the answers to all calls that started before are
	// a violation. Mostly those to the last few are: try one, and then twice as many each time.
	var latest []int
	for i, c := range slices.Backward(calls) {
		if answered(c) && c.Start <= furthest {
			latest = append(latest, i)
		}
	}
	n := 1
	for n < len(latest) && !violated(latest[:n], true) {
		n *= 2
	}

	// Drop the answers that are not needed, from the end to the start: halves, then quarters,
	// and so on down to single calls. One pass of each size is enough: an answer that was
	// needed among many is needed among few.
	need := latest[:min(n, len(latest))]
	for size, cut := len(need)/2, true; cut; size /= 2 {
		cut = size > 0 // the last pass is exact, now that few calls are left
		few := max(size, 1)
		for to := len(need); to > 0; to -= few {
			if fewer := slices.Concat(need[:max(to-few, 0)], need[to:]); violated(fewer, cut) {
				need = fewer
			}
		}
	}

	some := only(calls, need)
	x := &Counterexample{Calls: slices.DeleteFunc(slices.Clone(some), func(c Call) bool { return !answered(c) })}
	x.addContext(calls, newSearch(ctx, some, false, 0))
	return x
}

// only returns all calls, with the Results of those that count.
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

const (
	barsWidth = 30
	maxRows   = 12 // calls drawn; the last ones, if a counterexample has more
	maxOps    = 16 // operations of a batch drawn
	maxText   = 24 // bytes of a key or a value drawn
	minText   = 6  // likewise, on a line that is too long
)

// String draws the counterexample as a timeline with a row for each call. From left to
// right it shows the order in which calls started and ended, not how long they took. No
// line has more than 80 columns.
func (x *Counterexample) String() string {
	head := "No order explains " + text.Plural(int64(len(x.Calls)), "call")
	if len(x.Context) > 0 {
		head += " |--|, whether or not the others |..| took effect"
	}
	var rows []row
	for _, c := range x.Calls[max(0, len(x.Calls)-maxRows):] {
		rows = append(rows, row{c, "-"})
	}
	for _, c := range x.Context[:min(len(x.Context), maxRows-len(rows))] {
		rows = append(rows, row{c, "."})
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.Start, b.Start) })

	names := 0
	var times []int64 // at which calls start or end, a column each
	for _, r := range rows {
		names = max(names, len(r.client()))
		times = append(times, r.Start, r.End)
	}
	times = slices.Compact(slices.Sorted(slices.Values(times)))
	wide := min(3, max(1, barsWidth/len(times)))
	column := func(time int64) int { i, _ := slices.BinarySearch(times, time); return i * wide }
	var b strings.Builder
	b.WriteString(text.Wrap(head+":", text.Columns) + "\n")
	for _, r := range rows {
		label := fmt.Sprintf("%-*s  %-*s  ", names, r.client(), (len(times)-1)*wide+1, r.bar(column))
		for _, line := range r.operations(text.Columns - len(label)) {
			b.WriteString(text.Quote(label+line, text.Columns) + "\n")
			label = strings.Repeat(" ", len(label))
		}
	}
	if hidden := len(x.Calls) + len(x.Context) + x.others - len(rows); hidden > 0 {
		fmt.Fprintf(&b, "\nNot shown: %s on these keys.\n", text.Plural(int64(hidden), "call"))
	}
	return b.String()
}

// A row is a call as it is drawn, its bar made of line.
type row struct {
	Call
	line string
}

func (r row) client() string { return fmt.Sprintf("client %d", r.Client) }

func (r row) bar(column func(time int64) int) string {
	from, to := column(r.Start), column(r.End)
	end := map[bool]string{false: "|", true: ">"}
	return strings.Repeat(" ", from) + "|" + strings.Repeat(r.line, to-from-1) + end[r.End == Never]
}

// operations describes a call, one operation a line, a batch in braces. Keys and values
// are shortened as far as needed to fit a line into width.
func (r row) operations(width int) (lines []string) {
	for i := range r.Ops[:min(len(r.Ops), maxOps)] {
		limit := maxText
		for limit > minText && len(r.operation(i, limit)) > width-len("{  }") {
			limit -= 3
		}
		lines = append(lines, r.operation(i, limit))
	}
	if hidden := len(r.Ops) - maxOps; hidden > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", hidden))
	}
	if r.Results != nil && len(r.Results) != len(r.Ops) {
		lines = append(lines, fmt.Sprintf("(%d answered of %d)", len(r.Results), len(r.Ops)))
	}
	if len(lines) == 1 {
		return lines
	}
	return strings.Split("{ "+strings.Join(lines, "\n  ")+" }", "\n")
}

func (r row) operation(i, limit int) string {
	answer := "?"
	if len(r.Results) == len(r.Ops) {
		if answer = r.Results[i].Status.String(); r.Results[i].Status == wire.Found {
			answer = text.Quote(strconv.QuoteToASCII(string(r.Results[i].Value)), limit)
		}
	}
	return r.Ops[i].Text(limit) + " -> " + answer
}
