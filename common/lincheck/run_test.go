package lincheck

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A run is what clients of one table make: each starts a call, later it takes effect,
// later the client has the answer and starts another.
type run struct {
	calls, keys, clients int
	tied                 int // keys that batches tie together; 1: no batches
	unknown              int // percent of calls that are not answered
}

func (r run) String() string {
	return fmt.Sprintf("calls=%d/keys=%d/clients=%d/tied=%d/unknown=%d", r.calls, r.keys, r.clients, r.tied, r.unknown)
}

// record returns the history of a run, and the table it was made with.
func (r run) record() ([]Call, *table.Table) {
	rng := rand.New(rand.NewPCG(1, 2))
	shared := table.New(cluster.Work{}, nil)
	calls := make([]Call, 0, r.calls)
	current := make([]*Call, r.clients)
	results := make([][]wire.Result, r.clients)
	var late [][]wire.Op // what nobody waits for, and may take effect at any time
	for now := int64(1); len(calls) < r.calls || slices.ContainsFunc(current, func(c *Call) bool { return c != nil }); now++ {
		if i := rng.IntN(100); i < len(late) {
			shared.Apply(late[i])
			late = slices.Delete(late, i, i+1)
		}
		client := rng.IntN(r.clients)
		switch c := current[client]; {
		case c == nil && len(calls) < r.calls:
			ops := r.ops(rng, shared, len(calls))
			calls = append(calls, Call{Client: client, Ops: ops, Start: now, End: Never})
			if rng.IntN(100) >= r.unknown {
				current[client] = &calls[len(calls)-1]
			} else if rng.IntN(2) == 0 {
				late = append(late, ops)
			}
		case c == nil:
		case results[client] == nil:
			results[client] = shared.Apply(c.Ops)
		default:
			c.Results, c.End = results[client], now
			current[client], results[client] = nil, nil
		}
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
		}
		ops = append(ops, op)
		if r.tied == 1 || rng.IntN(3) > 0 {
			return ops
		}
	}
}

var runs = []run{
	{calls: 10000, keys: 1000, clients: 8, tied: 1},
	{calls: 10000, keys: 1000, clients: 8, tied: 1, unknown: 5},
	{calls: 10000, keys: 1000, clients: 8, tied: 4, unknown: 1},
	{calls: 3000, keys: 4, clients: 3, tied: 4},
	{calls: 3000, keys: 1, clients: 8, tied: 1},
	{calls: 3000, keys: 1000, clients: 8, tied: 1000},
}

