package stagetest

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A Store is the function of a stage that executes requests: its apply.
type Store func(ops []wire.Op) []wire.Result

// BenchmarkStore measures a stage's store alone, without the network: each core executes
// requests of some size, half Gets and half Puts of random keys that are there.
//
//	go test ./stage4_bucketlock -run '^$' -bench Store -cpu 1,2
func BenchmarkStore(b *testing.B, newStore func(*node.Node) Store) {
	ops := make([]wire.Op, 1<<14)
	for i := range ops {
		ops[i] = put(fmt.Sprintf("key-%06d", i), "a value of thirty bytes, or so.")
	}
	for _, size := range []int{1, 64} {
		store := newStore(node.New(cluster.Default(), 0, slog.New(slog.DiscardHandler)))
		store(ops)
		b.Run(fmt.Sprintf("ops=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				request := make([]wire.Op, size)
				for pb.Next() {
					for i := range request {
						request[i] = ops[rand.IntN(len(ops))]
						request[i].Kind = wire.Get + wire.OpKind(i%2)
					}
					store(request)
				}
			})
		})
	}
}
