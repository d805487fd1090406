package main

import (
	"log/slog"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// A request that panics leaves no lock held.
func TestFind(t *testing.T) {
	s := newStore(node.New(cluster.Default(), 0, slog.New(slog.DiscardHandler)))
	late := time.AfterFunc(5*time.Second, func() { panic("a panic leaves its lock held") })
	defer late.Stop()
	func() {
		defer func() { recover() }()
		s.apply([]wire.Op{{Kind: 99, Key: "k"}})
	}()
	s.apply([]wire.Op{{Kind: wire.Get, Key: "k"}}) // waits forever if the lock is held
}
