package experiment

import (
	"context"
	"flag"
	"fmt"
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

// A Sweep is a property of the workload or of the servers, with the values at which stages
// are measured, called points: c=1,2,4,8 or rate=5k,10k or work=0,1ms.
type Sweep struct {
	Property string   `json:"property"` // the name of its flag
	Points   []string `json:"points"`   // in the order of the table

	cfgs []cluster.Config // one for each point
}

// ParseSweep returns the sweep that arg describes: PROPERTY=VALUE,VALUE,... All other
// properties are as in cfg.
func ParseSweep(arg string, cfg cluster.Config) (*Sweep, error) {
	property, values, _ := strings.Cut(arg, "=")
	sw := &Sweep{Property: property, Points: strings.Split(values, ",")}
	return sw, sw.Restore(cfg)
}

// properties are what can be swept: names of flags.
var properties = []string{"c", "rate", "batch", "depth", "keys", "value", "buckets", "work", "workers", "queue"}

// Restore checks the points, rewrites each as its flag prints it, and sets cfgs.
func (sw *Sweep) Restore(cfg cluster.Config) error {
	if !slices.Contains(properties, sw.Property) {
		return fmt.Errorf("%q is not PROPERTY=VALUES with a property out of %s", sw.Property, strings.Join(properties, ", "))
	}
	for i, point := range sw.Points {
		at := cfg
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		workload.Flags(&at, fs)
		at.Flags(fs, "server")
		point = strings.TrimSpace(point)
		thousands, ok := strings.CutSuffix(point, "k")
		if n, err := strconv.ParseFloat(thousands, 64); err == nil && ok {
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

// Number returns where a point lies on an axis: its number, or its time in nanoseconds.
func (sw *Sweep) Number(point string) float64 {
	point = strings.TrimPrefix(point, "spin ")
	if d, err := time.ParseDuration(point); err == nil && sw.Property == "work" {
		return float64(d)
	}
	least, _, _ := strings.Cut(point, "..") // of a range of sizes
	v, _ := strconv.ParseFloat(least, 64)
	return v
}

// At returns the workload of a point.
func (sw *Sweep) At(point string) cluster.Workload {
	return sw.cfgs[slices.Index(sw.Points, point)].Workload
}

// Label returns a point with its digits in groups.
func (sw *Sweep) Label(point string) string {
	if n, err := strconv.ParseInt(point, 10, 64); err == nil {
		return text.Count(n)
	}
	return point
}

// Run measures every stage at every point in each round. It starts new servers for each
// measurement and stops them after it: no measurement finds queues or keys of another, no
// other process runs beside it, and servers that are fast because of where their memory
// lies are fast in one round only. Run calls add with each result.
func (sw *Sweep) Run(ctx context.Context, b *testbed.Bed, plan Plan, progress Progress, add func(stage, point string, round int, r *load.Result) error) error {
	var all []measurement
	for i, point := range sw.Points {
		for _, p := range b.Programs {
			all = append(all, measurement{
				name:     fmt.Sprintf("%s at %s=%s", p.Name, sw.Property, point),
				duration: sw.cfgs[i].Workload.Duration,
				measure: func(round int) (r *load.Result, err error) {
					err = b.With(ctx, p, sw.cfgs[i], plan.Nodes, func(ctx context.Context, s *testbed.Servers) (err error) {
						r, err = measureNew(ctx, s.Target, plan, round)
						return err
					})
					return r, err
				},
				add:    func(round int, r *load.Result) error { return add(p.Name, point, round, r) },
				output: func(error) string { return "" }, // the servers are stopped
			})
		}
	}
	return interleave(plan.Rounds, sw.cfgs[0].Workload.Seed, all, progress)
}

// measureNew measures new servers.
func measureNew(ctx context.Context, to load.Target, plan Plan, round int) (*load.Result, error) {
	work, err := newWorkload(ctx, to, plan, round)
	if err != nil {
		return nil, err
	}
	return load.Measure(ctx, to, work, 0)
}
