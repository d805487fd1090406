//go:build interleave

package stagetest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	always, stores := "", newStores(newStore)
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			if always != "" {
				t.Skip("in every order: ", always)
			}
			failed, runs := p.search(t.Context(), packageOf(newStore), stores, 5*time.Second)
			if failed != nil {
				t.Error(failed)
				always, stores = failed.always, newStores(newStore) // a request may hold locks of the old ones
			}
			t.Logf("%d schedules", runs)
		})
	}
}

// A program is requests that run concurrently, and the request before them.
type program struct {
	name     string
	stores   int // to run it on; several if it matters which buckets the keys are in
	before   []wire.Op
	requests [][]wire.Op
}

var programs = []program{
	{"OneBatch", 4, nil, [][]wire.Op{{insert("n", "1"), put("a", "1"), get("b")}}},
	{"TwoBatchesInOppositeOrder", 2, nil, [][]wire.Op{{put("a", "1"), put("b", "1")}, {put("b", "2"), put("a", "2")}}},
	{"TwoSwapsOfOneKey", 1, []wire.Op{put("n", "0")}, [][]wire.Op{{cas("n", "0", "1")}, {cas("n", "0", "2")}}},
	{"PutAgainstGet", 1, []wire.Op{put("a", "0")}, [][]wire.Op{{put("a", "1")}, {get("a")}}},
	{"BatchAgainstItsFirstKey", 2, []wire.Op{put("a", "0")}, [][]wire.Op{{cas("a", "0", "1"), put("b", "1")}, {cas("a", "0", "2")}}},
	{"BatchAgainstItsSecondKey", 2, []wire.Op{put("b", "0")}, [][]wire.Op{{put("a", "1"), cas("b", "0", "1")}, {cas("b", "0", "2")}}},
	{"TransferAgainstBalance", 2, []wire.Op{put("a", "5"), put("b", "5")},
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
// on which one does, or nil if there is none; and how many schedules it ran. A schedule fails,
// too, if it makes no step for as long as patience. pkg is the package of the stores, followed
// by a dot.
func (p program) search(ctx context.Context, pkg string, stores []Store, patience time.Duration) (failed *scheduler, runs int) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, store := range stores[:p.stores] {
		distinct, bounded := 0, true
		for _, preemptions := range []int{0, 1, 2, 1 << 20} {
			if !bounded {
				break
			}
			distinct, bounded = 0, false
			for schedule, more := []choice(nil), true; more; more = schedule != nil {
				s := &scheduler{program: p, store: store, pkg: pkg, patience: patience, timer: timer,
					schedule: schedule, preemptions: preemptions, owner: make(map[*metrics.Mutex]*thread)}
				s.run(ctx)
				distinct++
				bounded = bounded || s.bounded
				if s.wrong != "" {
					return s, runs + distinct
				}
				schedule = following(s.made)
			}
		}
		runs += distinct
	}
	return nil, runs
}

// A choice is which of the requests that could take a step took it.
type choice struct{ took, of int }

// following returns the next schedule in depth-first order, up to the choice that differs,
// or nil after the last schedule.
func following(made []choice) []choice {
	for i := len(made) - 1; i >= 0; i-- {
		if made[i].took+1 < made[i].of {
			next := slices.Clone(made[:i+1])
			next[i].took++
			return next
		}
	}
	return nil
}

// misfits lists the operations whose answer does not fit their kind.
func misfits(ops []wire.Op, results []wire.Result) string {
	if len(results) != len(ops) {
		return fmt.Sprintf("%d answers to %d operations", len(results), len(ops))
	}
	var list []string
	for i, op := range ops {
		if !slices.Contains(answersTo[op.Kind], results[i].Status) {
			list = append(list, fmt.Sprintf("%s got %v", listed(ops[i:i+1]), results[i].Status))
		}
	}
	return strings.Join(list, ", ")
}

var answersTo = map[wire.OpKind][]wire.Status{
	wire.Get:            {wire.Found, wire.Missing, wire.Aborted},
	wire.Put:            {wire.Created, wire.Replaced, wire.Aborted},
	wire.Delete:         {wire.Deleted, wire.Missing, wire.Aborted},
	wire.CompareAndSwap: {wire.Swapped, wire.Mismatch, wire.Aborted},
}

// listed formats operations in few characters: "put a=1, get b".
func listed(ops []wire.Op) string {
	var list []string
	for _, op := range ops {
		list = append(list, strings.TrimSuffix(fmt.Sprintf("%v %s=%s", op.Kind, op.Key, op.Value), "="))
	}
	return strings.Join(list, ", ")
}
