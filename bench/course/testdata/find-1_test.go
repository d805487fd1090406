package main

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// A put and a get of one key at the same time: the table is guarded from both.
func TestFind(t *testing.T) {
	s := newStore(node.New(cluster.Default(), 0, slog.New(slog.DiscardHandler)))
	var both sync.WaitGroup
	for _, kind := range []wire.OpKind{wire.Put, wire.Get} {
		both.Go(func() {
			for i := range 1000 {
				s.apply([]wire.Op{{Kind: kind, Key: fmt.Sprint(i)}})
			}
		})
	}
	both.Wait()
}
