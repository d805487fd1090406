package main

import (
	"log/slog"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// A batch of which one comparison fails changes nothing.
func TestFind(t *testing.T) {
	s := newStore(node.New(cluster.Default(), 0, slog.New(slog.DiscardHandler)))
	s.apply([]wire.Op{{Kind: wire.Put, Key: "a", Value: []byte("x")}, {Kind: wire.CompareAndSwap, Key: "b", Old: []byte("not there")}})
	if r := s.apply([]wire.Op{{Kind: wire.Get, Key: "a"}}); r[0].Status != wire.Missing {
		t.Errorf("a is %v: half of a batch was applied", r[0].Status)
	}
}
