package main

import (
	"testing"

	"lockstep/common/node"
	"lockstep/common/stagetest"
)

func BenchmarkStore(b *testing.B) {
	stagetest.BenchmarkStore(b, func(n *node.Node) stagetest.Store { return newStore(n).apply })
}

// What it costs to hand an empty job to a worker, and to wait for it.
func BenchmarkPool(b *testing.B) {
	b.Run("run=direct", func(b *testing.B) {
		for job := func() {}; b.Loop(); {
			job()
		}
	})
	b.Run("run=pool", func(b *testing.B) {
		p := newPool(8, 64)
		defer p.close()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p.run(func() {})
			}
		})
	})
}
