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

// The three ways to get the locks wrong, each as a small store of two buckets: key a
// is in the first, all others are in the second.
type broken struct {
	locks  [2]metrics.Mutex
	tables [2]*table.Table
}

func newBroken(n *node.Node) *broken {
	return &broken{tables: [2]*table.Table{n.NewTable(), n.NewTable()}}
}

func (b *broken) bucket(key string) int {
	if key == "a" {
		return 0
	}
	return 1
}

func (b *broken) tableOf(key string) *table.Table { return b.tables[b.bucket(key)] }

// unlocked takes no lock at all.
func (b *broken) unlocked(ops []wire.Op) []wire.Result { return table.Apply(ops, b.tableOf) }

// unsorted takes the locks in the order in which the request names their keys.
func (b *broken) unsorted(ops []wire.Op) []wire.Result {
	var held []int
	for _, op := range ops {
		if i := b.bucket(op.Key); !slices.Contains(held, i) {
			held = append(held, i)
			b.locks[i].Lock()
		}
	}
	results := table.Apply(ops, b.tableOf)
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

// Each is caught, always, and the shortest schedule shows how:
//
//	go test -tags interleave ./common/stagetest -run SpecimenStores -v
func TestSpecimenStores(t *testing.T) {
	for _, test := range []struct {
		name  string
		store func(*broken) Store
		found string // by what
		shows string
	}{
		{"unlocked", func(b *broken) Store { return b.unlocked }, "TwoSwapsOfOneKey", "violated"},
		{"unsorted", func(b *broken) Store { return b.unsorted }, "TwoBatchesInOppositeOrder", "a deadlock"},
		{"one by one", func(b *broken) Store { return b.oneByOne }, "TransferAgainstBalance", "violated"},
	} {
		for _, in := range interleavings {
			bad, runs := findInterleaving(t, func(n *node.Node) Store { return test.store(newBroken(n)) }, in.before, in.requests)
			if bad == "" {
				t.Logf("%s: %s finds nothing in %d schedules", test.name, in.name, runs)
			} else {
				t.Logf("%s: %s, schedule %d:\n%s", test.name, in.name, runs, bad)
			}
			if in.name == test.found && !strings.Contains(bad, test.shows) {
				t.Errorf("%s: %s finds %q, want %q", test.name, in.name, bad, test.shows)
			}
		}
	}
}
