package check

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"lockstep/common/client"
	"lockstep/common/lincheck"
	"lockstep/common/wire"
)

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
			cl.DialContext = h.dial
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
	values int
	last   map[string][]byte // the value of a key when the client last saw it; nil: none
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
