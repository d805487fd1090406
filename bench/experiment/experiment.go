// Package experiment measures stages in interleaved rounds, in random order, each time with
// new servers. What a machine does meanwhile then affects all of them alike. It also records
// what each client's request is doing, in the middle of a real run: waiting for a worker or a
// lock, in the table, or on its way back.
package experiment

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
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
	"lockstep/common/text"
)

// A Subject is what is measured once in each round: a stage, at one point of a sweep if there
// is one, or a yardstick.
type Subject struct {
	Name   string // of the stage or yardstick
	Point  string // of the sweep, or ""
	Title  string // in progress and errors
	Config cluster.Config
	Start  testbed.StartFunc // starts new servers
}

// Stage returns a stage to be measured as the given number of nodes.
func Stage(b *testbed.Bed, p testbed.Program, cfg cluster.Config, nodes int) Subject {
	start := func(ctx context.Context) (*testbed.Servers, error) { return b.Start(ctx, p, cfg, nodes) }
	return Subject{Name: p.Name, Title: p.Name, Config: cfg, Start: start}
}

// A Plan says what is measured, how often and how.
type Plan struct {
	Bed      *testbed.Bed
	Subjects []Subject
	Rounds   int
	Once     bool // a request that is answered Busy has failed, and is not sent again
	Sampled  bool // results have samples
	Progress Progress
	Add      func(s *Subject, round int, r *load.Result) error // takes each result, even of a round that was cut short

	storeTime time.Duration // limits how long storing the keys may take; 0: a minute, or 20 µs a key if that is longer
	prepared  int           // how many measurements have had servers with keys so far
	preparing time.Duration // how long that took, of all of them
}

// A Progress is told what is being done and how much time is left, see progress.Line.
type Progress interface {
	Say(what string)
	Detail(what string)
	Pace(opsPerSecond float64, p99 time.Duration, failed int64)
	Expect(left time.Duration)
}

// Run measures each subject once in each round, in random order. Every measurement is an
// experiment of its own: it starts new servers, stores the keys, puts the load on them and
// stops them. So no other servers run beside it, and it finds no queues or keys of another.
// What differs from one start to the next (where memory lies, where the scheduler puts two
// processes) then differs between rounds, and shows in the interval.
func (plan *Plan) Run(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(plan.Subjects[0].Config.Workload.Seed, 0))
	for round := 1; round <= plan.Rounds; round++ {
		plan.Progress.Say(fmt.Sprintf("round %d of %d", round, plan.Rounds))
		for _, i := range rng.Perm(len(plan.Subjects)) {
			s := &plan.Subjects[i]
			if err := plan.measure(ctx, s, round); err != nil {
				return fmt.Errorf("%s, round %d: %w", s.Title, round, err)
			}
		}
	}
	return nil
}

func (plan *Plan) measure(ctx context.Context, s *Subject, round int) error {
	title := fmt.Sprintf("%d/%d %s", round, plan.Rounds, s.Title) // which leaves room for Pace in 60 columns
	begin := time.Now()
	told := func(what string, left time.Duration) {
		plan.Progress.Detail(title + ": " + what)
		plan.expect(s, time.Since(begin), left)
	}
	told("starting", plan.preparing/time.Duration(max(plan.prepared, 1)))
	return plan.Bed.Use(ctx, s.Start, func(ctx context.Context, servers *testbed.Servers) error {
		return servers.WithOutput(testbed.Guard(ctx, servers.Target, func(ctx context.Context) error {
			work, err := plan.store(ctx, servers.Target, told, round)
			if err != nil {
				return err
			}
			plan.prepared, plan.preparing = plan.prepared+1, plan.preparing+time.Since(begin)
			plan.Progress.Detail(title)
			r, err := load.Measure(ctx, servers.Target, work, 0, plan.Progress.Pace)
			if r != nil && (err == nil || r.Requests > 0) { // cut short, but better than nothing
				if err := plan.Add(s, round, r); err != nil {
					return err
				}
			}
			if err == nil {
				err = r.Broken()
			}
			return err
		}))
	})
}

// expect tells how long the measurements still take. The next one has been prepared, with servers
// and keys, for the time spent, and will be ready in the time left; the others are expected to take
// the average time to prepare.
func (plan *Plan) expect(s *Subject, spent, left time.Duration) {
	if length := s.Config.Workload.Duration; length > 0 { // otherwise the load ends when its operations are done
		each := (plan.preparing + spent + left) / time.Duration(plan.prepared+1)
		loads := time.Duration(plan.Rounds*len(plan.Subjects) - plan.prepared)
		plan.Progress.Expect(left + (loads-1)*each + loads*(length+load.Warmup(length)))
	}
}

// store stores the keys on new servers, and returns their workload.
func (plan *Plan) store(ctx context.Context, to load.Target, told func(string, time.Duration), round int) (*workload.Workload, error) {
	work, err := workload.New(to.Config().Workload)
	if err != nil {
		return nil, err
	}
	work.Once, work.Sampled, work.Round = plan.Once, plan.Sampled, uint64(round-1)
	limit := cmp.Or(plan.storeTime, max(time.Minute, time.Duration(work.Keys/50_000)*time.Second))
	late := fmt.Errorf("storing %s took longer than %v: give fewer with -keys, or less -work", text.Plural(int64(work.Keys), "key"), limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	if err := load.Preload(ctx, to, work, told); err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return work, nil
}

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

// Subjects returns every stage of b at every point, to be measured as the given number of nodes.
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

// LanesTime is how long the load of RecordLanes lasts.
const LanesTime = 600 * time.Millisecond

// RecordLanes puts load on servers for a moment and asks node 0 in the middle of it what its
// connections are doing.
func RecordLanes(ctx context.Context, s *testbed.Servers) (figure.Panel, error) {
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
		control.Pause(ctx, LanesTime/2+load.Warmup(LanesTime))
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
