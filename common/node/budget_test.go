package node

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// Large requests wait for memory in the order in which they came; small ones do not wait.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const large = 4 * smallRequest
		var wait metrics.Timer
		b := newBudget(2*large, &wait)
		var holding atomic.Int32
		gate := make(chan struct{})
		var wg sync.WaitGroup
		ask := func(bytes int) {
			wg.Go(func() {
				b.take(bytes)
				holding.Add(1)
				<-gate
				holding.Add(-1)
				b.give(bytes)
			})
			synctest.Wait()
		}
		ask(large)
		ask(2 * large) // waits for all of the memory
		ask(large)     // does not overtake it
		if n := holding.Load(); n != 1 {
			t.Errorf("%d hold memory, want only the first", n)
		}
		for range 10 {
			ask(smallRequest)
		}
		if n := holding.Load(); n != 11 {
			t.Errorf("%d hold memory, want the small requests too", n)
		}
		<-time.After(time.Second)
		close(gate)
		wg.Wait()
		if got, want := wait.Load(), (metrics.Timing{Count: 3, Total: 2 * time.Second}); got != want {
			t.Errorf("the large requests waited %+v, want %+v", got, want)
		}
		if b.free != 2*large {
			t.Errorf("%d bytes are free at the end, want %d", b.free, 2*large)
		}
	})
}

// The memory of a request is given back, even after a panic; and the largest possible
// request fits the budget, so that no request waits forever.
func TestBudgetIsGivenBack(t *testing.T) {
	n, _ := newNode(nil)
	cost := 0
	client, ended := connectServed(t, n, func(ops []wire.Op) []wire.Result {
		if cost = max(cost, decodedMemory-n.memory.free); cost == 0 {
			t.Error("a large request holds no memory")
		}
		if ops[0].Absent {
			panic("in the middle")
		}
		return missing(ops)
	})
	largest := make([]wire.Op, wire.MaxOps)
	for i := range largest {
		largest[i] = wire.Op{Kind: wire.CompareAndSwap, Key: "a key of 24 bytes or so..", Value: make([]byte, 14), Old: make([]byte, 14)}
	}
	send(client, largest)
	largest[0].Absent, largest[0].Old = true, nil
	if got := send(client, largest); got[0] != wire.Failed {
		t.Errorf("answered %v, want that it failed", got)
	}
	client.Close()
	<-ended
	if cost < 250<<10 || cost > 288<<10 || n.memory.free != decodedMemory {
		t.Errorf("the largest request costs %d bytes, and %d are free at the end, want 250 to 288 KiB, and %d", cost, n.memory.free, decodedMemory)
	}
}
