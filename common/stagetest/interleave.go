//go:build interleave

package stagetest

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// Interleave runs small requests against a stage's store, in every order of their steps. A
// step ends before a lock is taken, before it is freed, and between the look-up and the
// effect of an operation. The test fails if an order deadlocks, if a request keeps a lock or
// takes one that is not a metrics.Mutex, or if the answers are not linearizable.
func Interleave(t *testing.T, newStore func(*node.Node) Store) {
	stores := newStores(newStore)
	for _, p := range programs {
		ok := t.Run(p.name, func(t *testing.T) {
			failed, runs := p.search(t.Context(), packageOf(newStore), stores, 5*time.Second)
			if failed != nil {
				t.Error(failed)
			}
			t.Logf("%d schedules", runs)
		})
		if !ok { // a request may hold locks of the stores
			break
		}
	}
}

// A program is requests that run concurrently, and the request before them.
type program struct {
	name     string
	stores   int // to run it on; several if it matters which buckets the keys are in
	before   [][]wire.Op
	requests [][]wire.Op
}

var programs = []program{
	{"OneBatch", 4, nil, [][]wire.Op{{insert("n", "1"), put("a", "1"), get("b")}}},
	{"TwoBatchesInOppositeOrder", 2, nil, [][]wire.Op{{put("a", "1"), put("b", "1")}, {put("b", "2"), put("a", "2")}}},
	{"TwoSwapsOfOneKey", 1, [][]wire.Op{{put("n", "0")}}, [][]wire.Op{{cas("n", "0", "1")}, {cas("n", "0", "2")}}},
	{"PutAgainstGet", 1, [][]wire.Op{{put("a", "0")}}, [][]wire.Op{{put("a", "1")}, {get("a")}}},
	{"BatchAgainstItsFirstKey", 2, [][]wire.Op{{put("a", "0")}}, [][]wire.Op{{cas("a", "0", "1"), put("b", "1")}, {cas("a", "0", "2")}}},
	{"BatchAgainstItsSecondKey", 2, [][]wire.Op{{put("b", "0")}}, [][]wire.Op{{put("a", "1"), cas("b", "0", "1")}, {cas("b", "0", "2")}}},
	{"TransferAgainstBalance", 2, [][]wire.Op{{put("a", "5"), put("b", "5")}},
		[][]wire.Op{{cas("a", "5", "4"), cas("b", "5", "6")}, {get("b"), get("a")}}},
	{"OneKeyTwiceInABatch", 1, nil, [][]wire.Op{{put("a", "1"), put("a", "2")}, {get("a"), del("a")}}},
	{"ThreeOnOneKey", 1, nil, [][]wire.Op{{insert("a", "1")}, {del("a")}, {put("a", "2")}}},
}

// newStores returns the stores for all programs. They are the same for all: a store that locks
// only its first bucket fails either in BatchAgainstItsFirstKey or in BatchAgainstItsSecondKey.
func newStores(newStore func(*node.Node) Store) (stores []Store) {
	cfg := cluster.Default()
	cfg.Server.Buckets = 1024 // enough to put the keys into different buckets
	for range 4 {
		stores = append(stores, newStore(node.New(cfg, 0, slog.New(slog.DiscardHandler))))
	}
	return stores
}

// search returns the schedule with the fewest preemptions that fails on the first of the stores
// on which one does, or nil if there is none; and how many schedules it ran. A preemption is a
// step of another request although the current one can go on. A schedule fails, too, if it
// makes no step for as long as patience. pkg is the package of the stores, followed by a dot.
func (p program) search(ctx context.Context, pkg string, stores []Store, patience time.Duration) (failed *scheduler, runs int) {
	for _, store := range stores[:p.stores] {
		for next, later := [][]int{nil}, [][]int(nil); len(next) > 0; next, later = later, nil {
			for len(next) > 0 {
				s := &scheduler{program: p, store: store, pkg: pkg, patience: patience, schedule: next[0],
					over: make(chan struct{}, 2), owner: make(map[*metrics.Mutex]*thread)}
				runs++
				if s.run(ctx); s.wrong != "" {
					return s, runs
				}
				next, later = append(next[1:], s.same...), append(later, s.more...)
			}
		}
	}
	return nil, runs
}

// fit reports whether there is an answer to each operation that fits its kind.
func fit(ops []wire.Op, results []wire.Result) bool {
	for i, r := range results {
		if len(results) != len(ops) || !slices.Contains(answersTo[ops[i].Kind], r.Status) {
			return false
		}
	}
	return len(results) == len(ops)
}

var answersTo = map[wire.OpKind][]wire.Status{
	wire.Get:            {wire.Found, wire.Missing, wire.Aborted},
	wire.Put:            {wire.Created, wire.Replaced, wire.Aborted},
	wire.Delete:         {wire.Deleted, wire.Missing, wire.Aborted},
	wire.CompareAndSwap: {wire.Swapped, wire.Mismatch, wire.Aborted},
}
