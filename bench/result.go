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

	refusals int64   // Busy answers, whether the request was sent again or failed
	series   []int64 // operations answered in each second of the round, by when their requests were

	latency metrics.Histogram  // answered requests: from when one was due, or sent in a closed loop
	service *metrics.Histogram // open loop: from when one was sent; nil in a closed one, where it is the same
	slip    *metrics.Histogram // open loop: by how much the client itself was late; nil in a closed one
	connect *metrics.Histogram // a connection for each request: until it was greeted, part of latency; else nil
	failed  time.Duration      // closed loop: time spent in the requests that failed

	// Of the round as a whole; merge leaves them alone.
	dur                  time.Duration
	serverCPU, clientCPU time.Duration      // in dur; 0: not known
	nodes                []metrics.Snapshot // what each server counted in dur; nil: not known
}

// fail counts a request that failed.
func (r *result) fail(kind string, err error) {
	if r.errors == nil {
		r.errors, r.firstError = make(map[string]int64), err
	}
	r.errors[kind]++
}

// record counts d in the histogram at h, which is made where there is none yet.
func record(h **metrics.Histogram, d time.Duration) {
	if *h == nil {
		*h = new(metrics.Histogram)
	}
	(*h).Record(d)
}

// answered counts operations that were answered at this time of the round.
func (r *result) answered(ops int, at time.Duration) {
	second := max(int(at/time.Second), 0)
	for len(r.series) <= second {
		r.series = append(r.series, 0)
	}
	r.series[second] += int64(ops)
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
	r.refusals += o.refusals
	for second, n := range o.series {
		r.answered(int(n), time.Duration(second)*time.Second)
	}
	r.latency.Merge(&o.latency)
	merge(&r.service, o.service)
	merge(&r.slip, o.slip)
	merge(&r.connect, o.connect)
	r.failed += o.failed
}

// merge adds o, if there is one, to the histogram at h.
func merge(h **metrics.Histogram, o *metrics.Histogram) {
	if o == nil {
		return
	}
	if *h == nil {
		*h = new(metrics.Histogram)
	}
	(*h).Merge(o)
}
