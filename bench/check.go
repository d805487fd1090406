package main

import (
	"fmt"

	"lockstep/common/wire"
)

// check counts the answers to the source's last request in r, and remembers the values
// that they tell of. Each value read is verified, and an answer that no correct server
// gives is counted as wrong. The request itself is the caller's to count, and so are
// operations without an answer: Unknown and NotRun.
func (s *source) check(results []wire.Result, r *result) {
	if len(results) != len(s.ops) {
		r.foundWrong(fmt.Errorf("%d answers to %d operations", len(results), len(s.ops)))
		return
	}
	for i, answer := range results {
		if answer.Status != wire.Unknown && answer.Status != wire.NotRun {
			s.checkOne(i, answer, r)
		}
	}
}

func (s *source) checkOne(i int, answer wire.Result, r *result) {
	op := &s.ops[i]
	left := s.stamps[i]
	switch kind, status := op.Kind, answer.Status; {
	case kind == wire.Get && status == wire.Found:
		var err error
		if left, s.scratch, err = verify(s.scratch, op.Key, answer.Value, s.Value); err != nil {
			r.foundWrong(err)
			return
		}
	case kind == wire.Get && status == wire.Missing,
		kind == wire.Delete && status == wire.Missing:
		r.misses++
	case kind == wire.CompareAndSwap && status == wire.Mismatch,
		s.Mix.CAS > 0 && s.Batch > 1 && status == wire.Aborted:
		r.ok++
		r.mismatches++
		return // what the key holds is not known
	case kind == wire.Put && (status == wire.Created || status == wire.Replaced),
		kind == wire.Delete && status == wire.Deleted,
		kind == wire.CompareAndSwap && status == wire.Swapped:
	default:
		r.foundWrong(fmt.Errorf("%s: %q answered to a %s", op.Key, status, kind))
		return
	}
	r.ok++
	if s.seen != nil {
		s.seen[s.keys[i]].Store(uint64(left))
	}
}
