package lincheck

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A run is a workload of clients of one table.
type run struct {
	calls, keys, clients int // half of the clients are active on average
	tied                 int // keys tied together by batches; 1: no batches
	unknown              int // percentage of calls without an answer
}

func (r run) String() string {
	return fmt.Sprintf("calls=%d/keys=%d/clients=%d/tied=%d/unknown=%d", r.calls, r.keys, r.clients, r.tied, r.unknown)
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
	{calls: 2000, keys: 1000, clients: 8, tied: 1},
	{calls: 2000, keys: 1000, clients: 8, tied: 1, unknown: 5},
	{calls: 2000, keys: 1000, clients: 8, tied: 4, unknown: 1},
	{calls: 2000, keys: 4, clients: 3, tied: 4},
	{calls: 2000, keys: 1, clients: 8, tied: 1},
	{calls: 2000, keys: 1000, clients: 8, tied: 1000},
}

// Histories of thousands of calls are decided in about as many moves, and a violation at
// their end or in their middle is found and explained by one or two calls.
func TestRuns(t *testing.T) {
	for _, r := range runs {
		t.Run(r.String(), func(t *testing.T) {
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
				t.Errorf("%d moves", moves)
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
