package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"lockstep/bench/check"
	"lockstep/bench/experiment"
	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/tour"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/lincheck"
	"lockstep/common/metrics"
)

// stageFlags defines the flags of the commands that start stages.
func (o *options) stageFlags(fs *flag.FlagSet, doc string) {
	fs.StringVar(&o.stages, "stages", "1,2,3,4", doc+": `stages` by number, directory name or path")
	intFlag(fs, &o.nodes, "nodes", 1, 1, 16, "node processes of each stage")
	o.cfg.Flags(fs, "server")
}

// withStages builds these stages and runs f with them. Afterwards their processes have
// stopped, and their files are gone.
func (o *options) withStages(ctx context.Context, stages []string, f func(ctx context.Context, bed *testbed.Bed) error) error {
	bed, err := testbed.New(ctx, stages, o.line.Say)
	if errors.Is(err, testbed.ErrNoStage) && o.stages != "" { // otherwise nobody has named it
		err = usageErrorf("-stages: %w", err)
	}
	if err != nil {
		return err
	}
	return cmp.Or(f(ctx, bed), bed.Close())
}

// eachStage builds the stages of -stages, and calls f with each of them, started as the given number of nodes.
func (o *options) eachStage(ctx context.Context, nodes int, f func(context.Context, *testbed.Servers) error) error {
	return o.withStages(ctx, strings.Split(o.stages, ","), func(ctx context.Context, bed *testbed.Bed) error {
		for _, p := range bed.Programs {
			if err := bed.With(ctx, p, o.cfg, nodes, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// showTour shows what breaks each stage, and what the next one cures.
func showTour(ctx context.Context, o *options) error {
	return o.withStages(ctx, []string{"1", "2", "3", "4"}, func(ctx context.Context, bed *testbed.Bed) error {
		return tour.Run(ctx, bed, o.cfg.Secret, 500*time.Millisecond, 6, &o.line, o.stdout) // the servers read LOCKSTEP_SECRET, too
	})
}

func lanesFlags(o *options, fs *flag.FlagSet) {
	o.stageFlags(fs, "what to draw")
	workload.Flags(&o.cfg, fs)
	fs.StringVar(&o.svg, "svg", "", "write the picture to this `file`")
	fs.StringVar(&o.out, "o", "", "write what was measured to this `file`, as JSON")
	o.quietFlag(fs)
}

// drawLanes shows what each client's request is doing during 16 ms of a real run.
func drawLanes(ctx context.Context, o *options) error {
	if !o.given["work"] && o.cfg.Server.Work.Time == 0 {
		o.cfg.Server.Work = cluster.Work{Time: time.Millisecond}
	}
	o.cfg.Workload.Duration, o.cfg.Workload.Ops = experiment.LanesTime, 0
	if o.out == standardOutput || o.svg == standardOutput {
		return usageErrorf("-o and -svg each need a file: standard output has the text")
	}
	var panels []figure.Panel
	err := o.eachStage(ctx, 1, func(ctx context.Context, s *testbed.Servers) error {
		o.line.Say(s.Name)
		panel, err := experiment.RecordLanes(ctx, s)
		panels = append(panels, panel)
		return err
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

func checkFlags(o *options, fs *flag.FlagSet) {
	o.stageFlags(fs, "what to check")
	fs.BoolVar(&o.running, "running", false, "check the running servers that properties.json names")
	fs.BoolVar(&o.faults, "faults", false, "cut and delay connections meanwhile")
	all := flag.NewFlagSet("", flag.ContinueOnError)
	workload.Flags(&o.cfg, all)
	for _, name := range []string{"duration", "seed"} {
		f := all.Lookup(name)
		fs.Var(f.Value, name, f.Usage)
	}
	d := fs.Lookup("duration")
	d.Usage, d.DefValue = "how long to check each stage, above 0s", "10s"
	o.quietFlag(fs)
}

// runCheck finds out whether every answer that the servers gave is linearizable.
func runCheck(ctx context.Context, o *options) error {
	if !o.given["duration"] { // that of the file is for bench run
		o.cfg.Workload.Duration = 10 * time.Second
	} else if o.cfg.Workload.Duration == 0 {
		return usageErrorf("-duration: 0s is not above 0s")
	}
	if o.running {
		if _, err := load.NewLockstep(o.cfg).Stats(ctx); err != nil {
			return o.advise(err)
		}
		return o.checkServers(ctx, "the running servers", o.cfg)
	}
	if o.cfg.Server.Work.Time == 0 {
		// Without time between look-up and effect, a store without its lock passes.
		o.cfg.Server.Work = cluster.Work{Spin: true, Time: check.Work}
	}
	var wrong error
	err := o.eachStage(ctx, o.nodes, func(ctx context.Context, s *testbed.Servers) error {
		err := o.checkServers(ctx, s.Name, s.Config)
		if errors.As(err, new(codeError)) {
			wrong, err = errors.Join(wrong, err), nil // the next stage is still checked
		}
		return s.WithOutput(err)
	})
	return errors.Join(wrong, err)
}

// checkServers checks the servers of one cluster, and prints what it found.
func (o *options) checkServers(ctx context.Context, name string, cfg cluster.Config) error {
	o.line.Say("checking " + name)
	o.line.Expect(o.cfg.Workload.Duration)
	plan := check.Plan{Seed: o.cfg.Workload.Seed, Length: o.cfg.Workload.Duration, Faults: o.faults, Shared: o.running}
	var found *check.Found
	err := testbed.Guard(ctx, load.NewLockstep(cfg), func(ctx context.Context) (err error) {
		if found, err = check.Run(ctx, cfg, plan); err == nil {
			err = found.Undecided()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := o.line.Print(o.stdout, name+": "+found.String()); err != nil {
		return err
	}
	if found.Verdict == lincheck.Violated {
		return codeError{exitWrongData, fmt.Errorf("%s gave answers that are not linearizable", name)}
	}
	return nil
}
