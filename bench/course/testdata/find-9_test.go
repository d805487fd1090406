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
	func() {
		defer func() { recover() }()
		s.apply([]wire.Op{{Kind: 99, Key: "k"}})
	}()
	done := make(chan bool)
	go func() { // never ends if the lock is held
		s.apply([]wire.Op{{Kind: wire.Get, Key: "k"}})
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("a panic leaves its lock held")
	}
}
