package main

import (
	"log/slog"
	"sync"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// While a batch is executed, no other request touches one of its keys.
func TestFind(t *testing.T) {
	s := newStore(node.New(cluster.Default(), 0, slog.New(slog.DiscardHandler)))
	put := func(key string) wire.Op { return wire.Op{Kind: wire.Put, Key: key, Value: []byte("x")} }
	var all sync.WaitGroup
	for _, ops := range [][]wire.Op{{put("a"), put("b"), put("c")}, {put("a")}, {put("b")}, {put("c")}} {
		all.Go(func() {
			for range 1000 {
				s.apply(ops)
			}
		})
	}
	all.Wait()
}
