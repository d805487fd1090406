package lincheck

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// explained is the definition of linearizable, by brute force: it reports whether an order
// of the calls gives all answers when a real table executes them after those that are done.
// A call without Results may take effect before its End, or not.
func explained(calls []Call, done ...[]wire.Op) bool {
	if !slices.ContainsFunc(calls, answered) {
		return true
	}
	for i, next := range calls {
		rest := slices.Delete(slices.Clone(calls), i, i+1)
		late := func(c Call) bool { return c.End < next.Start } // cannot come after it
		if slices.ContainsFunc(rest, func(c Call) bool { return answered(c) && late(c) }) {
			continue
		}
		after := append(slices.Clip(done), next.Ops)
		if (!answered(next) || same(next.Results, execute(after...))) && explained(slices.DeleteFunc(rest, late), after...) {
			return true
		}
	}
	return false
}

// execute returns how a real table answers the last of some requests.
func execute(requests ...[]wire.Op) (results []wire.Result) {
	t := table.New(cluster.Work{}, nil)
	for _, ops := range requests {
		results = t.Apply(ops)
	}
	return results
}

func same(got, want []wire.Result) bool {
	return slices.EqualFunc(got, want, func(a, b wire.Result) bool {
		if a.Status == wire.TooLarge && b.Status == wire.Found {
			return true
		}
		return a.Status == b.Status && (a.Status != wire.Found || bytes.Equal(a.Value, b.Value))
	})
}

// A chooser makes small histories of few keys and few values, so that calls interfere.
// It returns a number below n.
type chooser func(n int) int

func (choose chooser) op() wire.Op {
	op := wire.Op{Kind: wire.OpKind(1 + choose(4)), Key: string(rune('a' + choose(2)))}
	if op.Kind == wire.Put || op.Kind == wire.CompareAndSwap {
		op.Value = choose.value()
	}
	if op.Kind == wire.CompareAndSwap {
		if op.Absent = choose(3) == 0; !op.Absent {
			op.Old = choose.value()
		}
	}
	return op
}

func (choose chooser) value() []byte {
	return [][]byte{[]byte("1"), []byte("2"), []byte("3"), {}, nil}[choose(5)]
}

func (choose chooser) ops() []wire.Op {
	ops := []wire.Op{choose.op()}
	for choose(3) == 0 && len(ops) < 3 {
		ops = append(ops, choose.op())
	}
	return ops
}

// executed returns the history of a real table: each call took effect at one time between
// its start and end, or has no answer.
func (choose chooser) executed(n int) []Call {
	calls := make([]Call, n)
	shared := table.New(cluster.Work{}, nil)
	for i := range calls {
		now := int64(10 * i)
		c := Call{Client: i, Ops: choose.ops(), Start: now - int64(choose(25)), End: now + 1 + int64(choose(25))}
		fate := choose(8)
		if fate > 0 { // otherwise it never takes effect
			c.Results = shared.Apply(c.Ops)
		}
		if fate < 2 { // not answered
			c.Results, c.End = nil, Never
		}
		calls[i] = c
	}
	return calls
}

// mutate changes one detail.
func (choose chooser) mutate(calls []Call) {
	c := &calls[choose(len(calls))]
	switch choose(5) {
	case 0, 1:
		if c.Results != nil {
			r := &c.Results[choose(len(c.Results))]
			*r = wire.Result{Status: wire.Status(1 + choose(int(wire.Unknown)-1)), Value: choose.value()}
		}
	case 2:
		by := int64(choose(100)) - 50
		c.Start += by
		if c.End != Never {
			c.End += by
		}
	case 3:
		c.Ops[choose(len(c.Ops))] = choose.op()
	case 4:
		c.End = c.Start + 1
		if c.Results == nil {
			c.Results = execute(c.Ops)
		}
	}
}

// judge compares Check with the definition, and a counterexample with what its
// documentation promises.
func judge(t *testing.T, calls []Call) Verdict {
	t.Helper()
	got, x := Check(t.Context(), calls)
	if want := map[bool]Verdict{true: Linearizable, false: Violated}[explained(calls)]; got != want || (x != nil) != (got == Violated) {
		t.Fatalf("%v, want %v, with counterexample %v:\n%s", got, want, x, drawn(calls))
	}
	if x == nil {
		return got
	}
	if verdict, _ := Check(t.Context(), slices.Concat(x.Calls, x.Context)); verdict != Violated {
		t.Fatalf("the counterexample\n%v\nis itself %v; of\n%s", x, verdict, drawn(calls))
	}
	only := func(some []Call) []Call { // all calls, with the answers of some
		all := slices.Clone(calls)
		for i, c := range all {
			if !slices.ContainsFunc(some, func(s Call) bool { return s.Client == c.Client && s.Start == c.Start }) {
				all[i].Results = nil
			}
		}
		return all
	}
	if explained(only(x.Calls)) {
		t.Fatalf("the counterexample\n%v\nproves nothing about\n%s", x, drawn(calls))
	}
	for i, c := range x.Calls {
		if !explained(only(slices.Delete(slices.Clone(x.Calls), i, i+1))) {
			t.Fatalf("the counterexample\n%v\ndoes not need client %d; of\n%s", x, c.Client, drawn(calls))
		}
	}
	return got
}

// drawn returns a history as text.
func drawn(calls []Call) string { return fmt.Sprint(&Counterexample{Calls: calls}) }

// Check agrees with brute force on thousands of small histories, and on changed ones.
func TestAgainstBruteForce(t *testing.T) {
	n := 5000
	if testing.Short() {
		n = 1000
	}
	verdicts := make(map[Verdict]int)
	for seed := range n {
		choose := chooser(rand.New(rand.NewPCG(1, uint64(seed))).IntN)
		calls := choose.executed(1 + choose(6))
		if verdict, x := Check(t.Context(), calls); verdict != Linearizable {
			t.Fatalf("seed %d: %v, want linearizable:\n%s\n%v", seed, verdict, drawn(calls), x)
		}
		for range 1 + choose(3) {
			choose.mutate(calls)
		}
		verdicts[judge(t, calls)]++
	}
	t.Logf("changed histories: %v", verdicts)
	if verdicts[Linearizable] < n/10 || verdicts[Violated] < n/10 {
		t.Errorf("changed histories: %v, want at least a tenth of %d each", verdicts, n)
	}
}
