package main

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// Batches that name the same keys in opposite orders do not wait for each other forever.
func TestFind(t *testing.T) {
	s := newStore(node.New(cluster.Default(), 0, slog.New(slog.DiscardHandler)))
	var up []wire.Op
	for i := range 32 {
		up = append(up, wire.Op{Kind: wire.Put, Key: fmt.Sprint("key", 10+i)})
	}
	down := slices.Clone(up)
	slices.Reverse(down)
	late := time.AfterFunc(20*time.Second, func() { panic("batches in opposite orders wait for each other") })
	defer late.Stop()
	var all sync.WaitGroup // never done after a deadlock
	for _, ops := range [][]wire.Op{up, down, up, down} {
		all.Go(func() {
			for range 1000 {
				s.apply(ops)
			}
		})
	}
	all.Wait()
}
