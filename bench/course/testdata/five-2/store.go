package main

import (
	"hash/maphash"
	"slices"
	"sync"

	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A store is the node's table in many buckets, each with a goroutine that owns it. Safe for
// concurrent use. A caller that needs several owners stops them in ascending order of their
// buckets.
type store struct {
	seed    maphash.Seed
	buckets []bucket
	owners  sync.WaitGroup // each ends at close
}

type bucket struct {
	jobs  chan func() // done by the owner, one at a time
	table *table.Table
}

func newStore(n *node.Node) *store {
	s := &store{seed: maphash.MakeSeed(), buckets: make([]bucket, n.Config.Server.Buckets)}
	for i := range s.buckets {
		jobs := make(chan func())
		s.buckets[i] = bucket{jobs, n.NewTable()}
		s.owners.Go(func() {
			for job := range jobs {
				job()
			}
		})
	}
	return s
}

// close ends the owners. After it, nothing may be applied.
func (s *store) close() {
	for i := range s.buckets {
		close(s.buckets[i].jobs)
	}
	s.owners.Wait()
}

// apply executes the operations of one request, as one atomic step.
func (s *store) apply(ops []wire.Op) (results []wire.Result) {
	of := make([]int, len(ops)) // the bucket of each operation
	for i := range ops {
		of[i] = s.bucketOf(ops[i].Key)
	}
	s.with(slices.Compact(slices.Sorted(slices.Values(of))), func() {
		results = table.Apply(ops, func(i int) *table.Table { return s.buckets[of[i]].table })
	})
	return results
}

// with has the owner of the last of these buckets do the job, while the owners of the others
// wait for that, each in a job of its own: none of their tables is in use.
func (s *store) with(buckets []int, do func()) {
	if len(buckets) == 0 {
		do()
		return
	}
	done := make(chan struct{})
	s.buckets[buckets[0]].jobs <- func() {
		s.with(buckets[1:], do)
		close(done)
	}
	<-done
}

// bucketOf returns the index of the key's bucket, as in stage 4.
func (s *store) bucketOf(key string) int {
	return int(maphash.String(s.seed, key) % uint64(len(s.buckets)))
}
