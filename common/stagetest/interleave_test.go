//go:build interleave

package stagetest

import (
	"slices"
	"strings"
	"testing"

	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A broken is a store of two buckets, whose methods get the locks wrong in three ways. Key
// a is in the first bucket, all other keys are in the second.
type broken struct {
	locks  [2]metrics.Mutex
	tables [2]*table.Table
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

// Each broken store is always caught. The shortest schedule shows how:
//
//	go test -tags interleave ./common/stagetest -run SpecimenStores -v
func TestSpecimenStores(t *testing.T) {
	for _, test := range []struct {
		name  string
		store func(*broken) Store
		found string // the interleaving that must find it
		shows string
	}{
		{"unlocked", func(b *broken) Store { return b.unlocked }, "TwoSwapsOfOneKey", "violated"},
		{"unsorted", func(b *broken) Store { return b.unsorted }, "TwoBatchesInOppositeOrder", "a deadlock"},
		{"one by one", func(b *broken) Store { return b.oneByOne }, "TransferAgainstBalance", "violated"},
	} {
		for _, in := range interleavings {
			bad, runs := findInterleaving(t, func(n *node.Node) Store { return test.store(newBroken(n)) }, in.before, in.requests)
			t.Logf("%s: %s, %d schedules:\n%s", test.name, in.name, runs, bad)
			if in.name == test.found && !strings.Contains(bad, test.shows) {
				t.Errorf("%s: %s finds %q, want %q", test.name, in.name, bad, test.shows)
			}
		}
	}
}
