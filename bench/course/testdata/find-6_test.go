package main

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"lockstep/common/stagetest"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// One worker and a queue of one: of three jobs at the same time, the third is refused.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, gate := newPool(1, 1), make(chan bool)
		var refused atomic.Int32
		for range 3 {
			go func() {
				if !p.job(func() { <-gate })() {
					refused.Add(1)
				}
			}()
		}
		synctest.Wait()
		if refused.Load() != 1 {
			t.Errorf("%d of 3 jobs are refused, want 1", refused.Load())
		}
		close(gate)
		synctest.Wait()
		p.close()
	})
}
