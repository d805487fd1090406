// Package check makes requests to running servers and decides whether their answers are
// linearizable. It makes many short histories, which package lincheck judges.
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
	"lockstep/common/metrics"
	"lockstep/common/text"
	"lockstep/common/wire"
)

// A check finds more with few clients on a few keys, again and again with new keys, than
// with many clients on many keys or on one: the search stays small, and requests that
// overlap are for the same keys.
const (
	workers        = 4  // histories being made at the same time
	keysPerHistory = 4  // of one node
	callsPerClient = 40 // in one history
	callsPerConn   = 16 // at most
	maxUnknown     = 3  // outcomes in one history, since each doubles the search
	decideTime     = 10 * time.Second
	callTime       = 20 * time.Second       // longer than a server takes to say that it is stuck
	faultyCallTime = 250 * time.Millisecond // a lost answer never comes
)

// Work is enough work between look-up and effect to show that a store lacks its lock.
const Work = 10 * time.Microsecond

// A Plan says how servers are checked.
type Plan struct {
	Seed   uint64
	Length time.Duration
	Faults bool // cut and delay connections
	Shared bool // the servers may hold keys already
}

// Found is the outcome of a check.
type Found struct {
	Verdict                   lincheck.Verdict
	Counterexample            *lincheck.Counterexample // nil unless Verdict is Violated
	Calls, Histories, Unknown int64
}

// String returns a line of text, followed by the counterexample, if any.
func (f *Found) String() string {
	s := fmt.Sprintf("%v; %s, %s unanswered; histories: %s\n", f.Verdict, text.Plural(f.Calls, "call"), text.Count(f.Unknown), text.Count(f.Histories))
	if f.Counterexample != nil {
		s += "\n" + f.Counterexample.String() + "\n"
	}
	return s
}

// Undecided returns an error that says why the check shows nothing, or nil.
func (f *Found) Undecided() error {
	switch {
	case f.Verdict == lincheck.Violated:
		return nil
	case f.Verdict != lincheck.Linearizable:
		return fmt.Errorf("a history was not decided in %v", decideTime)
	case f.Calls < 2*f.Unknown || f.Calls == 0: // unknown outcomes explain any answer
		return fmt.Errorf("%w to %s of %s: too many to decide anything", load.ErrNoAnswer,
			text.Count(f.Unknown), text.Plural(f.Calls, "call"))
	}
	return nil
}

// Run makes requests to the servers of a cluster for the plan's length or until an answer
// is wrong. It returns an error if no verdict is possible.
func Run(ctx context.Context, cfg cluster.Config, plan Plan) (*Found, error) {
	c := &checker{cfg: cfg, seed: plan.Seed, callTime: callTime, found: Found{Verdict: lincheck.Linearizable}}
	if plan.Shared {
		c.prefix = fmt.Sprintf("check-%08x-", rand.Uint32())
	}
	if plan.Faults {
		c.callTime, c.proxies = faultyCallTime, make(map[string]*faults.Proxy)
		for _, n := range cfg.Nodes {
			p, err := faults.NewProxy(n.Addr, randomFault)
			if err != nil {
				return nil, err
			}
			defer p.Close()
			c.proxies[n.Addr] = p
		}
	}
	c.before, _ = load.NewLockstep(cfg).Stats(ctx)
	over, cancel := context.WithTimeout(ctx, plan.Length)
	defer cancel()
	var running sync.WaitGroup // each ends with over, or when one finds a failure
	for worker := range workers {
		running.Go(func() {
			defer cancel()
			for number := worker; over.Err() == nil && c.checkOne(ctx, over, number); number += workers {
			}
		})
	}
	running.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c.err != nil {
		return nil, fmt.Errorf("no verdict: %w", c.err)
	}
	return &c.found, nil
}

// A checker makes and judges histories.
type checker struct {
	cfg      cluster.Config
	seed     uint64
	prefix   string                   // of all keys
	callTime time.Duration            // limits each call
	proxies  map[string]*faults.Proxy // by the address of their server; nil: without faults
	before   []metrics.Snapshot       // of the nodes when the check began; nil: not known

	mu    sync.Mutex // guards what follows
	found Found
	err   error
}

