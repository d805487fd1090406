package main

import (
	"testing"

	"lockstep/common/stagetest"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// When run has returned, the worker is free for the next job.
func TestFind(t *testing.T) {
	p := newPool(1, 0)
	defer p.close()
	run := p.job(func() {})
	for i := range 10_000 {
		if !run() {
			t.Fatalf("job %d is refused, and the worker has nothing to do", i)
		}
	}
}
