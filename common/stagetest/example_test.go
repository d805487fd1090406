package stagetest_test

import (
	"fmt"

	"lockstep/common/cluster"
	"lockstep/common/stagetest"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A plain table is the store of a stage of one thread. The stage's tests hand a function that
// makes one to BenchmarkStore and Interleave:
//
//	stagetest.BenchmarkStore(b, func(n *node.Node) stagetest.Store { return newStore(n).apply })
func ExampleStore() {
	var store stagetest.Store = table.New(cluster.Work{}, nil).Apply
	for _, result := range store([]wire.Op{
		{Kind: wire.Put, Key: "color", Value: []byte("blue")},
		{Kind: wire.Get, Key: "color"}, // sees what came before it in the request
		{Kind: wire.Get, Key: "shape"},
	}) {
		fmt.Printf("%v %q\n", result.Status, result.Value)
	}
	// Output:
	// created ""
	// found "blue"
	// missing ""
}
