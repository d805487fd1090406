package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	properties "lockstep/bench/workload"
	"lockstep/common/cluster"
)

// A Sweep is a property of the workload or of the servers, and the values at which a
// run of compare measures: its points.
//
// It is written PROPERTY=VALUES, such as c=1,2,4..128, where VALUES are values and ranges
// A..B, separated by commas. A range doubles from A on, and ends with B:
//
//	c=1,2,4..128      1, 2, 4, 8, 16, 32, 64, 128
//	buckets=1..1000   1, 2, 4, 8, ..., 512, 1000
//
// Only where one of rate or work begins the list, it takes six even steps:
//
//	rate=5k..60k      5000, 16000, 27000, 38000, 49000, 60000
//	work=0..5ms       0s, 1ms, 2ms, 3ms, 4ms, 5ms
//
// A k after a number stands for 000.
type Sweep struct {
	Property string   `json:"property"` // as its flag is called
	Points   []string `json:"points"`   // ascending or not: the order of the table

	cfgs []cluster.Config // one a point
}

const sweepHelp = "measure at several values of one property, as in `c=1,2,4..128`: A..B doubles from A on,\n" +
	"and ends with B; of rate and work it takes six even steps if it begins the list, as in\n" +
	"rate=5k..60k or work=0..5ms. The properties: c, rate, batch, depth, keys, value, buckets,\n" +
	"work, workers, queue. 3 rounds of 500ms a point, unless -rounds and -duration say otherwise"

// What a sweep does, where the flags say nothing of it.
const (
	sweepRounds = 3
	sweepRound  = 500 * time.Millisecond
	sweepSteps  = 6
)

func (o *options) sweepFlag(fs *flag.FlagSet) { fs.StringVar(&o.sweep, "sweep", "", sweepHelp) }

// useSweep reads the sweep that is asked for, if one is, and sets the rounds that it
// has unless others are asked for.
func (o *options) useSweep() (*Sweep, error) {
	if o.sweep == "" {
		return nil, nil
	}
	if !o.given["rounds"] {
		o.rounds = sweepRounds
	}
	if o.cfg.Workload.Duration == 0 && !o.given["ops"] {
		o.cfg.Workload.Duration = sweepRound
	}
	sw, err := parseSweep(o.sweep, o.cfg)
	if err == nil && (o.given[sw.Property] || sw.Property == "c" && o.given["connections"]) {
		err = fmt.Errorf("%s is swept, and a flag gives it one value: leave one of them out", sw.Property)
	}
	return sw, err
}

