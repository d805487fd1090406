package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/figure"
	"lockstep/bench/testbed"
	"lockstep/bench/tour"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// showTour shows what breaks each stage, and what the next one cures.
func showTour(ctx context.Context, o *options) error {
	return o.withStages(ctx, []string{"1", "2", "3", "4"}, func(ctx context.Context, bed *testbed.Bed) error {
		return tour.Run(ctx, bed, o.cfg.Secret, &o.line, o.stdout) // the servers read LOCKSTEP_SECRET, too
	})
}

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
	o.cfg.Workload.Duration, o.cfg.Workload.Ops = experiment.LanesTime, 0
	if o.out == standardOutput || o.svg == standardOutput {
		return usageErrorf("-o and -svg each need a file: standard output has the text")
	}
	var panels []figure.Panel
	err := o.withStages(ctx, strings.Split(o.stages, ","), func(ctx context.Context, bed *testbed.Bed) error {
		for _, p := range bed.Programs {
			o.line.Say(p.Name)
			err := bed.With(ctx, p, o.cfg, 1, func(ctx context.Context, s *testbed.Servers) error {
				panel, err := experiment.RecordLanes(ctx, s)
				panels = append(panels, panel)
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
	drawn := fmt.Sprintf("%v of a run, a lane for each client, work %v:\n%s", metrics.LaneTime, o.cfg.Server.Work, figure.LanesText(panels))
	if err := o.line.Print(o.stdout, drawn); err != nil {
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
