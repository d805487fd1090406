package load

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/client"
	"lockstep/common/node"
)

// Every request that was due is answered, refused or unfinished.
func TestOverload(t *testing.T) {
	over := make(chan struct{})
	var taken, held, refused, answered atomic.Int64
	cfg, _ := benchtest.Here(t, 1, turns(func(n *node.Node, c *node.Conn, answer func()) {
		switch taken.Add(1) % 5 {
		case 0:
			held.Add(1)
			<-over
		case 1, 2:
			refused.Add(1)
			n.Refuse(c)
			return
		}
		answer()
		answered.Add(1)
	}))
	t.Cleanup(func() { close(over) })
	for _, test := range []struct {
		connections, depth int
		arrival            string
	}{{60, 1, "poisson"}, {10, 3, "constant"}} {
		t.Run(fmt.Sprintf("c=%d/depth=%d/%s", test.connections, test.depth, test.arrival), func(t *testing.T) {
			w := &cfg.Workload
			w.Connections, w.Depth, w.Rate, w.Arrival = test.connections, test.depth, 1000, test.arrival
			l := newTestLoad(t, cfg)
			l.conns[0].sources[0].Once, l.Grace = true, 50*time.Millisecond
			for _, counter := range []*atomic.Int64{&taken, &refused, &answered, &held} {
				counter.Store(0)
			}
			r := l.run(t.Context(), 100*time.Millisecond, 0)
			busy := r.Errors[client.ErrBusy.Error()]
			due := int64(len(dueTimes(*w, 100*time.Millisecond)))
			if got := r.Requests + r.Failed() + r.Unfinished; got != due || r.Failed() != busy {
				t.Errorf("%d answered, errors %v, %d unfinished: %d in all, want %d that were due", r.Requests, r.Errors, r.Unfinished, got, due)
			}
			// Answers that had not arrived at the end are only counted by the server.
			if test.depth == 1 && (busy > refused.Load() || r.Requests > answered.Load() || r.Unfinished < held.Load()) {
				t.Errorf("%d refused, %d answered, %d unfinished; the server says %d, %d, and %d held",
					busy, r.Requests, r.Unfinished, refused.Load(), answered.Load(), held.Load())
			}
			if r.Unfinished == 0 || busy == 0 || r.Requests == 0 {
				t.Errorf("%d answered, %d refused, %d unfinished, want some of each", r.Requests, busy, r.Unfinished)
			}
		})
	}
}