// parseSweep returns the sweep that text describes, with cfg for all but its property.
func parseSweep(text string, cfg cluster.Config) (*Sweep, error) {
	property, values, _ := strings.Cut(text, "=")
	sw := &Sweep{Property: property}
	switch property {
	case "c", "rate", "batch", "depth", "keys", "value", "buckets", "work", "workers", "queue":
	default:
		return nil, fmt.Errorf("%q is not PROPERTY=VALUES with one of the properties c, rate, batch, depth, keys, value, buckets, work, workers, queue", text)
	}
	for item := range strings.SplitSeq(values, ",") {
		points, err := sw.expand(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		sw.Points = append(sw.Points, points...)
	}
	for i, point := range sw.Points {
		if slices.Contains(sw.Points[:i], point) {
			return nil, fmt.Errorf("%s: %s is given twice", property, point)
		}
		at := cfg
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		properties.Flags(&at, fs)
		at.Flags(fs, "server")
		if err := fs.Set(property, point); err != nil {
			return nil, err
		}
		if _, err := newWorkload(at.Workload); err != nil {
			return nil, fmt.Errorf("%s=%s: %w", property, point, err)
		}
		sw.cfgs = append(sw.cfgs, at)
	}
	return sw, nil
}

// expand returns the values that an item of the list stands for, as the flag of the
// property takes them.
func (sw *Sweep) expand(item string) (points []string, err error) {
	low, high, ranged := strings.Cut(item, "..")
	low, spin := strings.CutPrefix(low, "spin ")
	from, err := sw.number(low)
	if err != nil {
		return nil, err
	}
	values := []float64{from}
	if ranged {
		to, err := sw.number(high)
		if err != nil {
			return nil, err
		}
		even := len(sw.Points) == 0 && (sw.Property == "rate" || sw.Property == "work")
		switch {
		case from >= to:
			return nil, fmt.Errorf("%s: the range %s does not ascend", sw.Property, item)
		case even:
			for i := 1.0; i < sweepSteps; i++ {
				values = append(values, from+(to-from)*i/(sweepSteps-1))
			}
		default:
			if from == 0 && sw.Property == "work" {
				return nil, fmt.Errorf("work: the range %s doubles, because it does not begin the list, and cannot from 0", item)
			}
			for v := max(2*from, 1); v < to; v *= 2 {
				values = append(values, v)
			}
			values = append(values, to)
		}
	}
	for _, v := range values {
		text := strconv.FormatFloat(math.Round(1000*v)/1000, 'f', -1, 64)
		if sw.Property == "work" {
			text = time.Duration(v).String()
		}
		if spin {
			text = "spin " + text
		}
		points = append(points, text)
	}
	return points, nil
}

// number reads a value of the property, a time in nanoseconds.
func (sw *Sweep) number(text string) (float64, error) {
	if sw.Property == "work" {
		if d, err := time.ParseDuration(text); err == nil {
			return float64(d), nil
		}
		return 0, fmt.Errorf("work: %q is no time such as 1ms", text)
	}
	digits, thousands := strings.CutSuffix(text, "k")
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%s: %q is no number", sw.Property, text)
	}
	if thousands {
		v *= 1000
	}
	return v, nil
}

// at is the workload of a point.
func (sw *Sweep) at(point string) cluster.Workload {
	return sw.cfgs[slices.Index(sw.Points, point)].Workload
}

// label is a point as a person reads it.
func (sw *Sweep) label(point string) string {
	if n, err := strconv.ParseInt(point, 10, 64); err == nil {
		return count(n)
	}
	return point
}

// sweep measures every stage at every point n times: in interleaved rounds, each of
// which takes them all, in random order. For each measurement servers are started, and
// stopped after it. So none finds what another has left, such as a queue, or keys; no
// other process runs beside it; and one that happens to be faster than its like, because
// of where its memory lies, is so in one round only. add takes in each result.
func (h *house) sweep(ctx context.Context, sw *Sweep, nodes, n int, line *progress, add func(stage, point string, round int, r *result) error) error {
	rng := rand.New(rand.NewPCG(sw.cfgs[0].Workload.Seed, 0))
	stages := len(h.programs)
	for round := 1; round <= n; round++ {
		for done, i := range rng.Perm(stages * len(sw.Points)) {
			p, point, cfg := h.programs[i%stages], sw.Points[i/stages], sw.cfgs[i/stages]
			line.say(fmt.Sprintf("round %d of %d: %s, %s %s", round, n, p.name, sw.Property, point))
			if d := cfg.Workload.Duration; d > 0 {
				left := (n-round+1)*stages*len(sw.Points) - done
				line.expect(time.Duration(left) * (d + warmup(d)))
			}
			var r *result
			err := h.with(ctx, p, cfg, nodes, func(ctx context.Context, cfg cluster.Config) (err error) {
				r, err = h.measureNew(ctx, cfg, round)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s at %s=%s: %w", p.name, sw.Property, point, err)
			}
			if err := add(p.name, point, round, r); err != nil {
				return err
			}
			if err := r.broken(); err != nil {
				return fmt.Errorf("%s at %s=%s: %w", p.name, sw.Property, point, err)
			}
		}
	}
	return nil
}

// measureNew is measure on servers that have no keys yet.
func (h *house) measureNew(ctx context.Context, cfg cluster.Config, round int) (*result, error) {
	work, err := newWorkload(cfg.Workload)
	if err != nil {
		return nil, err
	}
	work.once, work.round = h.once, uint64(round-1)
	if err := preload(ctx, target{cfg: cfg}, work); err != nil {
		return nil, err
	}
	return measure(ctx, target{cfg: cfg}, work, 0)
}
