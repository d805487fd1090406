// Package lanes finds out what each client's request is doing, in the middle of a real run:
// waiting for a worker or a lock, in the table, or on its way back.
package lanes

import (
	"cmp"
	"context"
	"sync"
	"time"

	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/control"
	"lockstep/common/metrics"
)

// Length is how long the load lasts.
const Length = 600 * time.Millisecond

// Record puts load on servers for a moment and asks node 0 in the middle of it what its
// connections are doing.
func Record(ctx context.Context, s *testbed.Servers) (figure.Panel, error) {
	work, err := workload.New(s.Config.Workload)
	if err == nil {
		err = load.Preload(ctx, s.Target, work, func(string, time.Duration) {})
	}
	if err != nil {
		return figure.Panel{}, err
	}
	var marks []metrics.LaneMark
	var recorded error
	var asking sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asking.Go(func() { // ends with the answer, or with ctx
		control.Pause(ctx, Length/2+load.Warmup(Length))
		marks, recorded = client.Lanes(ctx, s.Config, 0)
	})
	if _, err = load.Measure(ctx, s.Target, work, 0, nil); err != nil {
		cancel()
	}
	asking.Wait()
	return panel(s.Name, marks, s.Config.Workload.Connections), cmp.Or(err, recorded)
}

// panel makes lanes of marks, in the order of the connections. Each mark holds until the next
// of its lane. Clients that the server does not serve have empty lanes.
func panel(stage string, marks []metrics.LaneMark, clients int) figure.Panel {
	p := figure.Panel{Title: stage, Span: metrics.LaneTime}
	places := make(map[int64]int)
	for _, m := range marks {
		i, ok := places[m.Lane]
		if !ok {
			i = len(p.Lanes)
			places[m.Lane] = i
			p.Lanes = append(p.Lanes, nil)
		} else {
			p.Lanes[i][len(p.Lanes[i])-1].To = m.At
		}
		p.Lanes[i] = append(p.Lanes[i], figure.Stretch{Doing: int(m.State), From: m.At, To: p.Span})
	}
	for len(p.Lanes) < clients {
		p.Lanes = append(p.Lanes, nil)
	}
	return p
}
