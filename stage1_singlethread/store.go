package main

import (
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A store is the node's table. Not safe for concurrent use.
type store struct {
	table *table.Table
}

func newStore(n *node.Node) *store {
	return &store{table: n.NewTable()}
}

// apply executes the operations of one request.
func (s *store) apply(ops []wire.Op) []wire.Result {
	return s.table.Apply(ops)
}
