//go:build interleave

package stagetest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A broken is a store of two buckets, each of whose methods makes one mistake. Key
// a is in the first bucket, all other keys are in the second.
type broken struct {
	locks  [2]metrics.Mutex
	tables [2]*table.Table
	hidden sync.Mutex // the scheduler does not see it
}

func newBroken(n *node.Node) *broken {
	return &broken{tables: [2]*table.Table{n.NewTable(), n.NewTable()}}
}

func (b *broken) bucket(key string) int { return min(int(key[0]-'a'), 1) }

// buckets returns the buckets of a request, each once, in the order in which it names their keys.
func (b *broken) buckets(ops []wire.Op) (buckets []int) {
	for _, op := range ops {
		if i := b.bucket(op.Key); !slices.Contains(buckets, i) {
			buckets = append(buckets, i)
		}
	}
	return buckets
}

// holding executes a request with these locks held, which it takes in this order.
func (b *broken) holding(ops []wire.Op, locks ...int) []wire.Result {
	for _, i := range locks {
		b.locks[i].Lock()
		defer b.locks[i].Unlock()
	}
	return table.Apply(ops, func(i int) *table.Table { return b.tables[b.bucket(ops[i].Key)] })
}

func (b *broken) unlocked(ops []wire.Op) []wire.Result { return b.holding(ops) }

// unsorted takes the locks in the order in which the request names their keys.
func (b *broken) unsorted(ops []wire.Op) []wire.Result { return b.holding(ops, b.buckets(ops)...) }

// oneByOne holds one lock at a time.
func (b *broken) oneByOne(ops []wire.Op) (results []wire.Result) {
	for i := range ops {
		results = append(results, b.unsorted(ops[i:i+1])...)
	}
	return results
}

// firstOnly takes the lock of one bucket of the request.
func (b *broken) firstOnly(ops []wire.Op) []wire.Result {
	return b.holding(ops, slices.Min(b.buckets(ops)))
}

// kept frees its lock only if a value was replaced.
func (b *broken) kept(ops []wire.Op) []wire.Result {
	b.locks[0].Lock()
	results := b.unlocked(ops)
	if results[0].Status == wire.Replaced {
		b.locks[0].Unlock()
	}
	return results
}

// taken takes its lock twice.
func (b *broken) taken(ops []wire.Op) []wire.Result { return b.holding(ops, 0, 0) }

// freed frees its lock twice.
func (b *broken) freed(ops []wire.Op) []wire.Result {
	defer b.locks[0].Unlock()
	return b.holding(ops, 0)
}

// sorted executes the operations by bucket, and so answers out of order.
func (b *broken) sorted(ops []wire.Op) []wire.Result {
	byBucket := func(x, y wire.Op) int { return b.bucket(x.Key) - b.bucket(y.Key) }
	return b.holding(slices.SortedStableFunc(slices.Values(ops), byBucket), 0)
}

// panicking panics with its lock held.
func (b *broken) panicking(ops []wire.Op) []wire.Result {
	b.locks[0].Lock()
	defer b.locks[0].Unlock()
	return []wire.Result{{Value: ops[0].Value[len(ops):]}}
}

// foreign is correct, but its lock is a sync.Mutex.
func (b *broken) foreign(ops []wire.Op) []wire.Result {
	b.hidden.Lock()
	results := b.unlocked(ops)
	b.hidden.Unlock()
	return results
}

// foreignKept never frees its sync.Mutex.
func (b *broken) foreignKept(ops []wire.Op) []wire.Result {
	b.hidden.Lock()
	return b.unlocked(ops)
}

