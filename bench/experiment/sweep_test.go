package experiment

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
)

func TestParseSweep(t *testing.T) {
	for list, want := range map[string]string{
		"c=8": "8", "c= 8, 4": "8 4", "keys=1k,30k": "1000 30000", "rate=2.5k,5k": "2500 5000", "workers=1,8": "1 8",
		"value=16,16..1024": "16 16..1024", "work=0s,100us,1ms,spin 1ms": "0s 100µs 1ms spin 1ms",
	} {
		sw, err := ParseSweep(list, cluster.Default())
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		if got := strings.Join(sw.Points, " "); got != want || len(sw.cfgs) != len(sw.Points) {
			t.Errorf("%s is %s with %d configurations, want %s", list, got, len(sw.cfgs), want)
		}
	}
	sw, err := ParseSweep("work=0s,spin 1ms", cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []cluster.Work{{}, {Spin: true, Time: time.Millisecond}} {
		if got := sw.cfgs[i]; got.Server.Work != want || got.Server.Workers != 8 || got.Workload.Keys != 1000 {
			t.Errorf("point %d has the configuration %+v, want work %v and nothing else", i, got, want)
		}
	}
}

// With -noretry a point has the refusals that its servers had.
func TestSweepNoRetry(t *testing.T) {
	var turns atomic.Int64
	cfg, _ := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			if turns.Add(1)%5 == 0 {
				n.Refuse(c)
			} else {
				n.Answer(c, apply)
			}
		})
	})
	cfg.Workload.Duration = 50 * time.Millisecond
	for _, once := range []bool{false, true} {
		r, err := measureNew(t.Context(), load.NewLockstep(cfg), Plan{Once: once}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if (r.Errors[client.ErrBusy.Error()] > 0) != once || r.Refusals == 0 || r.Requests == 0 {
			t.Errorf("noretry %v: %d requests failed as busy, of %d refusals", once, r.Errors[client.ErrBusy.Error()], r.Refusals)
		}
	}
}
