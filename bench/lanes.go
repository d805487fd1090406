package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"sync"
	"time"

	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
)

// lanesRun is how long the load lasts: the lanes are of its middle.
const lanesRun = 600 * time.Millisecond

func lanesFlags(o *options, fs *flag.FlagSet) {
	o.stageFlags(fs, "what to draw")
	workload.Flags(&o.cfg, fs)
	fs.StringVar(&o.svg, "svg", "", "write the picture to this `file`")
	fs.StringVar(&o.out, "o", "", "write what was measured to this `file`, as JSON")
	o.quietFlag(fs)
}

// drawLanes shows what each client's request is doing, during 16 ms of a real run.
func drawLanes(ctx context.Context, o *options) error {
	if !o.given["work"] && o.cfg.Server.Work.Time == 0 {
		o.cfg.Server.Work = cluster.Work{Time: time.Millisecond}
	}
	o.cfg.Workload.Duration, o.cfg.Workload.Ops = lanesRun, 0
	dirs, err := stageDirs(ctx, o.stages)
	if err != nil {
		return err
	}
	var panels []figure.Panel
	err = o.withStages(ctx, dirs, func(ctx context.Context, bed *testbed.Bed) error {
		for _, p := range bed.Programs {
			o.line.Say(p.Name)
			err := bed.With(ctx, p, o.cfg, 1, func(ctx context.Context, s *testbed.Servers) error {
				marks, err := recordLanes(ctx, s)
				if err == nil {
					panels = append(panels, panel(p.Name, marks, o.cfg.Workload.Connections))
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%v of a run, a lane for each client, work %v:\n%s\n", metrics.LaneTime, o.cfg.Server.Work, figure.Legend())
	for _, p := range panels {
		text += fmt.Sprintf("\n%s: at most %d of %d clients in the table at the same time\n%s", p.Title, p.Together(), len(p.Lanes), p.Text(64))
	}
	if err := o.line.Print(o.stdout, text); err != nil {
		return err
	}
	if o.out != "" {
		data, _ := json.MarshalIndent(map[string]any{"work": o.cfg.Server.Work.String(), "doings": figure.Doings, "stages": panels}, "", " ") // plain values
		err = output{path: o.out}.replace(append(data, '\n'))
	}
	if o.svg != "" {
		err = cmp.Or(err, output{path: o.svg}.replace([]byte(figure.LanesSVG(panels)+"\n")))
	}
	return err
}

// recordLanes puts load on the servers and asks the first in the middle what its connections do.
func recordLanes(ctx context.Context, s *testbed.Servers) (marks []metrics.LaneMark, err error) {
	work, err := workload.New(s.Config.Workload)
	if err != nil {
		return nil, err
	}
	if err := load.Preload(ctx, s.Target, work, func(string, time.Duration) {}); err != nil {
		return nil, err
	}
	var recorded error
	var asking sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asking.Go(func() { // ends with the answer, or with ctx
		control.Pause(ctx, lanesRun/2+load.Warmup(lanesRun))
		marks, recorded = client.Lanes(ctx, s.Config, 0)
	})
	if _, err = load.Measure(ctx, s.Target, work, 0, nil); err != nil {
		cancel()
	}
	asking.Wait()
	return marks, cmp.Or(err, recorded)
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
