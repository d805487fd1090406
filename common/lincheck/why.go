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
	case claim != "" && claim == again:
		return fmt.Sprintf("%s and %s both %s: only one can have.", client(first), client(second), claim)
	case first.End < second.Start:
		return fmt.Sprintf("%s %s, although %s had %s before that began.", client(second), then, client(first), did)
	}
	return ""
}

// deed says what a call of one operation did, or had done, by its answer; and, if nobody
// can do it again before somebody has undone it, what that is.
func deed(c Call) (did, claim string) {
	op := c.Ops[0]
	name, value, old := key(op.Key, maxText), quote(op.Value, maxText), quote(op.Old, maxText)
	switch r := c.Results[0]; r.Status {
	case wire.Found:
		return "read " + quote(r.Value, maxText) + " from " + name, ""
	case wire.Missing:
		return "found no " + name, ""
	case wire.Replaced:
		return "replaced " + name + " by " + value, ""
	case wire.Deleted:
		return "deleted " + name, "deleted " + name
	case wire.Created:
		return "created " + name + " with " + value, "created " + name
	case wire.Swapped:
		if op.Absent {
			return "created " + name + " with " + value, "created " + name
		}
		if !bytes.Equal(op.Old, op.Value) {
			claim = "swapped " + old + " in " + name + " for another value"
		}
		return "swapped " + old + " in " + name + " for " + value, claim
	case wire.Mismatch:
		if op.Absent {
			return "found that there is a " + name, ""
		}
		return "found " + name + " not to be " + old, ""
	}
	return "found something in " + name, "" // TooLarge
}

// torn says what is wrong with a call that, alone, cannot have been answered so: it read
// what nobody wrote, or saw one part of a request and not another.
func torn(self int, calls []Call) string {
	c := calls[self]
	if len(c.Results) != len(c.Ops) {
		return ""
	}
	const nobody, unclear = -1, -2
	from := make([]int, len(c.Ops)) // who wrote what each operation saw
	for i, op := range c.Ops {
		from[i] = unclear
		var who []int
		switch r := c.Results[i]; {
		case slices.ContainsFunc(c.Ops[:i], func(before wire.Op) bool { return before.Key == op.Key }):
			continue // it may have seen itself
		case r.Status == wire.Missing, r.Status == wire.Created, r.Status == wire.Swapped && op.Absent:
			from[i] = nobody
			continue
		case r.Status == wire.Found:
			who = writers(calls, op.Key, c.End, r.Value)
			if len(who) == 0 {
				return fmt.Sprintf("%s read %s from %s, where nobody had written that.",
					client(c), quote(r.Value, maxText), key(op.Key, maxText))
			}
		case r.Status == wire.Swapped:
			who = writers(calls, op.Key, c.End, op.Old)
		case r.Status == wire.Replaced, r.Status == wire.Deleted:
			who = writers(calls, op.Key, c.End)
		}
		if who = slices.DeleteFunc(who, func(w int) bool { return w == self }); len(who) == 1 {
			from[i] = who[0]
		}
	}
	for i, one := range from {
		for j, two := range from {
			if one < 0 || two == one || two == unclear {
				continue
			}
			a, b := c.Ops[i].Key, c.Ops[j].Key
			if _, ok := written(calls[one], b); !ok {
				continue
			}
			// In b it did not see what one wrote there. Can two have come after one?
			can := true
			if two == nobody {
				can = slices.ContainsFunc(calls, func(other Call) bool {
					op, ok := written(other, b)
					return ok && op.Kind == wire.Delete
				})
			} else if _, overwrites := written(calls[two], a); overwrites || calls[two].End < calls[one].Start {
				can = false
			}
			if !can {
				return fmt.Sprintf("%s saw what a request of %s wrote to %s, but not what the same request wrote to %s.",
					client(c), client(calls[one]), key(a, maxText), key(b, maxText))
			}
		}
	}
	return ""
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

// writers returns the calls that can have left this value, or any, in a key before an end.
func writers(calls []Call, key string, end int64, value ...[]byte) (which []int) {
	for i, c := range calls {
		op, ok := written(c, key)
		if ok && op.Kind != wire.Delete && c.Start < end && (value == nil || bytes.Equal(op.Value, value[0])) {
			which = append(which, i)
		}
	}
	return which
}

// written returns the operation whose effect a call leaves in a key, if it took effect.
func written(c Call, key string) (last wire.Op, ok bool) {
	for i, op := range c.Ops {
		if i < len(c.Results) && (c.Results[i].Status == wire.Mismatch || c.Results[i].Status == wire.Aborted) {
			return wire.Op{}, false // the request did nothing
		}
		if op.Key == key && op.Kind.Writes() {
			last, ok = op, true
		}
	}
	return last, ok
}
