package benchtest

import (
	"bytes"
	"sync"

	"lockstep/common/wire"
)

// A fakeServer answers as DESIGN's table does.
type FakeServer struct {
	mu     sync.Mutex
	Values map[string][]byte
}

func (f *FakeServer) Execute(ops []wire.Op) []wire.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	results := make([]wire.Result, len(ops))
	failed := false
	for i, op := range ops {
		results[i].Status = wire.Aborted
		value, ok := f.Values[op.Key]
		if op.Kind == wire.CompareAndSwap && (ok == op.Absent || !bytes.Equal(value, op.Old)) {
			results[i].Status = wire.Mismatch
			failed = true
		}
	}
	if failed {
		return results
	}
	for i, op := range ops {
		value, ok := f.Values[op.Key]
		found := map[bool]wire.Status{true: wire.Found, false: wire.Missing}
		stored := map[bool]wire.Status{true: wire.Replaced, false: wire.Created}
		deleted := map[bool]wire.Status{true: wire.Deleted, false: wire.Missing}
		switch op.Kind {
		case wire.Get:
			results[i] = wire.Result{Status: found[ok], Value: value}
		case wire.Put:
			results[i].Status = stored[ok]
			f.Values[op.Key] = bytes.Clone(op.Value)
		case wire.Delete:
			results[i].Status = deleted[ok]
			delete(f.Values, op.Key)
		case wire.CompareAndSwap:
			results[i].Status = wire.Swapped
			f.Values[op.Key] = bytes.Clone(op.Value)
		}
	}
	return results
}
