package main

import (
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A store is the node's table behind one lock. Safe for concurrent use.
type store struct {
	mu    metrics.Mutex // a sync.Mutex that counts; guards table
	table *table.Table
}

func newStore(n *node.Node) *store {
	s := &store{table: n.NewTable()}
	n.Stats.Watch(&s.mu)
	return s
}

// apply executes the operations of one request, as one atomic step.
func (s *store) apply(ops []wire.Op) []wire.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.Apply(ops)
}
