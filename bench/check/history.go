package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/faults"
	"lockstep/common/lincheck"
	"lockstep/common/text"
	"lockstep/common/wire"
)

// What a check asks for. Few clients on few keys, over and over with new ones, find
// more than many clients on many keys, or on one: the search stays small, and what
// overlaps does so on the same keys.
const (
	checkGroups  = 4  // histories in the making at once
	checkKeys    = 4  // of a group, all on one node
	checkCalls   = 40 // of each client of a group
	checkUnknown = 3  // outcomes, after which a group is retired: each doubles the search
	checkStay    = 16 // calls at most on one connection
	CheckWork    = 10 * time.Microsecond
	checkTime    = 10 * time.Second // for one history, to be decided
	faultTime    = 250 * time.Millisecond
)

// A CheckPlan says how servers are checked.
type Plan struct {
	Seed   uint64
	Length time.Duration
	Faults bool // cut and delay connections meanwhile
	Shared bool // the servers ran before, and are not empty
}

// Found is what a check came to.
type Found struct {
	Verdict                   lincheck.Verdict
	Counterexample            *lincheck.Counterexample // nil: none
	Calls, Histories, Unknown int64
}

// String says it in a line, and below it shows the counterexample, if there is one.
func (f *Found) String() string {
	s := fmt.Sprintf("%v; %s calls in %s histories, %s unknown outcomes\n",
		f.Verdict, text.Count(f.Calls), text.Count(f.Histories), text.Count(f.Unknown))
	if f.Counterexample != nil {
		s += "\n" + f.Counterexample.String() + "\n"
	}
	return s
}

// Undecided returns why the check says nothing; nil if it does.
func (f *Found) Undecided() error {
	switch {
	case f.Verdict == lincheck.Violated:
		return nil
	case f.Verdict != lincheck.Linearizable:
		return fmt.Errorf("a history was not decided in %v", checkTime)
	case f.Calls < 2*f.Unknown || f.Calls == 0:
		// What is unknown may have happened or not: of that, everything is linearizable.
		return fmt.Errorf("%w to %s of %s calls: too many to say anything", load.ErrNoAnswer,
			text.Count(f.Unknown), text.Count(f.Calls))
	}
	return nil
}

// Check puts requests to the servers of a cluster until the plan's time is over, or an
// answer is wrong, and judges every answer. An error says why there is no verdict.
func Run(ctx context.Context, cfg cluster.Config, plan Plan) (*Found, error) {
	c := &checker{cfg: cfg, seed: plan.Seed}
	if plan.Shared {
		c.prefix = fmt.Sprintf("check-%08x-", rand.Uint32())
	}
	if plan.Faults {
		stop, err := c.breakNetwork()
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	over, cancel := context.WithTimeout(ctx, plan.Length)
	defer cancel()
	var groups sync.WaitGroup // each ends with over, or at the first violation
	for i := range checkGroups {
		groups.Go(func() { c.histories(ctx, over, cancel, i) })
	}
	groups.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c.err != nil {
		return nil, fmt.Errorf("no verdict, for a call was not answered as it must be: %w", c.err)
	}
	found := &Found{Verdict: lincheck.Linearizable, Counterexample: c.counterexample,
		Calls: c.calls.Load(), Histories: c.checked.Load(), Unknown: c.unknown.Load()}
	if c.failed {
		found.Verdict = c.verdict
	}
	return found, nil
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
