package lincheck

import (
	"bytes"
	"fmt"
	"slices"

	"lockstep/common/wire"
)

// A few words on what a counterexample shows, for the cases where few words do. They may
// rely on no other call being able to help: nothing came between two calls that
// contradict each other.

func (x *Counterexample) sentence(calls []Call, need []int) string {
	first := x.Calls[0]
	if len(x.Calls) == 1 {
		return torn(need[0], calls)
	}
	second := x.Calls[1]
	if len(x.Calls) > 2 || len(first.Ops) > 1 || len(second.Ops) > 1 || first.Ops[0].Key != second.Ops[0].Key {
		return ""
	}
	did, claim := deed(first)
	then, again := deed(second)
	switch {
	case claim != "" && claim == again && first.Client != second.Client:
		return fmt.Sprintf("%s and %s both %s: only one can have.", client(first), client(second), claim)
	case first.End < second.Start && first.Client == second.Client:
		return fmt.Sprintf("%s %s, although it had %s before.", client(second), then, did)
	case first.End < second.Start:
		return fmt.Sprintf("%s %s, although %s had %s before that began.", client(second), then, client(first), did)
	}
	return ""
}

// deed says what a call of one operation did, or had done, by its answer; and, if nobody
// can do it again before somebody has undone it, what that is.
func deed(c Call) (did, claim string) {
	op := c.Ops[0]
	key, value, old := name(op.Key, maxText), quote(op.Value, maxText), quote(op.Old, maxText)
	switch r := c.Results[0]; r.Status {
	case wire.Found:
		return "read " + quote(r.Value, maxText) + " from " + key, ""
	case wire.Missing:
		return "found no " + key, ""
	case wire.Replaced:
		return "replaced " + key + " by " + value, ""
	case wire.Deleted:
		return "deleted " + key, "deleted " + key
	case wire.Created:
		return "created " + key + " with " + value, "created " + key
	case wire.Swapped:
		if op.Absent {
			return "created " + key + " with " + value, "created " + key
		}
		if !bytes.Equal(op.Old, op.Value) {
			claim = "swapped " + old + " in " + key + " for another value"
		}
		return "swapped " + old + " in " + key + " for " + value, claim
	case wire.Mismatch:
		if op.Absent {
			return "found " + key + " to exist", ""
		}
		return "found " + key + " not to be " + old, ""
	}
	return "found something in " + key, "" // TooLarge
}

// torn says what is wrong with a call that cannot have been answered so whatever the
// others did: it read what nobody wrote, or saw one part of a request and not another.
func torn(self int, calls []Call) string {
	c := calls[self]
	if len(c.Results) != len(c.Ops) {
		return ""
	}
	failed := func(r wire.Result) bool { return r.Status == wire.Mismatch }
	did := func(r wire.Result) bool { return r.Status != wire.Mismatch && r.Status != wire.Aborted }
	if at := slices.IndexFunc(c.Results, did); at >= 0 && slices.ContainsFunc(c.Results, failed) {
		return fmt.Sprintf("A compare of this request failed, so that nothing of it was done, and %s is answered %s all the same.",
			name(c.Ops[at].Key, maxText), c.Results[at].Status)
	}
	guess := ""
	for i, op := range c.Ops {
		if r := c.Results[i]; r.Status == wire.Found {
			value, key := quote(r.Value, maxText), name(op.Key, maxText)
			who := writers(calls, op.Key, c.End, r.Value)
			if len(who) == 0 {
				return fmt.Sprintf("%s read %s from %s, where nobody had written that.", client(c), value, key)
			}
			if last, _ := written(calls[who[0]], op.Key); len(who) == 1 && who[0] != self && !bytes.Equal(last.Value, r.Value) {
				return fmt.Sprintf("%s read %s from %s, which a request of %s wrote, but did not leave there.",
					client(c), value, key, client(calls[who[0]]))
			}
		}
		one := source(self, i, calls)
		for j, also := range c.Ops {
			two := source(self, j, calls)
			if one < 0 || !contradict(calls, one, op.Key, two, also.Key) {
				continue
			}
			text := fmt.Sprintf("%s saw what a request of %s wrote to %s, but not what the same request wrote to %s.",
				client(c), client(calls[one]), name(op.Key, maxText), name(also.Key, maxText))
			if two == nobody || calls[two].End < calls[one].Start {
				return text
			}
			if guess == "" { // either of the two requests may be the one that was seen in part
				guess = text
			}
		}
	}
	return guess
}

