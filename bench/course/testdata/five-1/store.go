package main

import (
	"sync"

	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A store is the node's table behind a lock that readers share. Safe for concurrent use.
type store struct {
	mu    sync.RWMutex // guards table
	table *table.Table
}

func newStore(n *node.Node) *store {
	return &store{table: n.NewTable()}
}

// apply executes the operations of one request, as one atomic step. Requests that only read
// run together: Get, unlike Apply, counts nothing, and so writes nothing that they share.
func (s *store) apply(ops []wire.Op) []wire.Result {
	if wire.Writes(ops) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.table.Apply(ops)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	results := make([]wire.Result, len(ops))
	for i := range ops {
		results[i] = s.table.Get(ops[i].Key)
	}
	return results
}
