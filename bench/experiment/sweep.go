package experiment

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
		if err := fs.Set(sw.Property, strings.TrimSpace(point)); err != nil {
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

// Subjects returns every stage of b at every point, to be measured as so many nodes.
func (sw *Sweep) Subjects(b *testbed.Bed, nodes int) (all []Subject) {
	for i, point := range sw.Points {
		for _, p := range b.Programs {
			s := Stage(b, p, sw.cfgs[i], nodes)
			s.Point, s.Title = point, fmt.Sprintf("%s at %s=%s", p.Name, sw.Property, point)
			all = append(all, s)
		}
	}
	return all
}
