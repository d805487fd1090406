package main

import (
	"hash/maphash"
	"slices"

	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A store is the node's table in many buckets. Safe for concurrent use. A caller
// that needs several locks takes them in ascending order of their buckets.
type store struct {
	seed    maphash.Seed
	buckets []bucket
}

type bucket struct {
	mu    metrics.Mutex // a sync.Mutex that counts; guards table
	table *table.Table
}

func newStore(n *node.Node) *store {
	s := &store{seed: maphash.MakeSeed(), buckets: make([]bucket, n.Config.Server.Buckets)}
	for i := range s.buckets {
		s.buckets[i].table = n.NewTable()
		n.Stats.Watch(&s.buckets[i].mu)
	}
	return s
}

// apply executes the operations of one request, as one atomic step.
func (s *store) apply(ops []wire.Op) []wire.Result {
	of, held := make([]int, len(ops)), make([]int, len(ops)) // buckets: of each operation, and to lock
	for i := range ops {
		of[i] = s.bucketOf(ops[i].Key)
	}
	copy(held, of)
	slices.Sort(held)
	held = slices.Compact(held) // each lock once: taking it twice would deadlock
	for _, i := range held {
		s.buckets[i].mu.Lock()
	}
	defer func() {
		for _, i := range held {
			s.buckets[i].mu.Unlock()
		}
	}()
	return table.Apply(ops, func(i int) *table.Table { return s.buckets[of[i]].table })
}

// bucketOf returns the index of the key's bucket. The hash differs from the one that
// chose the node, so that the keys of one node fill all its buckets. The seed belongs
// to this process, so that a client cannot choose keys that share a bucket.
func (s *store) bucketOf(key string) int {
	return int(maphash.String(s.seed, key) % uint64(len(s.buckets)))
}