// Each broken store is always caught. The shortest schedule shows how:
//
//	go test -tags interleave ./common/stagetest -run SpecimenStores -v
func TestSpecimenStores(t *testing.T) {
	const blocked = `^blocked where no metrics.Mutex is: \(\*broken\)\.%s, stagetest/interleave_test.go:\d+, waits in Mutex.Lock: use metrics.Mutex\n`
	for _, test := range []struct {
		name  string
		store func(*broken, []wire.Op) []wire.Result
		found string // the program, or the start of its name, that must find it
		shows string // a regular expression
	}{
		{"unlocked", (*broken).unlocked, "TwoSwapsOfOneKey", `^the answers are violated`},
		{"unsorted", (*broken).unsorted, "TwoBatchesInOppositeOrder", `^a deadlock`},
		{"one by one", (*broken).oneByOne, "TransferAgainstBalance", `^the answers are violated`},
		{"first only", (*broken).firstOnly, "BatchAgainstIts", `^the answers are violated`},
		{"kept", (*broken).kept, "TwoBatchesInOppositeOrder",
			`^request 1 ended and holds lock 1\n\n     put a "1", put b "1"  (?s:.*) 1  takes lock 1\n(?s:.*)created created$`},
		{"kept before", (*broken).kept, "PutAgainstGet", `^put a "0", which ran alone, ended and holds lock 1\n`},
		{"taken", (*broken).taken, "OneBatch", `^request 1 waits for lock 1, which it holds\n`},
		{"freed", (*broken).freed, "OneBatch", `^request 1 frees lock 1, which it does not hold\n`},
		{"sorted", (*broken).sorted, "OneBatch",
			`^the answers of request 1 do not fit its operations: cas n none to "1", put a "1", get b got created swapped missing\n`},
		{"panicking", (*broken).panicking, "OneBatch", `^request 1 panicked: runtime error: slice bounds out of range \[3:1\]: .*\n`},
		{"foreign", (*broken).foreign, "TwoSwapsOfOneKey", fmt.Sprintf(blocked, "foreign")},
		{"foreign kept", (*broken).foreignKept, "OneBatch", fmt.Sprintf(blocked, "foreignKept")},
	} {
		patience := time.Minute
		if strings.HasPrefix(test.name, "foreign") {
			patience = 200 * time.Millisecond
		}
		found := false
		for i := 0; i < len(programs) && !found; i++ {
			var all []*broken
			failed, runs := programs[i].search(t.Context(), newStores(func(n *node.Node) Store {
				b := newBroken(n)
				all = append(all, b)
				return func(ops []wire.Op) []wire.Result { return test.store(b, ops) }
			}), patience)
			text := fmt.Sprint(failed)
			t.Logf("%s: %s, %d schedules:\n%s", test.name, programs[i].name, runs, text)
			found = strings.HasPrefix(programs[i].name, test.found) && regexp.MustCompile(test.shows).MatchString(text)
			for _, b := range all {
				if !b.hidden.TryLock() { // the thread that is blocked ends
					b.hidden.Unlock()
					<-failed.over
				}
			}
		}
		if !found {
			t.Errorf("%s: %s does not show %s", test.name, test.found, test.shows)
		}
	}
}

// The player says who goes on. Without locks, or with them, an update can be lost between the get
// and the put of a client.
func TestPlaying(t *testing.T) {
	b := newBroken(newNode())
	locked := func(ops []wire.Op) []wire.Result { return b.holding(ops, 1) }
	for _, test := range []struct {
		store       Store
		steps, want string
	}{
		{b.unlocked, "1 1 1 2 2 2", "no update is lost: n is 2"},
		{b.unlocked, "1 2 2 1 1 2", "an update is lost: each client added 1 to 0, and n is 1"},
		{b.unlocked, "1 2 2 1", "now client 1 or 2 can go on, and the arguments left are []"},
		{locked, "1 1 1 1 2 2 2 2 2 2 2 1 1 1", "an update is lost: each client added 1 to 0, and n is 1"},
		{locked, "1 1 2 2", "now client 1 can go on, and the arguments left are [2]"}, // the other waits; the lock is not used again
	} {
		if got, _, _ := strings.Cut(play(test.store, strings.Fields(test.steps)), "\n"); got != test.want {
			t.Errorf("steps of clients %s: %q, want %q", test.steps, got, test.want)
		}
	}
}
