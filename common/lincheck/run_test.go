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

// A run is a history of some length, as clients of one table make it: each starts a call,
// later it takes effect, later the client has the answer and starts another.
type run struct {
	clients, calls, keys int
	group                int // keys that batches tie together; 1: no batches
	unknown              int // percent of writes without an answer
	seed                 uint64
}

// record returns the history of a run.
func (r run) record() []Call {
	rng := rand.New(rand.NewPCG(r.seed, 1))
	shared := table.New(cluster.Work{}, nil)
	calls := make([]Call, 0, r.calls)
	current := make([]int, r.clients) // which call is a client's; 0: none
	results := make([][]wire.Result, r.clients)
	var late []int // calls that nobody waits for, and that may take effect at any time
	values := 0
	op := func(group int) wire.Op {
		op := wire.Op{Key: fmt.Sprintf("key%d", group*r.group+rng.IntN(r.group))}
		values++
		switch n := rng.IntN(10); {
		case n < 5:
			op.Kind = wire.Get
		case n < 8:
			op.Kind, op.Value = wire.Put, fmt.Appendf(nil, "%d", values)
		case n < 9:
			op.Kind = wire.Delete
		default:
			op.Kind, op.Value = wire.CompareAndSwap, fmt.Appendf(nil, "%d", values)
			op.Absent = rng.IntN(2) == 0
			if before := shared.Apply([]wire.Op{{Kind: wire.Get, Key: op.Key}})[0]; !op.Absent {
				op.Old = before.Value
			}
		}
		return op
	}
	for now := int64(1); ; now++ {
		if len(late) > 0 && rng.IntN(20) == 0 {
			i := rng.IntN(len(late))
			shared.Apply(calls[late[i]].Ops)
			late = slices.Delete(late, i, i+1)
		}
		client := rng.IntN(r.clients)
		at := current[client] - 1
		switch {
		case at < 0:
			if len(calls) == r.calls {
				if slices.Max(current) == 0 {
					return calls
				}
				continue
			}
			group := rng.IntN(r.keys / r.group)
			ops := []wire.Op{op(group)}
			for r.group > 1 && rng.IntN(3) == 0 {
				ops = append(ops, op(group))
			}
			calls = append(calls, Call{Client: client, Ops: ops, Start: now, End: Never})
			current[client] = len(calls)
			if r.unknown > 0 && rng.IntN(100) < r.unknown {
				current[client] = 0
				if rng.IntN(2) == 0 {
					late = append(late, len(calls)-1)
				}
			}
		case results[client] == nil:
			results[client] = shared.Apply(calls[at].Ops)
		default:
			calls[at].Results, calls[at].End = results[client], now
			current[client], results[client] = 0, nil
		}
	}
}

func (r run) String() string {
	return fmt.Sprintf("calls=%d/keys=%d/clients=%d/group=%d/unknown=%d", r.calls, r.keys, r.clients, r.group, r.unknown)
}

var runs = []run{
	{clients: 8, calls: 10000, keys: 1000, group: 1},
	{clients: 8, calls: 10000, keys: 1000, group: 1, unknown: 5},
	{clients: 8, calls: 10000, keys: 1000, group: 4},
	{clients: 8, calls: 10000, keys: 1000, group: 4, unknown: 5},
	{clients: 3, calls: 10000, keys: 4, group: 4},
	{clients: 8, calls: 10000, keys: 4, group: 4},
	{clients: 8, calls: 10000, keys: 1, group: 1},
	{clients: 8, calls: 10000, keys: 1000, group: 1000},
	{clients: 16, calls: 4000, keys: 1, group: 1},
	{clients: 8, calls: 400, keys: 4, group: 4, unknown: 5},
}

func TestX(t *testing.T) {
	for _, r := range runs {
		calls := r.record()
		began := time.Now()
		ctx, c := context.WithTimeout(t.Context(), 20*time.Second)
		v, x := Check(ctx, calls)
		c()
		t.Log(r, v, time.Since(began))
		if x != nil {
			t.Log(x)
		}
		// corrupt
		for i := len(calls) - 30; i < len(calls); i++ {
			if c := &calls[i]; c.Results != nil && c.Results[0].Status == wire.Found {
				for j := i - 1; j >= 0; j-- {
					if o := calls[j]; o.Ops[0].Kind == wire.Put && o.Ops[0].Key == c.Ops[0].Key && string(o.Ops[0].Value) != string(c.Results[0].Value) {
						c.Results[0].Value = o.Ops[0].Value
						break
					}
				}
			}
		}
		began = time.Now()
		ctx, c = context.WithTimeout(t.Context(), 20*time.Second)
		v, x = Check(ctx, calls)
		c()
		t.Log(r, v, time.Since(began))
		if x != nil {
			t.Log("\n" + x.String())
		}
	}
}
