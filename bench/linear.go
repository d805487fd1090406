package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/lincheck"
)

func checkFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.stages, "stages", "1,2,3,4", "what to check: numbers, directory names or `paths`")
	fs.IntVar(&o.nodes, "nodes", 1, "node processes of each stage; in 1..16")
	fs.BoolVar(&o.running, "running", false, "check the servers that properties.json names, which run already")
	fs.BoolVar(&o.faults, "faults", false, "cut and delay connections meanwhile")
	fs.DurationVar(&o.length, "duration", 10*time.Second, "how long to check each stage, above 0")
	fs.Uint64Var(&o.cfg.Workload.Seed, "seed", o.cfg.Workload.Seed, "the same seed draws the same requests")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress line")
	o.cfg.Flags(fs, "server")
}

// What a check asks for. Few clients on few keys, over and over with new ones, find
// more than many clients on many keys, or on one: the search stays small, and what
// overlaps does so on the same keys.
const (
	checkGroups  = 4  // histories in the making at once
	checkKeys    = 4  // of a group, all on one node
	checkCalls   = 40 // of each client of a group
	checkUnknown = 3  // outcomes, after which a group is retired: each doubles the search
	checkStay    = 16 // calls at most on one connection
	checkWork    = 10 * time.Microsecond
	checkTime    = 10 * time.Second // for one history, to be decided
	faultTime    = 250 * time.Millisecond
)

// check asks whether every answer that the servers gave is linearizable.
func check(ctx context.Context, o *options) error {
	if o.nodes < 1 || o.nodes > 16 {
		return usageErrorf("-nodes: %d is not in 1..16", o.nodes)
	}
	if o.length <= 0 {
		return usageErrorf("-duration: %v is not above 0", o.length)
	}
	line := newProgress(o.stderr, o.quiet)
	defer line.stop()
	if o.running {
		return o.checkServers(ctx, line, "the running servers", o.cfg)
	}
	dirs, err := stageDirs(ctx, strings.Split(o.stages, ","))
	if errors.Is(err, errNoStage) {
		return usageErrorf("-stages: %w", err)
	} else if err != nil {
		return err
	}
	if o.cfg.Server.Work.Time == 0 {
		// Without time between look-up and effect, a store without its lock passes.
		o.cfg.Server.Work = cluster.Work{Spin: true, Time: checkWork}
	}
	return o.checkStages(ctx, dirs, line)
}

func (o *options) checkStages(ctx context.Context, dirs []string, line *progress) (err error) {
	h, err := newHouse(ctx, dirs, line.say)
	if err != nil {
		return err
	}
	defer func() {
		if e := h.close(); err == nil {
			err = e
		}
	}()
	var found []error
	for _, p := range h.programs {
		s, err := h.start(ctx, p, o.cfg, o.nodes)
		if err != nil {
			return err
		}
		watched, cancel := h.watch(ctx)
		err = o.checkServers(watched, line, p.name, s.cfg)
		if cause := context.Cause(watched); cause != nil {
			err = cause // a server that died, or Ctrl-C, rather than what came of that
		}
		cancel()
		if stopped := h.stop(s); err == nil {
			err = stopped
		}
		if err != nil && !errors.As(err, new(codeError)) {
			return fmt.Errorf("%w%s", err, s.lastWords(err))
		}
		found = append(found, err) // and the next stage is checked all the same
	}
	return errors.Join(found...)
}

// checkServers checks the servers of one cluster, and prints what it found.
func (o *options) checkServers(ctx context.Context, line *progress, name string, cfg cluster.Config) error {
	line.say("checking " + name)
	line.expect(o.length)
	c := &checker{cfg: cfg, seed: o.cfg.Workload.Seed}
	if o.running {
		c.prefix = fmt.Sprintf("check-%08x-", rand.Uint32())
	}
	if o.faults {
		stop, err := c.breakNetwork()
		if err != nil {
			return err
		}
		defer stop()
	}
	over, cancel := context.WithTimeout(ctx, o.length)
	defer cancel()
	var groups sync.WaitGroup // each ends with over, or at the first violation
	for i := range checkGroups {
		groups.Go(func() { c.histories(ctx, over, cancel, i) })
	}
	groups.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	verdict := lincheck.Linearizable
	if c.failed {
		verdict = c.verdict
	}
	if c.err != nil {
		return fmt.Errorf("%s: no verdict, for a call was not answered as it must be: %w", name, c.err)
	}
	text := fmt.Sprintf("%s: %v; %s calls in %s histories, %s unknown outcomes\n",
		name, verdict, count(c.calls.Load()), count(c.checked.Load()), count(c.unknown.Load()))
	if c.counterexample != nil {
		text += "\n" + c.counterexample.String() + "\n"
	}
	if err := line.print(o.stdout, text); err != nil {
		return err
	}
	switch {
	case verdict == lincheck.Violated:
		return codeError{exitWrongData, fmt.Errorf("%s gave answers that are not linearizable", name)}
	case verdict != lincheck.Linearizable:
		return fmt.Errorf("%s: a history was not decided in %v", name, checkTime)
	case c.calls.Load() < 2*c.unknown.Load() || c.calls.Load() == 0:
		// What is unknown may have happened or not: of that, everything is linearizable.
		return fmt.Errorf("%s: %w to %s of %s calls: too many to say anything", name, errNoAnswer,
			count(c.unknown.Load()), count(c.calls.Load()))
	}
	return nil
}
