package main

import (
	"testing"
	"testing/synctest"

	"lockstep/common/stagetest"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// One worker and a queue of one: of three jobs at the same time, the third is refused.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, gate, ran := newPool(1, 1), make(chan bool), make(chan bool, 3)
		for range 3 {
			go func() { ran <- p.job(func() { <-gate })() }()
		}
		synctest.Wait()
		if len(ran) != 1 || <-ran {
			t.Error("of 3 jobs, none is refused, or more than one")
		}
		close(gate)
		synctest.Wait()
		p.close()
	})
}