// checkOne makes and judges one history. It reports whether all is well.
func (c *checker) checkOne(ctx, over context.Context, number int) bool {
	h := &history{checker: c, number: number, keys: c.keys(number)}
	err := h.make(ctx, over)
	verdict, counterexample := lincheck.Linearizable, (*lincheck.Counterexample)(nil)
	if err == nil {
		deciding, cancel := context.WithTimeout(ctx, decideTime)
		defer cancel()
		verdict, counterexample = lincheck.Check(deciding, h.calls)
	}
	if node := number % len(c.cfg.Nodes); err != nil || verdict == lincheck.Violated {
		now, unknown := client.Stats(ctx, c.cfg, node)
		if unknown == nil && c.before != nil && now.Incarnation != c.before[node].Incarnation {
			err = fmt.Errorf("node %d was restarted: its table is empty", node)
		} else if err != nil && client.Unreachable(unknown) {
			err = fmt.Errorf("a server has ended: %w", unknown)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found.Histories++
	c.found.Calls += int64(len(h.calls))
	c.found.Unknown += h.unknown
	if c.err == nil && c.found.Verdict == lincheck.Linearizable { // otherwise the first failure stays
		c.err, c.found.Verdict, c.found.Counterexample = err, verdict, counterexample
	}
	return err == nil && verdict == lincheck.Linearizable
}

// keys returns the keys of a history, which one node owns.
func (c *checker) keys(number int) (keys []string) {
	for i := 0; len(keys) < keysPerHistory; i++ {
		key := fmt.Sprintf("%sg%d.%d", c.prefix, number, i)
		if c.cfg.Owner(key) == number%len(c.cfg.Nodes) {
			keys = append(keys, key)
		}
	}
	return keys
}

// lots are the faults of 20 connections, of which one is drawn for each connection. Most have none.
var lots = [20]faults.Kind{faults.Cut, faults.Cut, faults.Cut, faults.Cut, faults.Cut, faults.Cut, faults.Delay, faults.Delay, faults.Hole}

func randomFault() faults.Fault {
	return faults.Fault{Kind: lots[rand.IntN(20)], Way: faults.Way(rand.IntN(2)), After: 64 + rand.IntN(1000), Late: rand.N(20 * time.Millisecond)}
}

// A history is the calls that two or three clients make on a few keys.
type history struct {
	*checker
	number int
	keys   []string
	clock  atomic.Int64       // stamps the start and the end of each call
	stop   context.CancelFunc // makes no more calls

	mu      sync.Mutex // guards what follows
	calls   []lincheck.Call
	unknown int64 // of calls: those whose outcome is unknown
	err     error
}

// make makes the calls of all clients, until over ends or too many outcomes are unknown.
func (h *history) make(ctx, over context.Context) error {
	over, h.stop = context.WithCancel(over)
	defer h.stop()
	var clients sync.WaitGroup // each ends after its calls, or with over
	for i := range 2 + h.number%2 {
		clients.Go(func() { h.client(ctx, over, i) })
	}
	clients.Wait()
	return h.err
}

// client makes the calls of one client, on several connections one after the other.
func (h *history) client(ctx, over context.Context, number int) {
	rng := rand.New(rand.NewPCG(h.seed, uint64(h.number)<<8|uint64(number)))
	d := &draw{rng: rng, keys: h.keys, client: number, last: make(map[string][]byte)}
	for calls := 0; calls < callsPerClient && over.Err() == nil; {
		cl := client.New(h.cfg)
		if h.proxies != nil {
			cl.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, h.proxies[addr].Addr())
			}
		}
		for last := calls + 1 + rng.IntN(callsPerConn); calls < min(last, callsPerClient) && over.Err() == nil; calls++ {
			h.call(ctx, cl, d)
		}
		cl.Close()
	}
}

// call makes one call and records it, unless it was certainly not applied.
func (h *history) call(ctx context.Context, cl *client.Client, d *draw) {
	within, cancel := context.WithTimeout(ctx, h.callTime)
	defer cancel()
	call := lincheck.Call{Client: d.client, Ops: d.ops(), Start: h.clock.Add(1), End: lincheck.Never}
	results, err := cl.Do(within, call.Ops...)
	if err == nil {
		call.Results, call.End = results, h.clock.Add(1)
		d.learn(call.Ops, results)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.calls = append(h.calls, call)
	case h.proxies == nil: // without faults, every call must be answered
		h.err = fmt.Errorf("a call failed: %w", err)
		h.stop()
	case results[0].Status != wire.NotRun:
		h.calls = append(h.calls, call)
		if h.unknown++; h.unknown == maxUnknown {
			h.stop()
		}
	}
}

// A draw draws the requests of one client: operations of every kind, alone and in batches.
// No two values are equal.
type draw struct {
	rng    *rand.Rand
	keys   []string
	client int
	values int               // drawn so far
	last   map[string][]byte // the value of a key when the client last saw it; nil: none
}

// kinds are the kinds of ten operations, of which one is drawn for each operation.
var kinds = [10]wire.OpKind{wire.Get, wire.Get, wire.Get, wire.Get, wire.Put, wire.Put, wire.Put, wire.Delete, wire.CompareAndSwap, wire.CompareAndSwap}

func (d *draw) ops() (ops []wire.Op) {
	n := 1
	if d.rng.IntN(3) == 0 {
		n = 2 + d.rng.IntN(len(d.keys)-1)
	}
	for range n {
		d.values++
		op := wire.Op{Kind: kinds[d.rng.IntN(10)], Key: d.keys[d.rng.IntN(len(d.keys))]}
		if op.Kind == wire.Put || op.Kind == wire.CompareAndSwap {
			op.Value = fmt.Appendf(nil, "%d.%d", d.client, d.values)
		}
		if op.Kind == wire.CompareAndSwap {
			op.Old = d.last[op.Key]
			op.Absent = op.Old == nil
		}
		ops = append(ops, op)
	}
	return ops
}

func (d *draw) learn(ops []wire.Op, results []wire.Result) {
	for i, op := range ops {
		switch results[i].Status {
		case wire.Found, wire.Missing, wire.Deleted:
			d.last[op.Key] = results[i].Value // nil if there is none
		case wire.Created, wire.Replaced, wire.Swapped:
			d.last[op.Key] = op.Value
		}
	}
}
