package experiment

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// A Sweep is a property of the workload or of the servers, and the values at which
// compare measures, its points: c=1,2,4,8 or rate=5k,10k or work=0,1ms.
type Sweep struct {
	Property string   `json:"property"` // as its flag is called
	Points   []string `json:"points"`   // in the order of the table

	cfgs []cluster.Config // one a point
}

// parseSweep returns the sweep that text describes, with cfg for everything but its property.
func ParseSweep(text string, cfg cluster.Config) (*Sweep, error) {
	property, values, _ := strings.Cut(text, "=")
	sw := &Sweep{Property: property, Points: strings.Split(values, ",")}
	return sw, sw.Restore(cfg)
}

// restore checks the points, writes them as their flag does, and makes the configuration
// of each, with cfg for everything but the swept property.
func (sw *Sweep) Restore(cfg cluster.Config) error {
	switch sw.Property {
	case "c", "rate", "batch", "depth", "keys", "value", "buckets", "work", "workers", "queue":
	default:
		return fmt.Errorf("%q is not PROPERTY=VALUES with one of the properties c, rate, batch, depth, keys, value, buckets, work, workers, queue", sw.Property)
	}
	for i, point := range sw.Points {
		at := cfg
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		workload.Flags(&at, fs)
		at.Flags(fs, "server")
		point = strings.TrimSpace(point)
		if n, err := strconv.ParseFloat(strings.TrimSuffix(point, "k"), 64); err == nil && strings.HasSuffix(point, "k") {
			point = strconv.FormatFloat(1000*n, 'f', -1, 64)
		}
		if err := fs.Set(sw.Property, point); err != nil {
			return err
		}
		point = fs.Lookup(sw.Property).Value.String()
		if slices.Contains(sw.Points[:i], point) {
			return fmt.Errorf("%s: %s is given twice", sw.Property, point)
		}
		if _, err := workload.New(at.Workload); err != nil {
			return fmt.Errorf("%s=%s: %w", sw.Property, point, err)
		}
		sw.Points[i] = point
		sw.cfgs = append(sw.cfgs, at)
	}
	return nil
}

// number is the place of a point on an axis: its number, or its time in nanoseconds.
func (sw *Sweep) Number(point string) float64 {
	point = strings.TrimPrefix(point, "spin ")
	if d, err := time.ParseDuration(point); err == nil && sw.Property == "work" {
		return float64(d)
	}
	least, _, _ := strings.Cut(point, "..") // of a range of sizes
	v, _ := strconv.ParseFloat(least, 64)
	return v
}

// at is the workload of a point.
func (sw *Sweep) At(point string) cluster.Workload {
	return sw.cfgs[slices.Index(sw.Points, point)].Workload
}

// label is a point as a person reads it.
func (sw *Sweep) Label(point string) string {
	if n, err := strconv.ParseInt(point, 10, 64); err == nil {
		return text.Count(n)
	}
	return point
}

// Sweeps measures every stage at every point: in interleaved rounds, each of
// which takes them all, in random order. For each measurement servers are started, and
// stopped after it. So none finds what another has left, such as a queue, or keys; no
// other process runs beside it; and one that happens to be faster than its like, because
// of where its memory lies, is so in one round only. add takes in each result.
func RunSweep(ctx context.Context, h *testbed.Bed, sw *Sweep, plan Plan, line Progress, add func(stage, point string, round int, r *load.Result) error) error {
	rng := rand.New(rand.NewPCG(sw.cfgs[0].Workload.Seed, 0))
	stages := len(h.Programs)
	for round := 1; round <= plan.Rounds; round++ {
		for done, i := range rng.Perm(stages * len(sw.Points)) {
			p, point, cfg := h.Programs[i%stages], sw.Points[i/stages], sw.cfgs[i/stages]
			line.Say(fmt.Sprintf("round %d of %d: %s, %s %s", round, plan.Rounds, p.Name, sw.Property, point))
			if d := cfg.Workload.Duration; d > 0 {
				left := (plan.Rounds-round+1)*stages*len(sw.Points) - done
				line.Expect(time.Duration(left) * (d + load.Warmup(d)))
			}
			var r *load.Result
			err := h.With(ctx, p, cfg, plan.Nodes, func(ctx context.Context, cfg cluster.Config) (err error) {
				r, err = measureNew(ctx, cfg, plan.Once, round)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s at %s=%s: %w", p.Name, sw.Property, point, err)
			}
			if err := add(p.Name, point, round, r); err != nil {
				return err
			}
			if err := r.Broken(); err != nil {
				return fmt.Errorf("%s at %s=%s: %w", p.Name, sw.Property, point, err)
			}
		}
	}
	return nil
}

// measureNew is measure on servers that have no keys yet.
func measureNew(ctx context.Context, cfg cluster.Config, once bool, round int) (*load.Result, error) {
	work, err := workload.New(cfg.Workload)
	if err != nil {
		return nil, err
	}
	work.Once, work.Round = once, uint64(round-1)
	if err := load.Preload(ctx, load.NewLockstep(cfg), work); err != nil {
		return nil, err
	}
	return load.Measure(ctx, load.NewLockstep(cfg), work, 0)
}
