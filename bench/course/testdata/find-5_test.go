package main

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// The keys of one node of two fill all its buckets.
func TestFind(t *testing.T) {
	cfg := cluster.Default()
	cfg.Nodes, cfg.Server.Buckets = make([]cluster.Node, 2), 8
	s := newStore(node.New(cfg, 0, slog.New(slog.DiscardHandler)))
	keys := make([]int, 8)
	for i := range 2000 {
		if key := fmt.Sprint("key", i); cfg.Owner(key) == 0 {
			keys[s.bucketOf(key)]++
		}
	}
	if slices.Contains(keys, 0) {
		t.Errorf("in the buckets are %v keys, want some in each", keys)
	}
}
