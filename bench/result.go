package main

import (
	"time"

	"lockstep/common/metrics"
)

// A result is what one round of one stage came to, or one worker's share of it. Each
// worker fills in its own, and merge adds them up. The zero result is empty and ready.
type result struct {
	connections  int // each worker counts 1
	starved      int // of them: those that completed no request
	neverGreeted int // of the starved: those to which no server ever spoke

	requests   int64            // answered, each with a time in latency
	ok         int64            // operations answered; misses and mismatches are answers
	misses     int64            // of ok: a get or delete of a key that had no value
	mismatches int64            // of ok: a compare that failed, and what its request did not do for that
	errors     map[string]int64 // requests that failed, by kind: a word or two such as "busy"
	firstError error            // of those
	unfinished int64            // requests that were due or under way when the round ended

	wrong      int64 // answers that cannot be right
	firstWrong error

	latency metrics.Histogram  // answered requests: from when one was due, or sent in a closed loop
	slip    *metrics.Histogram // open loop: by how much the client itself was late; nil in a closed one
	failed  time.Duration      // closed loop: time spent in the requests that failed

	// Of the round as a whole; merge leaves them alone.
	dur                  time.Duration
	serverCPU, clientCPU time.Duration // in dur; 0: not known
	held                 float64       // the share of it that a lock of the servers was held; of the node with the most
}

// fail counts a request that failed.
func (r *result) fail(kind string, err error) {
	if r.errors == nil {
		r.errors, r.firstError = make(map[string]int64), err
	}
	r.errors[kind]++
}

// late counts the slip of a request of an open loop.
func (r *result) late(slip time.Duration) {
	if r.slip == nil {
		r.slip = new(metrics.Histogram)
	}
	r.slip.Record(slip)
}

// foundWrong counts an answer that cannot be right.
func (r *result) foundWrong(err error) {
	r.wrong++
	if r.firstWrong == nil {
		r.firstWrong = err
	}
}

// merge adds what another worker counted.
func (r *result) merge(o *result) {
	r.connections += o.connections
	r.starved += o.starved
	r.neverGreeted += o.neverGreeted
	r.requests += o.requests
	r.ok += o.ok
	r.misses += o.misses
	r.mismatches += o.mismatches
	r.unfinished += o.unfinished
	r.wrong += o.wrong
	if r.firstWrong == nil {
		r.firstWrong = o.firstWrong
	}
	for kind, n := range o.errors {
		if r.errors == nil {
			r.errors, r.firstError = make(map[string]int64), o.firstError
		}
		r.errors[kind] += n
	}
	r.latency.Merge(&o.latency)
	if o.slip != nil {
		if r.slip == nil {
			r.slip = new(metrics.Histogram)
		}
		r.slip.Merge(o.slip)
	}
	r.failed += o.failed
}
