package main

import (
	"testing"

	"lockstep/common/node"
	"lockstep/common/stagetest"
)

func BenchmarkStore(b *testing.B) {
	stagetest.BenchmarkStore(b, func(n *node.Node) stagetest.Store { return newStore(n).apply })
}
