//go:build interleave

package stagetest

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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
			failed, runs := p.search(t.Context(), stores, 5*time.Second)
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

// A program is requests that run concurrently, and the request before them, if any.
type program struct {
	name     string
	before   [][]wire.Op
	requests [][]wire.Op
}

var programs = []program{
	{"OneBatch", nil, [][]wire.Op{{insert("n", "1"), put("a", "1"), get("b")}}},
	{"TwoBatchesInOppositeOrder", nil, [][]wire.Op{{put("a", "1"), put("b", "1")}, {put("b", "2"), put("a", "2")}}},
	{"TwoSwapsOfOneKey", [][]wire.Op{{put("n", "0")}}, [][]wire.Op{{cas("n", "0", "1")}, {cas("n", "0", "2")}}},
	{"PutAgainstGet", [][]wire.Op{{put("a", "0")}}, [][]wire.Op{{put("a", "1")}, {get("a")}}},
	{"BatchAgainstItsFirstKey", [][]wire.Op{{put("a", "0")}}, [][]wire.Op{{cas("a", "0", "1"), put("b", "1")}, {cas("a", "0", "2")}}},
	{"BatchAgainstItsSecondKey", [][]wire.Op{{put("b", "0")}}, [][]wire.Op{{put("a", "1"), cas("b", "0", "1")}, {cas("b", "0", "2")}}},
	{"TransferAgainstBalance", [][]wire.Op{{put("a", "5"), put("b", "5")}},
		[][]wire.Op{{cas("a", "5", "4"), cas("b", "5", "6")}, {get("b"), get("a")}}},
	{"OneKeyTwiceInABatch", nil, [][]wire.Op{{put("a", "1"), put("a", "2")}, {get("a"), del("a")}}},
	{"ThreeOnOneKey", nil, [][]wire.Op{{insert("a", "1")}, {del("a")}, {put("a", "2")}}},
}

// newStores returns the stores on which each program runs. They have so many buckets that the
// keys are in different ones. A store that locks only the first bucket of a batch fails in one of
// the programs with a batch against one of its keys: it depends on the order of the buckets.
func newStores(newStore func(*node.Node) Store) (stores []Store) {
	for range 4 {
		stores = append(stores, newStore(newNode()))
	}
	return stores
}

// search returns the schedule with the fewest preemptions that fails on the first of the stores
// on which one does, or nil if there is none; and how many schedules it ran. A preemption is a
// step of another request although the current one can go on. A schedule fails, too, if it
// makes no step for as long as patience.
func (p program) search(ctx context.Context, stores []Store, patience time.Duration) (failed *scheduler, runs int) {
	for _, store := range stores {
		for queue := [][]int{nil}; len(queue) > 0; {
			s := &scheduler{program: p, store: store, patience: patience, schedule: queue[0],
				over: make(chan struct{}, 2), owner: make(map[*metrics.Mutex]*thread)}
			s.choose = s.explore
			runs++
			if s.run(ctx); s.wrong != "" {
				return s, runs
			}
			queue = slices.Concat(s.same, queue[1:], s.more) // the fewest preemptions first
		}
	}
	return nil, runs
}

// fits reports whether a result is an answer to this kind of operation.
func fits(op wire.Op, r wire.Result) bool { return slices.Contains(answersTo[op.Kind], r.Status) }

var answersTo = map[wire.OpKind][]wire.Status{
	wire.Get:            {wire.Found, wire.Missing, wire.Aborted},
	wire.Put:            {wire.Created, wire.Replaced, wire.Aborted},
	wire.Delete:         {wire.Deleted, wire.Missing, wire.Aborted},
	wire.CompareAndSwap: {wire.Swapped, wire.Mismatch, wire.Aborted},
}

// Play lets the reader be the scheduler of two clients of a store. Each adds 1 to n, with a get
// and then a put; the arguments behind -args say who goes on, one step each. Can an update be
// lost? The test fails however it ends, as go test shows nothing of a test that passes.
//
//	go test -tags interleave ./stage2_coarselock -run Play -args 1 2 2 1
func Play(t *testing.T, newStore func(*node.Node) Store) {
	if flag.NArg() == 0 {
		t.Skip("say which client goes on, step by step: -args 1 2 2 1")
	}
	t.Error(play(newStore(newNode()), flag.Args()))
}

// play returns the steps, and what came of them.
func play(store Store, clients []string) string {
	value := func() string { return string(store([]wire.Op{get("n")})[0].Value) }
	s := &scheduler{patience: 5 * time.Second, over: make(chan struct{}, 2), owner: make(map[*metrics.Mutex]*thread)}
	s.store = func([]wire.Op) []wire.Result {
		found, _ := strconv.Atoi(value())
		s.note(s.current, fmt.Sprintf("was answered %d, will put %d", found, found+1))
		return store([]wire.Op{put("n", strconv.Itoa(found+1))})
	}
	s.choose = func(able []*thread) *thread {
		var can []string
		for _, t := range able {
			can = append(can, strconv.Itoa(t.Client))
			if len(clients) > 0 && clients[0] == can[len(can)-1] {
				clients = clients[1:]
				return t
			}
		}
		s.wrong = fmt.Sprintf("now client %s can go on, and the arguments left are %v", strings.Join(can, " or "), clients)
		return nil
	}
	store([]wire.Op{put("n", "0")})
	s.control(func() { s.execute(1, []wire.Op{put("n", "")}, []wire.Op{put("n", "")}) })
	if s.wrong == "" {
		s.wrong = "an update is lost: each client added 1 to 0, and n is " + value()
		if value() == "2" {
			s.wrong = "no update is lost: n is 2"
		}
	}
	return fmt.Sprintf("%s\n\n     %-*sclient 2: n + 1%s", s.wrong, columnWidth, "client 1: n + 1", s.table)
}
