package workload

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// A workload is what the connections ask for: which operations, on which keys, with
// which values. It is safe for concurrent use; each worker draws from a source of its
// own. Each set of servers needs a workload of its own, because it remembers what is
// stored there.
type Workload struct {
	cluster.Workload
	pick  distribution
	Once  bool   // a request that is answered Busy is not sent again
	Round uint64 // from 0; each has requests of its own
	base  int64  // 10^digits: base + i has a digit to drop and then the width of every key

	// seen holds for each key the stamp of the value that a worker last saw or stored
	// there; only if there are CompareAndSwaps, which need it. It is shared by all
	// workers, because a stamp that only its reader knows is out of date almost always:
	// every swap would answer Mismatch. What other processes store is not known until a
	// get tells.
	seen []atomic.Uint64
}

// newWorkload returns the workload that w describes, or an error that names the field.
// What cluster.Config.Validate checks is taken to be in order.
func New(w cluster.Workload) (*Workload, error) {
	pick, err := newDistribution(w.Dist, w.Keys)
	if err != nil {
		return nil, err
	}
	wl := &Workload{Workload: w, pick: pick, base: 1}
	for wl.base < int64(w.Keys) || wl.base == 1 {
		wl.base *= 10
	}
	values := w.Value.Max
	if w.Mix.CAS > 0 {
		values *= 2 // the old and the new
		wl.seen = make([]atomic.Uint64, w.Keys)
	}
	if w.Depth > 1 && w.Conn == "per-request" {
		return nil, fmt.Errorf("workload.depth: %d requests in flight on a connection need one that is kept, and workload.conn is per-request", w.Depth)
	}
	if least := len(wl.Key(0)) + longestStamp; w.Value.Max > w.Value.Min && w.Value.Max < least {
		return nil, fmt.Errorf("workload.value: %v is too short a range: its values say of what size they are, "+
			"for which the greatest needs %d bytes", w.Value, least)
	}
	const overhead = 20 // bytes that gob adds to an operation, or a result, at most
	if frame := w.Batch * (len(wl.Key(0)) + values + overhead); frame > wire.MaxFrame {
		return nil, fmt.Errorf("workload.batch: %d operations with values of %v bytes make a request of "+
			"%d bytes, and a frame holds %d", w.Batch, w.Value, frame, wire.MaxFrame)
	}
	return wl, nil
}

// key is the name of key number i: key-017 where there are up to 1000 of them. All
// have the same length.
func (w *Workload) Key(i int) string {
	var digits [20]byte
	return "key-" + string(strconv.AppendInt(digits[:0], w.base+int64(i), 10)[1:])
}

// preload yields requests that together put a value under every key, so that a miss
// means something. A request is valid until the next one.
func (w *Workload) Preload(yield func([]wire.Op) bool) {
	var ops []wire.Op
	bytes := 0
	for i := range w.Keys {
		key := w.Key(i)
		value := appendValue(nil, key, 0, w.Value)
		ops = append(ops, wire.Op{Kind: wire.Put, Key: key, Value: value})
		bytes += len(key) + len(value)
		if i == w.Keys-1 || len(ops) == 64 || bytes > wire.MaxFrame/4 {
			if !yield(ops) {
				return
			}
			ops, bytes = ops[:0], 0
		}
	}
}

// A source is the stream of one worker's requests: the same for the same workload,
// seed, round and worker, whatever the others do, but for the values that a CompareAndSwap
// expects, which depend on what was answered. It is not safe for concurrent use.
type Source struct {
	*Workload
	rand   *rand.Rand
	writer uint64 // the worker's number plus 1: writer 0 is the preload
	stored uint64 // the number of values written down so far

	// The request under way.
	ops    []wire.Op
	keys   []int   // their keys' numbers
	stamps []stamp // what each leaves under its key: a write if it is applied, a get if it finds nothing
	text   []byte  // their values

	scratch []byte
}

// source returns the stream of a worker, whose number counts from 0. Workers need
// different numbers, those of other client processes included.
func (w *Workload) Source(worker int) *Source {
	return &Source{Workload: w, rand: rand.New(rand.NewPCG(w.Seed, w.Round<<40|uint64(worker))), writer: uint64(worker) + 1}
}

// next returns the worker's next request, of Batch operations. It is valid until next
// is called again, values included: a worker that has several requests in flight
// needs as many sources.
func (s *Source) Next() []wire.Op {
	s.ops, s.keys, s.stamps, s.text = s.ops[:0], s.keys[:0], s.stamps[:0], s.text[:0]
	for range s.Batch {
		kind, number := s.kind(), s.pick(s.rand)
		op, left := wire.Op{Kind: kind, Key: s.Key(number)}, absent
		if kind == wire.Put || kind == wire.CompareAndSwap {
			s.stored++
			left = newStamp(s.writer, s.stored)
			op.Value = s.value(op.Key, left)
		}
		if kind == wire.CompareAndSwap {
			// Before the request as a whole, as the server will compare it.
			if last := stamp(s.seen[number].Load()); last == absent {
				op.Absent = true
			} else {
				op.Old = s.value(op.Key, last)
			}
		}
		s.ops, s.keys, s.stamps = append(s.ops, op), append(s.keys, number), append(s.stamps, left)
	}
	return s.ops
}

func (s *Source) kind() wire.OpKind {
	switch n := s.rand.IntN(100); {
	case n < s.Mix.Get:
		return wire.Get
	case n < s.Mix.Get+s.Mix.Put:
		return wire.Put
	case n < s.Mix.Get+s.Mix.Put+s.Mix.Delete:
		return wire.Delete
	}
	return wire.CompareAndSwap
}

// value writes a value into text. Where text must grow, the values before stay where
// they are.
func (s *Source) value(key string, st stamp) []byte {
	start := len(s.text)
	s.text = appendValue(s.text, key, st, s.Value)
	return s.text[start:len(s.text):len(s.text)]
}