// contradict reports whether nobody can see what call one wrote to key a together with
// what call two, or nobody, wrote to key b.
func contradict(calls []Call, one int, a string, two int, b string) bool {
	if _, both := written(calls[one], b); !both || two == one || two == unclear {
		return false // it saw all of one there was, or may have
	}
	if two == nobody {
		return !slices.ContainsFunc(calls, func(c Call) bool {
			op, ok := written(c, b)
			return ok && op.Kind == wire.Delete
		})
	}
	_, overwrites := written(calls[two], a) // so two came first, and one overwrote b
	return calls[two].End < calls[one].Start || overwrites && calls[one].End >= calls[two].Start
}

const nobody, unclear = -1, -2

// source is the call that wrote what an operation of another saw, or nobody, or unclear.
func source(self, i int, calls []Call) int {
	c, op, r := calls[self], calls[self].Ops[i], calls[self].Results[i]
	var who []int
	switch {
	case slices.ContainsFunc(c.Ops[:i], func(before wire.Op) bool { return before.Key == op.Key }):
		return unclear // it may have seen itself
	case r.Status == wire.Missing, r.Status == wire.Created, r.Status == wire.Swapped && op.Absent:
		return nobody
	case r.Status == wire.Found:
		who = writers(calls, op.Key, c.End, r.Value)
	case r.Status == wire.Swapped:
		who = writers(calls, op.Key, c.End, op.Old)
	case r.Status == wire.Replaced, r.Status == wire.Deleted:
		who = writers(calls, op.Key, c.End)
	}
	if who = slices.DeleteFunc(who, func(w int) bool { return w == self }); len(who) == 1 {
		return who[0]
	}
	return unclear
}

// addContext chooses which other calls to show with a counterexample.
func (x *Counterexample) addContext(calls []Call, need []int) {
	const rows = 8 // in all, if there is a choice
	shown := slices.Clone(need)
	end := int64(0)
	for _, c := range x.Calls {
		end = max(end, c.End)
		for i, op := range c.Ops {
			read := wire.Result{}
			if i < len(c.Results) {
				read = c.Results[i]
			}
			if read.Status == wire.Swapped && !op.Absent {
				read.Value = op.Old
			} else if read.Status != wire.Found {
				continue
			}
			who := writers(calls, op.Key, c.End, read.Value)
			if len(who) > 0 && !slices.ContainsFunc(who, func(w int) bool { return slices.Contains(shown, w) }) {
				shown = append(shown, who[len(who)-1])
			}
		}
	}
	for i, c := range slices.Backward(calls) {
		if c.Start > end || slices.Contains(shown, i) || !x.touchedBy(c) {
			continue
		}
		if c.End > x.Calls[0].Start && len(shown) < rows {
			shown = append(shown, i)
		} else {
			x.others++
		}
	}
	slices.Sort(shown[len(need):])
	for _, i := range shown[len(need):] {
		x.Context = append(x.Context, calls[i])
	}
}

// touchedBy reports whether a call can have written to a key of the counterexample.
func (x *Counterexample) touchedBy(c Call) bool {
	for _, needed := range x.Calls {
		for _, op := range needed.Ops {
			if _, ok := written(c, op.Key); ok {
				return true
			}
		}
	}
	return false
}

// writers returns the calls that can have written this value, or any, to a key before an
// end.
func writers(calls []Call, key string, end int64, value ...[]byte) (which []int) {
	for i, c := range calls {
		if _, ok := written(c, key); ok && c.Start < end && slices.ContainsFunc(c.Ops, func(op wire.Op) bool {
			return op.Key == key && (op.Kind == wire.Put || op.Kind == wire.CompareAndSwap) &&
				(value == nil || bytes.Equal(op.Value, value[0]))
		}) {
			which = append(which, i)
		}
	}
	return which
}

// written returns the operation whose effect a call leaves in a key, if it took effect.
func written(c Call, key string) (last wire.Op, ok bool) {
	if slices.ContainsFunc(c.Results, func(r wire.Result) bool { return r.Status == wire.Mismatch }) {
		return wire.Op{}, false // it did nothing
	}
	for _, op := range c.Ops {
		if op.Key == key && op.Kind.Writes() {
			last, ok = op, true
		}
	}
	return last, ok
}
