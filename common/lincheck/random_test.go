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
		differ := a.Status == wire.Found && !bytes.Equal(a.Value, b.Value)
		return a.Status == b.Status && !differ || a.Status == wire.TooLarge && b.Status == wire.Found
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

func (choose chooser) ops() (ops []wire.Op) {
	for len(ops) == 0 || choose(3) == 0 && len(ops) < 3 {
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

// Check agrees with brute force on many small histories, and on changed ones.
func TestAgainstBruteForce(t *testing.T) {
	const n = 2000
	verdicts := make(map[Verdict]int)
	for seed := range uint64(n) {
		choose := chooser(rand.New(rand.NewPCG(1, seed)).IntN)
		calls := choose.executed(1 + choose(6))
		if verdict, x := Check(t.Context(), calls); verdict != Linearizable {
			t.Fatalf("seed %d: %v, want linearizable:\n%s\n%v", seed, verdict, drawn(calls), x)
		}
		for range 1 + choose(3) {
			choose.mutate(calls)
		}
		verdicts[judge(t, calls)]++
	}
	if verdicts[Linearizable] < n/10 || verdicts[Violated] < n/10 {
		t.Errorf("changed histories: %v, want at least a tenth of %d each", verdicts, n)
	}
}

// A run is a workload of clients of one table.
type run struct {
	calls, keys, clients int // half of the clients are active on average
	tied                 int // keys tied together by batches; 1: no batches
	unknown              int // percentage of calls without an answer
}

// record returns the history of a run and its table. A call takes effect at one time
// between its start and its end. Without an answer it may do so much later, or never.
func (r run) record() ([]Call, *table.Table) {
	rng := rand.New(rand.NewPCG(1, 2))
	shared := table.New(cluster.Work{}, nil)
	calls := make([]Call, r.calls)
	for i := range calls {
		now, most := int64(100*i), int64(50*r.clients)
		c := Call{Client: i, Ops: r.ops(rng, shared, i), Start: now - rng.Int64N(most), End: now + 1 + rng.Int64N(most)}
		if rng.IntN(100) >= r.unknown {
			c.Results = shared.Apply(c.Ops)
		} else if c.Start, c.End = now-rng.Int64N(50*most), Never; rng.IntN(2) == 0 {
			shared.Apply(c.Ops)
		}
		calls[i] = c
	}
	return calls, shared
}

func (r run) ops(rng *rand.Rand, shared *table.Table, number int) (ops []wire.Op) {
	group := rng.IntN(r.keys / r.tied)
	for {
		op := wire.Op{Kind: wire.Get, Key: fmt.Sprintf("key%d", group*r.tied+rng.IntN(r.tied))}
		value := fmt.Appendf(nil, "%d.%d", number, len(ops))
		switch n := rng.IntN(10); {
		case n < 3:
			op.Kind, op.Value = wire.Put, value
		case n < 4:
			op.Kind = wire.Delete
		case n < 5:
			now := shared.Apply([]wire.Op{{Kind: wire.Get, Key: op.Key}})[0]
			op.Kind, op.Value, op.Old = wire.CompareAndSwap, value, now.Value
			op.Absent = now.Status == wire.Missing
		case n < 6:
			op.Kind, op.Value, op.Old = wire.CompareAndSwap, value, value // a mismatch
		}
		ops = append(ops, op)
		if r.tied == 1 || rng.IntN(3) > 0 {
			return ops
		}
	}
}

var runs = []run{
	{calls: 2000, keys: 1000, clients: 8, tied: 1, unknown: 5},
	{calls: 2000, keys: 1000, clients: 8, tied: 4, unknown: 1},
	{calls: 500, keys: 4, clients: 3, tied: 4},
	{calls: 500, keys: 1, clients: 8, tied: 1},
	{calls: 1000, keys: 1000, clients: 8, tied: 1000},
}

// Histories of hundreds of calls are decided in about as many moves, and a violation at
// their end or in their middle is found and explained by one or two calls.
func TestRuns(t *testing.T) {
	for _, r := range runs {
		t.Run(fmt.Sprintf("%+v", r), func(t *testing.T) {
			calls, shared := r.record()
			if got, x := Check(t.Context(), calls); got != Linearizable {
				t.Fatalf("%v, want linearizable\n%v", got, x)
			}
			moves := 0
			for _, group := range split(calls) {
				s := newSearch(t.Context(), group, false, roomToSearch)
				s.run()
				moves += s.moves
			}
			if moves > 3*r.calls {
				t.Errorf("%d moves, want at most %d", moves, 3*r.calls)
			}
			if r.tied == r.keys && r.keys > 100 {
				return // a violation among 1000 tied keys takes too long
			}

			end := int64(100 * (r.calls + r.clients)) // of all calls that have one
			put := shared.Apply([]wire.Op{{Kind: wire.Put, Key: "key0", Value: []byte("x")}})[0].Status
			for name, text := range map[string]string{
				"a swap that cannot have happened": `
					2      |>         cas key0 no q -> ?
					3           |--|  get key0 -> "q"`,
				"a stale read": `
					2      |--|       cas key0 x y -> swapped
					3           |--|  get key0 -> "x"`,
				"a lost update": `
					2      |--|       cas key0 x y -> swapped
					3      |--|       cas key0 x z -> swapped`,
			} {
				last := history(t, fmt.Sprintf("1 |--|  put key0 x -> %v%s", put, text))
				for i := range last {
					last[i].Start += end
					last[i].End += min(end, Never-last[i].End)
				}
				if got, x := Check(t.Context(), slices.Concat(calls, last)); got != Violated || len(x.Calls) > 2 {
					t.Errorf("%s: %v, want violated and at most 2 calls\n%v", name, got, x)
				}
			}

			middle := slices.IndexFunc(calls[r.calls/2:], func(c Call) bool { return c.Results != nil && c.Results[0].Status == wire.Found })
			calls[r.calls/2+middle].Results[0].Value = []byte("never written")
			if got, x := Check(t.Context(), calls); got != Violated || len(x.Calls) > 2 {
				t.Errorf("a value that was never written: %v, want violated and at most 2 calls\n%v", got, x)
			}
		})
	}
}
