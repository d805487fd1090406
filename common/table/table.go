// Package table is the hash table that every stage serves. It executes requests and
// knows nothing of locks or of the network: who may call it when is the stage's
// lesson.
package table

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A Table maps keys to values. It is not safe for concurrent use, and not for reading
// alone either: every Apply counts.
type Table struct {
	values map[string][]byte
	work   func() // takes the time of an operation, between its look-up and its effect
	timer  *metrics.Timer
	all    bool // are timed
	calls  uint64
}

// One in sampled calls of a table is timed: two readings of the clock take about as
// long as a Get. Where there is work to do they are nothing, and all are timed.
const sampled = 64

// New returns an empty table, each of whose operations takes the time that work says.
// Every 64th Apply, or, where there is work, every one, is timed into timer, which may be
// nil.
func New(work cluster.Work, timer *metrics.Timer) *Table {
	return &Table{
		values: make(map[string][]byte),
		work:   working(work),
		timer:  timer,
		all:    work.Time > 0,
		// At random, or of many tables with few calls each all would time their
		// first, which finds an empty map, or none would time any.
		calls: rand.Uint64N(sampled),
	}
}

// Apply executes a request over t alone, as the function Apply does over many.
func (t *Table) Apply(ops []wire.Op) []wire.Result {
	return Apply(ops, func(string) *Table { return t })
}

// Apply executes a request, a list of operations, as one step, and returns a Result for
// each, in order. tableOf names the table of a key, always the same; whoever calls Apply
// guards all of them from before it until it returns.
//
// Every CompareAndSwap is checked first, against the state before the request. If one
// fails it answers Mismatch, nothing is applied, and the others answer Aborted.
// Otherwise the operations run in order, each seeing its predecessors.
//
// Nothing is copied. The table keeps the Keys and Values of ops, and the Values of the
// results are the stored ones: nobody may change them any more. Package wire hands over
// fresh memory for each request, and the table never changes a value in place.
//
// Kinds are not validated here: one that is invalid panics. A panic passes through, and
// leaves applied what came before it.
func Apply(ops []wire.Op, tableOf func(key string) *Table) []wire.Result {
	if len(ops) == 0 {
		return nil
	}
	t := tableOf(ops[0].Key) // counts for all of them
	t.calls++
	if t.timer == nil || !t.all && t.calls%sampled != 0 {
		return apply(ops, tableOf)
	}
	start := metrics.Now()
	results := apply(ops, tableOf)
	t.timer.Add(metrics.Now() - start)
	return results
}

func apply(ops []wire.Op, tableOf func(key string) *Table) []wire.Result {
	results := make([]wire.Result, len(ops))
	failed := false
	for i, op := range ops {
		results[i].Status = wire.Aborted
		if op.Kind == wire.CompareAndSwap && !tableOf(op.Key).matches(op) {
			results[i].Status = wire.Mismatch
			failed = true
		}
	}
	if failed {
		return results
	}
	for i, op := range ops {
		results[i] = tableOf(op.Key).do(op)
	}
	return results
}

// matches reports whether the value that a CompareAndSwap expects is stored.
func (t *Table) matches(op wire.Op) bool {
	value, found := t.values[op.Key]
	t.work()
	if op.Absent {
		return !found
	}
	return found && bytes.Equal(value, op.Old)
}

// do executes one operation. Between look-up and effect lies the work, and it answers
// what it looked up: where a store lacks its lock, the update that came in between is
// lost, and can be seen to be.
func (t *Table) do(op wire.Op) wire.Result {
	if op.Kind == wire.CompareAndSwap { // looked up, and its work done, in matches
		t.store(op)
		return wire.Result{Status: wire.Swapped}
	}
	value, found := t.values[op.Key]
	t.work()
	switch op.Kind {
	case wire.Get:
		if found {
			return wire.Result{Status: wire.Found, Value: value}
		}
	case wire.Put:
		t.store(op)
		if found {
			return wire.Result{Status: wire.Replaced}
		}
		return wire.Result{Status: wire.Created}
	case wire.Delete:
		if found {
			delete(t.values, op.Key)
			return wire.Result{Status: wire.Deleted}
		}
	default:
		panic(fmt.Sprintf("table: operation of kind %v", op.Kind))
	}
	return wire.Result{Status: wire.Missing}
}

func (t *Table) store(op wire.Op) {
	value := op.Value
	if value == nil { // gob sends no empty slice; what is stored is a value all the same
		value = []byte{}
	}
	t.values[op.Key] = value
}
