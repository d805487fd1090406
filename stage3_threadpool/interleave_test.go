//go:build interleave

package main

import (
	"testing"

	"lockstep/common/node"
	"lockstep/common/stagetest"
)

func TestEveryInterleaving(t *testing.T) {
	stagetest.Interleave(t, func(n *node.Node) stagetest.Store { return newStore(n).apply })
}

func TestPlay(t *testing.T) {
	stagetest.Play(t, func(n *node.Node) stagetest.Store { return newStore(n).apply })
}
