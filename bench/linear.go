package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/lincheck"
	"lockstep/common/stagetest/faults"
	"lockstep/common/wire"
)

func checkFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.stages, "stages", "1,2,3,4", "what to check: numbers, directory names or `paths`")
	fs.IntVar(&o.nodes, "nodes", 1, "node processes of each stage")
	fs.BoolVar(&o.running, "running", false, "check the servers that properties.json names, which run already")
	fs.BoolVar(&o.faults, "faults", false, "cut and delay connections meanwhile")
	fs.DurationVar(&o.length, "duration", 10*time.Second, "how `long` to check each stage")
	fs.Uint64Var(&o.cfg.Workload.Seed, "seed", o.cfg.Workload.Seed, "the same seed draws the same requests")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress line")
	o.cfg.ServerFlags(fs)
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
			return err
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
	text := fmt.Sprintf("%s: %v; %s calls in %s histories, %s unknown outcomes\n",
		name, verdict, count(c.calls.Load()), count(c.checked.Load()), count(c.unknown.Load()))
	if c.counterexample != nil {
		text += "\n" + c.counterexample.String() + "\n"
	}
	if err := line.print(o.stdout, text); err != nil {
		return err
	}
	switch {
	case c.err != nil:
		return fmt.Errorf("%s: %w", name, c.err)
	case verdict == lincheck.Violated:
		return codeError{exitWrongData, fmt.Errorf("%s gave answers that are not linearizable", name)}
	case verdict != lincheck.Linearizable:
		return fmt.Errorf("%s: a history was not decided in %v", name, checkTime)
	case c.calls.Load() == 0:
		return fmt.Errorf("%s answered nothing", name)
	}
	return nil
}

// A checker puts requests to the servers of a cluster, and judges the answers.
type checker struct {
	cfg    cluster.Config
	seed   uint64
	prefix string                                                            // of the keys: servers that ran before the check are not empty
	dial   func(ctx context.Context, network, addr string) (net.Conn, error) // nil: TCP
	clock  atomic.Int64                                                      // stamps calls and returns
	next   atomic.Int64                                                      // group

	calls, checked, unknown atomic.Int64

	mu             sync.Mutex // guards what follows: the first failure
	failed         bool
	verdict        lincheck.Verdict
	counterexample *lincheck.Counterexample
	err            error
}

// histories makes and judges one history after another, until over ends.
func (c *checker) histories(ctx, over context.Context, stop func(), worker int) {
	for over.Err() == nil {
		number := c.next.Add(1)
		g := &group{checker: c, number: number, node: int(number) % len(c.cfg.Nodes), keys: c.keys(number)}
		calls, err := g.history(ctx, over)
		c.calls.Add(int64(len(calls)))
		c.checked.Add(1)
		verdict, counterexample := lincheck.Linearizable, (*lincheck.Counterexample)(nil)
		if err == nil {
			deciding, cancel := context.WithTimeout(ctx, checkTime)
			verdict, counterexample = lincheck.Check(deciding, calls)
			cancel()
		}
		if err == nil && verdict == lincheck.Linearizable || ctx.Err() != nil {
			continue
		}
		c.mu.Lock()
		if !c.failed {
			c.failed, c.verdict, c.counterexample, c.err = true, verdict, counterexample, err
		}
		c.mu.Unlock()
		stop()
	}
}

// keys are the keys of a group, all owned by its node.
func (c *checker) keys(number int64) (keys []string) {
	for i := 0; len(keys) < checkKeys; i++ {
		key := fmt.Sprintf("%sg%d.%d", c.prefix, number, i)
		if c.cfg.Owner(key) == int(number)%len(c.cfg.Nodes) {
			keys = append(keys, key)
		}
	}
	return keys
}

// A group is a few clients on a few keys, and what they asked and were answered.
type group struct {
	*checker
	number int64
	node   int
	keys   []string

	mu      sync.Mutex // guards what follows
	made    []lincheck.Call
	unknown int
	err     error
}

// history has the clients of the group make their calls, and returns all of them.
func (g *group) history(ctx, over context.Context) ([]lincheck.Call, error) {
	over, stop := context.WithCancel(over)
	defer stop()
	var clients sync.WaitGroup // each ends after its calls, or with over
	for i := range 2 + int(g.number)%2 {
		clients.Go(func() {
			if err := g.client(ctx, over, stop, i); err != nil {
				g.mu.Lock()
				g.err = err
				g.mu.Unlock()
				stop()
			}
		})
	}
	clients.Wait()
	return g.made, g.err
}

