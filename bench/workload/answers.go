package workload

import (
	"cmp"
	"fmt"

	"lockstep/common/wire"
)

// Answers counts the answers to one request.
type Answers struct {
	OK         int64  // operations with a right answer
	Bytes      int64  // of OK: keys and values, sent and received
	Misses     int64  // of OK: a get or delete of a key that had no value
	Mismatches int64  // of OK: a compare that failed, and the rest of its request
	Wrong      int64  // answers that no correct server gives
	FirstWrong string // of those
}

func (a *Answers) add(op *wire.Op, answer wire.Result) {
	a.OK++
	a.Bytes += int64(len(op.Key) + len(op.Value) + len(op.Old) + len(answer.Value))
}

func (a *Answers) wrong(err error) {
	a.Wrong++
	a.FirstWrong = cmp.Or(a.FirstWrong, err.Error())
}

// Check verifies the answers to the source's last request and remembers the values that they
// show. Operations without an answer, Unknown and NotRun, are not counted.
func (s *Source) Check(results []wire.Result) (a Answers) {
	if len(results) != len(s.ops) {
		return Answers{Wrong: 1, FirstWrong: fmt.Sprintf("%d answers to %d operations", len(results), len(s.ops))}
	}
	for i, answer := range results {
		op, left := &s.ops[i], s.stamps[i]
		switch kind, status := op.Kind, answer.Status; {
		case status == wire.Unknown, status == wire.NotRun:
			continue
		case kind == wire.Get && status == wire.Found:
			var err error
			if left, s.scratch, err = verify(s.scratch, op.Key, answer.Value, s.Value); err != nil {
				a.wrong(err)
				continue
			}
		case (kind == wire.Get || kind == wire.Delete) && status == wire.Missing:
			a.Misses++
		case kind == wire.CompareAndSwap && status == wire.Mismatch,
			s.Mix.CAS > 0 && s.Batch > 1 && status == wire.Aborted:
			a.add(op, answer)
			a.Mismatches++
			continue // the value of the key is not known
		case kind == wire.Put && (status == wire.Created || status == wire.Replaced),
			kind == wire.Delete && status == wire.Deleted,
			kind == wire.CompareAndSwap && status == wire.Swapped:
		default:
			a.wrong(fmt.Errorf("%s: %q answered to a %s", op.Key, status, kind))
			continue
		}
		a.add(op, answer)
		if s.seen != nil && left != cut {
			s.seen[s.keys[i]].Store(uint64(left))
		}
	}
	return a
}