// Histories of thousands of calls must be decided in about as many moves, and 10 000 of
// them over 1 000 keys in far less than 2 s; and what goes wrong after them must be seen
// and explained.
func TestRuns(t *testing.T) {
	for _, r := range runs {
		t.Run(r.String(), func(t *testing.T) {
			calls, shared := r.record()
			began := time.Now()
			if got, x := Check(t.Context(), calls); got != Linearizable {
				t.Fatalf("%v, want linearizable\n%v", got, x)
			}
			t.Logf("decided in %v", time.Since(began).Round(time.Millisecond))
			moves := 0
			for _, group := range split(calls) {
				s := newSearch(t.Context(), group, answered(group), false)
				s.run()
				moves += s.moves
			}
			if moves > 3*r.calls {
				t.Errorf("%d moves", moves)
			}
			if r.tied == r.keys && r.keys > 100 {
				return // a violation at the end is more than can be searched
			}

			end := calls[len(calls)-1].End
			for _, c := range calls {
				if c.End != Never {
					end = max(end, c.End)
				}
			}
			put := func(value string) wire.Op { return wire.Op{Kind: wire.Put, Key: "key0", Value: []byte(value)} }
			swap := func(value string) wire.Op {
				return wire.Op{Kind: wire.CompareAndSwap, Key: "key0", Old: []byte("x"), Value: []byte(value)}
			}
			get := wire.Op{Kind: wire.Get, Key: "key0"}
			one := func(client int, op wire.Op, start, length int64) Call {
				return Call{Client: client, Ops: []wire.Op{op}, Results: shared.Apply([]wire.Op{op}), Start: end + start, End: end + start + length}
			}
			calls = append(calls, one(100, put("x"), 1, 1))
			before := one(101, get, 5, 1)
			first := one(102, swap("y"), 3, 1)
			lost := one(103, swap("z"), 3, 1)
			lost.Results[0].Status = wire.Swapped
			swapped := Call{Client: 104, Ops: []wire.Op{{Kind: wire.CompareAndSwap, Key: "key0", Old: []byte("no"), Value: []byte("q")}}, Start: end + 3, End: Never}
			after := one(105, get, 5, 1)
			after.Results = []wire.Result{{Status: wire.Found, Value: []byte("q")}}
			for _, test := range []struct {
				name string
				last []Call
				want string // sentence; "": any
			}{
				{"a swap that cannot have been", []Call{swapped, after}, ""},
				{"stale read", []Call{first, before},
					`client 101 read "x" from key0, although client 102 had swapped "x" in key0 for "y" before that began.`},
				{"lost update", []Call{first, lost},
					`client 102 and client 103 both swapped "x" in key0 for another value: only one can have.`},
			} {
				history := append(slices.Clip(calls), test.last...)
				got, x := Check(t.Context(), history)
				if got != Violated {
					t.Fatalf("%s: %v, want violated", test.name, got)
				}
				if len(x.Calls) > 2 || test.want != "" && x.why != test.want {
					t.Errorf("%s:\n%v\nwant two calls at most, and: %s", test.name, x, test.want)
				}
			}
		})
	}
}

// What began before the calls that count can have left anything, also in an order in which
// what ended later came first.
func TestCut(t *testing.T) {
	for _, text := range []string{`
		1 |-----------|   put a 1 -> created; put b 1 -> created
		2   |--|          put a 2 -> replaced
		3        |--|     get a -> "2"; get b -> "1"`, `
		1 |>              put a 1 -> ?; put b 1 -> ?
		2   |--|          put a 2 -> replaced
		3        |--|     get a -> "2"; get b -> "1"`, `
		1 |-|             put a 1 -> created; put b 1 -> created
		2   |--|          put a 2 -> replaced
		3        |--|     get a -> "2"; get b -> missing`, `
		1 |-|             put a 1 -> created
		2   |--|          delete a -> deleted
		3        |--|     put a 2 -> replaced`, `
		1 |-|             put a 1 -> created
		2   |--|          put b 2 -> created
		3        |--|     cas a 1 2 -> mismatch; cas b 2 1 -> aborted`,
	} {
		calls := history(t, text)
		full := make([]bool, len(calls))
		full[len(calls)-1] = true
		if got := newSearch(t.Context(), calls, full, true).run(); got != Linearizable {
			t.Errorf("the last call by itself: %v, want linearizable:%s", got, text)
		}
	}
}

// What leaves calls out of histories that are too large for brute force must still prove
// that they are violated.
func TestCutIsSound(t *testing.T) {
	violated := 0
	for seed := range uint64(3000) {
		choose := chooser(rand.New(rand.NewPCG(2, seed)).IntN)
		calls := choose.executed(15)
		for range 1 + choose(3) {
			choose.mutate(calls)
		}
		for _, group := range split(calls) {
			full := answered(group)
			for i := range full {
				full[i] = full[i] && choose(2) == 0
			}
			if !slices.Contains(full, true) || newSearch(t.Context(), group, full, true).run() != Violated {
				continue
			}
			violated++
			if got := newSearch(t.Context(), group, full, false).run(); got != Violated {
				t.Fatalf("seed %d: violated with what is cut, but whole %v; %v of\n%s", seed, got, full, drawn(group))
			}
		}
	}
	if violated < 100 {
		t.Errorf("only %d violated", violated)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, r := range runs {
		b.Run(r.String(), func(b *testing.B) {
			calls, _ := r.record()
			for b.Loop() {
				if got, _ := Check(context.Background(), calls); got != Linearizable {
					b.Fatal(got)
				}
			}
		})
	}
}
