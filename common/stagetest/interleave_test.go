//go:build interleave

package stagetest

import (
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

// unlocked takes no lock.
func (b *broken) unlocked(ops []wire.Op) []wire.Result {
	return table.Apply(ops, func(i int) *table.Table { return b.tables[b.bucket(ops[i].Key)] })
}

// unsorted takes the locks in the order in which the request names their keys.
func (b *broken) unsorted(ops []wire.Op) []wire.Result {
	var held []int
	for _, op := range ops {
		if i := b.bucket(op.Key); !slices.Contains(held, i) {
			held = append(held, i)
			b.locks[i].Lock()
		}
	}
	results := b.unlocked(ops)
	for _, i := range held {
		b.locks[i].Unlock()
	}
	return results
}

// oneByOne holds one lock at a time.
func (b *broken) oneByOne(ops []wire.Op) (results []wire.Result) {
	for _, op := range ops {
		i := b.bucket(op.Key)
		b.locks[i].Lock()
		results = append(results, b.tables[i].Apply([]wire.Op{op})...)
		b.locks[i].Unlock()
	}
	return results
}

// firstOnly takes the lock of one bucket of the request.
func (b *broken) firstOnly(ops []wire.Op) []wire.Result {
	first := 1
	for _, op := range ops {
		first = min(first, b.bucket(op.Key))
	}
	b.locks[first].Lock()
	defer b.locks[first].Unlock()
	return b.unlocked(ops)
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

// uneven takes its lock, and frees it, so many times.
func (b *broken) uneven(takes, frees int) Store {
	return func(ops []wire.Op) []wire.Result {
		for range takes {
			b.locks[0].Lock()
		}
		for range frees {
			defer b.locks[0].Unlock()
		}
		return b.unlocked(ops)
	}
}

// sorted executes the operations by bucket, and so answers out of order.
func (b *broken) sorted(ops []wire.Op) []wire.Result {
	b.locks[0].Lock()
	defer b.locks[0].Unlock()
	return b.unlocked(slices.SortedStableFunc(slices.Values(ops), func(x, y wire.Op) int { return b.bucket(x.Key) - b.bucket(y.Key) }))
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
	const blocked = `^blocked where no metrics.Mutex is: \(\*broken\)\.METHOD, stagetest/interleave_test.go:\d+, waits in Mutex.Lock: use metrics.Mutex\n`
	for _, test := range []struct {
		name     string
		store    func(*broken) Store
		found    string // the program, or the start of its name, that must find it
		shows    string // a regular expression
		patience time.Duration
	}{
		{"unlocked", func(b *broken) Store { return b.unlocked }, "TwoSwapsOfOneKey", `^the answers are violated`, time.Minute},
		{"unsorted", func(b *broken) Store { return b.unsorted }, "TwoBatchesInOppositeOrder", `^a deadlock`, time.Minute},
		{"one by one", func(b *broken) Store { return b.oneByOne }, "TransferAgainstBalance", `^the answers are violated`, time.Minute},
		{"first only", func(b *broken) Store { return b.firstOnly }, "BatchAgainstIts", `^the answers are violated`, time.Minute},
		{"kept", func(b *broken) Store { return b.kept }, "TwoBatchesInOppositeOrder",
			`^request 1 ended and holds lock 1\n\n     put a "1", put b "1"  (?s:.*) 1  takes lock 1\n(?s:.*)created created$`, time.Minute},
		{"kept before", func(b *broken) Store { return b.kept }, "PutAgainstGet", `^put a "0", which ran alone, ended and holds lock 1\n`, time.Minute},
		{"taken", func(b *broken) Store { return b.uneven(2, 2) }, "OneBatch", `^request 1 waits for lock 1, which it holds\n`, time.Minute},
		{"freed", func(b *broken) Store { return b.uneven(1, 2) }, "OneBatch", `^request 1 frees lock 1, which it does not hold\n`, time.Minute},
		{"sorted", func(b *broken) Store { return b.sorted }, "OneBatch",
			`^the answers of request 1 do not fit its operations: cas n none to "1", put a "1", get b got created swapped missing\n`, time.Minute},
		{"panicking", func(b *broken) Store { return b.panicking }, "OneBatch",
			`^request 1 panicked: runtime error: slice bounds out of range \[3:1\]: .*\n`, time.Minute},
		{"foreign", func(b *broken) Store { return b.foreign }, "TwoSwapsOfOneKey",
			strings.ReplaceAll(blocked, "METHOD", "foreign"), 200 * time.Millisecond},
		{"foreign kept", func(b *broken) Store { return b.foreignKept }, "OneBatch",
			strings.ReplaceAll(blocked, "METHOD", "foreignKept"), 200 * time.Millisecond},
	} {
		found := false
		var all []*broken
		var failed *scheduler
		newStore := func(n *node.Node) Store {
			b := newBroken(n)
			all = append(all, b)
			return test.store(b)
		}
		for _, p := range programs {
			var runs int
			failed, runs = p.search(t.Context(), newStores(newStore), test.patience)
			text := ""
			if failed != nil {
				text = failed.String()
			}
			t.Logf("%s: %s, %d schedules:\n%s", test.name, p.name, runs, text)
			if strings.HasPrefix(p.name, test.found) && regexp.MustCompile(test.shows).MatchString(text) {
				found = true
				break
			}
		}
		for _, b := range all {
			if !b.hidden.TryLock() {
				b.hidden.Unlock()
				<-failed.over
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
	locked := func(ops []wire.Op) []wire.Result {
		b.locks[1].Lock()
		defer b.locks[1].Unlock()
		return b.unlocked(ops)
	}
	for _, test := range []struct {
		store       Store
		steps, want string
	}{
		{b.unlocked, "1 1 1 2 2 2", "no update is lost: n is 2"},
		{b.unlocked, "1 2 2 1 1 2", "an update is lost: each client added 1 to 0, and n is 1"},
		{b.unlocked, "1 2 2 1", "now client 1 or 2 can go on, and the arguments left are []"},
		{b.unlocked, "1 1 1 1", `now client 2 can go on, and the arguments left are [1]`},
		{b.unlocked, "3", `now client 1 or 2 can go on, and the arguments left are [3]`},
		{locked, "1 1 1 1 1 1 1 2 2 2 2 2 2 2", "no update is lost: n is 2"},
		{locked, "1 1 1 1 2 2 2 2 2 2 2 1 1 1", "an update is lost: each client added 1 to 0, and n is 1"},
	} {
		if got, _, _ := strings.Cut(play(test.store, strings.Fields(test.steps)), "\n"); got != test.want {
			t.Errorf("steps of clients %s: %q, want %q", test.steps, got, test.want)
		}
	}
	// A step of a client that waits for a lock is not possible, and what it held is not used again.
	if got := play(locked, []string{"1", "1", "2", "2"}); !strings.Contains(got, "client 1 can go on, and the arguments left are [2]") {
		t.Errorf("the second client goes on although it waits: %s", got)
	}
}
