// Package table is the hash table that every stage serves. It executes requests, without
// locks and without the network: who may call it when is the lesson of the stages.
package table

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A Table maps keys to values. It is not safe for concurrent use, not even for concurrent
// reads: each Apply counts its calls. Get does not.
type Table struct {
	entries map[string]*entry
	work    func() // the work of an operation, between its look-up and its effect
	stats   *metrics.Stats
	timeAll bool // time every Apply, not one in sampled
	calls   uint64
}

// An entry is what is stored under a key. Through the pointer, a Put replaces the value
// that it has looked up without a second look-up.
type entry struct{ value []byte }

// One in sampled calls of a table is timed, because two readings of the clock take about
// as long as a Get. Compared with work they are negligible, so with work all are timed.
const sampled = 64

// New returns an empty table whose operations each do work. It counts its keys in stats, and
// times every 64th Apply, with work every one. Tables may share their stats; nil counts nowhere.
func New(work cluster.Work, stats *metrics.Stats) *Table {
	return &Table{
		entries: make(map[string]*entry),
		work:    working(work),
		stats:   cmp.Or(stats, new(metrics.Stats)),
		timeAll: work.Time > 0,
		// Random: otherwise many tables with few calls each would all time their
		// first call, which finds an empty map, or none would time any.
		calls: rand.Uint64N(sampled),
	}
}

// Apply executes a request over t alone, as the function Apply does over many tables.
func (t *Table) Apply(ops []wire.Op) []wire.Result {
	return Apply(ops, func(int) *Table { return t })
}

// Apply executes a request, a list of operations, as one step, and returns a Result for
// each, in order. tableOf returns the table of operation i, always the same one for a key;
// the caller of Apply guards all these tables until it returns.
//
// Every CompareAndSwap is checked first, against the state before the request. If one
// fails, it answers Mismatch, the others answer Aborted, and nothing is applied.
// Otherwise the operations run in order, each seeing the effects of those before it.
//
// Values are not copied. The table keeps the Values of ops, and the Values of the results
// are the stored ones, so the caller must not change them. Package wire allocates new memory
// for each value, and the table never changes one in place. It keeps copies of new keys,
// because a key may be a part of a string that holds a whole request.
//
// Apply does not validate kinds: an invalid one panics. A panic leaves applied what came
// before it.
func Apply(ops []wire.Op, tableOf func(i int) *Table) []wire.Result {
	if len(ops) == 0 {
		return nil
	}
	t := tableOf(0) // counts and times the whole request
	t.calls++
	if r := t.stats.Lanes.Recording(); r != nil {
		r.MarkRequest(&ops[0], metrics.InTable)
		defer r.MarkRequest(&ops[0], metrics.Writing)
	}
	if !t.timeAll && t.calls%sampled != 0 {
		return apply(ops, tableOf)
	}
	start := metrics.Now()
	results := apply(ops, tableOf)
	t.stats.Table.Add(metrics.Now() - start)
	return results
}

// Get answers a Get. Unlike Apply it counts and times nothing, so that any number of Gets may run
// at the same time, beside no Apply.
func (t *Table) Get(key string) wire.Result {
	return t.do(&wire.Op{Kind: wire.Get, Key: key})
}

func apply(ops []wire.Op, tableOf func(i int) *Table) []wire.Result {
	results := make([]wire.Result, len(ops))
	failed := false
	for i := range ops {
		results[i].Status = wire.Aborted
		if ops[i].Kind == wire.CompareAndSwap && !tableOf(i).matches(&ops[i]) {
			results[i].Status = wire.Mismatch
			failed = true
		}
	}
	if failed {
		return results
	}
	for i := range ops {
		results[i] = tableOf(i).do(&ops[i])
	}
	return results
}

// matches reports whether the value that a CompareAndSwap expects is stored.
func (t *Table) matches(op *wire.Op) bool {
	e, value := t.lookUp(op.Key)
	if e != nil || !op.Absent { // storing a new key does no work
		t.work()
	}
	if op.Absent {
		return e == nil
	}
	return e != nil && bytes.Equal(value, op.Old)
}

// do executes one operation. The work lies between look-up and effect, and the answer is
// what the look-up found. So if a store lacks its lock, an update that came in between is
// visibly lost. Storing a key that is not there does no work, as there is no value to fetch;
// so loading is quick.
func (t *Table) do(op *wire.Op) wire.Result {
	e, value := t.lookUp(op.Key)
	if op.Kind == wire.CompareAndSwap { // matches has done its work
		t.store(e, op)
		return wire.Result{Status: wire.Swapped}
	}
	if e != nil || op.Kind != wire.Put {
		t.work()
	}
	switch op.Kind {
	case wire.Get:
		if e != nil {
			return wire.Result{Status: wire.Found, Value: value}
		}
	case wire.Put:
		t.store(e, op)
		if e != nil {
			return wire.Result{Status: wire.Replaced}
		}
		return wire.Result{Status: wire.Created}
	case wire.Delete:
		if e != nil {
			delete(t.entries, op.Key)
			t.stats.Keys.Add(-1)
			return wire.Result{Status: wire.Deleted}
		}
	default:
		panic(fmt.Sprintf("table: operation of kind %v", op.Kind))
	}
	return wire.Result{Status: wire.Missing}
}

// lookUp returns the entry of a key and its value now, or nil if there is none.
func (t *Table) lookUp(key string) (e *entry, value []byte) {
	if e = t.entries[key]; e != nil {
		value = e.value
	}
	return e, value
}

// store stores the value of op in the entry that was looked up, or if that is nil, in a
// new one.
func (t *Table) store(e *entry, op *wire.Op) {
	if e == nil {
		e = new(entry)
		t.entries[strings.Clone(op.Key)] = e
		t.stats.Keys.Add(1)
	}
	e.value = op.Value
	if e.value == nil { // gob does not send an empty slice; it is a value nevertheless
		e.value = []byte{}
	}
}

// working returns a function that does the work of one operation.
func working(work cluster.Work) func() {
	switch {
	case work.Time <= 0 && metrics.Interleaved:
		return func() { metrics.Yield(metrics.Working, nil) }
	case work.Time <= 0:
		return func() {}
	case work.Spin:
		return func() { spin(work.Time) }
	default:
		return func() { metrics.Sleep(work.Time) }
	}
}

// spin computes for d. If two readings of the clock are far apart, another thread had the
// processor in between; that time does not count. So four goroutines that compute for
// 20 ms each on one processor take 80 ms together.
func spin(d time.Duration) {
	last := metrics.Now()
	for d > 0 {
		now := metrics.Now()
		d -= min(now-last, 10*time.Microsecond)
		last = now
	}
}