// client makes the calls of one client, on several connections one after the other.
func (g *group) client(ctx, over context.Context, retire func(), number int) error {
	rng := rand.New(rand.NewPCG(g.seed, uint64(g.number)<<8|uint64(number)))
	d := &draw{rng: rng, keys: g.keys, client: number, last: make(map[string][]byte)}
	for made := 0; made < checkCalls && over.Err() == nil; {
		cl := client.New(g.cfg)
		if g.dial != nil {
			cl.DialContext = g.dial
		}
		for stay := 1 + rng.IntN(checkStay); stay > 0 && made < checkCalls && over.Err() == nil; stay-- {
			made++
			if err := g.call(ctx, cl, d, retire); err != nil {
				cl.Close()
				return err
			}
		}
		cl.Close()
	}
	return nil
}

// call makes one call, and notes it, unless it was certainly not applied.
func (g *group) call(ctx context.Context, cl *client.Client, d *draw, retire func()) error {
	limit := checkTime
	if g.dial != nil {
		limit = faultTime // an answer that disappeared does not come
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	call := lincheck.Call{Client: d.client, Ops: d.ops(), Start: g.clock.Add(1), End: lincheck.Never}
	results, err := cl.Do(within, call.Ops...)
	switch {
	case err == nil:
		call.Results, call.End = results, g.clock.Add(1)
		d.learn(call.Ops, results)
	case results[0].Status == wire.NotRun && (g.dial != nil || ctx.Err() != nil):
		return nil
	case results[0].Status == wire.NotRun:
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.made = append(g.made, call)
	if err != nil {
		g.checker.unknown.Add(1)
		if g.unknown++; g.unknown == checkUnknown {
			retire()
		}
	}
	return nil
}

// A draw draws the requests of one client: every kind of operation, alone and in
// batches. No two values are the same.
type draw struct {
	rng    *rand.Rand
	keys   []string
	client int
	values int
	last   map[string][]byte // what the client last knew of a key; nil: nothing there
}

func (d *draw) ops() (ops []wire.Op) {
	n := 1
	if d.rng.IntN(3) == 0 {
		n = 2 + d.rng.IntN(len(d.keys)-1)
	}
	for range n {
		op := wire.Op{Key: d.keys[d.rng.IntN(len(d.keys))]}
		switch k := d.rng.IntN(10); {
		case k < 4:
			op.Kind = wire.Get
		case k < 7:
			op.Kind, op.Value = wire.Put, d.value()
		case k < 8:
			op.Kind = wire.Delete
		default:
			op.Kind, op.Value, op.Old = wire.CompareAndSwap, d.value(), d.last[op.Key]
			op.Absent = op.Old == nil
		}
		ops = append(ops, op)
	}
	return ops
}

func (d *draw) value() []byte {
	d.values++
	return fmt.Appendf(nil, "%d.%d", d.client, d.values)
}

func (d *draw) learn(ops []wire.Op, results []wire.Result) {
	for i, op := range ops {
		switch results[i].Status {
		case wire.Found:
			d.last[op.Key] = results[i].Value
		case wire.Missing, wire.Deleted:
			d.last[op.Key] = nil
		case wire.Created, wire.Replaced, wire.Swapped:
			d.last[op.Key] = op.Value
		}
	}
}

// breakNetwork puts a network between the clients and the servers that cuts about a
// third of the connections somewhere, and delays or loses answers on some others.
func (c *checker) breakNetwork() (stop func(), err error) {
	proxies := make(map[string]*faults.Proxy)
	stop = func() {
		for _, p := range proxies {
			p.Close()
		}
	}
	for _, n := range c.cfg.Nodes {
		p, err := faults.NewProxy(n.Addr, randomFault)
		if err != nil {
			stop()
			return nil, err
		}
		proxies[n.Addr] = p
	}
	c.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, proxies[addr].Addr())
	}
	return stop, nil
}

func randomFault(int) faults.Fault {
	f := faults.Fault{Way: faults.Way(rand.IntN(2)), After: 64 + rand.IntN(1000), Late: rand.N(20 * time.Millisecond)}
	switch n := rand.IntN(20); {
	case n < 6:
		f.Kind = faults.Cut
	case n < 8:
		f.Kind = faults.Delay
	case n < 9:
		f.Kind = faults.Hole
	}
	return f
}
