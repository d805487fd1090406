package node

import (
	"sync"

	"lockstep/common/metrics"
)

const (
	// decodedMemory is how many bytes large requests may use together while they are
	// decoded and executed and their answers encoded. The largest request uses 272 KiB,
	// so a pool of 15 workers never waits for memory. In a stage where every connection
	// decodes and then waits for one lock, all of them would hold a decoded request.
	decodedMemory = 4 << 20

	// Requests of up to smallRequest bytes bypass the budget; nearly all do.
	smallRequest = 4 << 10
)

// A budget bounds the memory that requests use together, as wire.Conn.Next computes it for
// each of them. Memory is taken before a request is decoded and before any lock, and given
// back before anything is sent, so a holder never waits for another and deadlock is
// impossible.
type budget struct {
	wait *metrics.Timer // of requests that are not small
	turn chan struct{}  // held while waiting for memory, so that a large request is not overtaken
	mu   sync.Mutex     // guards free
	more sync.Cond      // free has grown
	free int            // bytes
}

func newBudget(bytes int, wait *metrics.Timer) *budget {
	b := &budget{wait: wait, turn: make(chan struct{}, 1), free: bytes}
	b.more.L = &b.mu
	return b
}

// take waits until the bytes are free and takes them. Small requests take none.
func (b *budget) take(bytes int) {
	if bytes <= smallRequest {
		return
	}
	asked := metrics.Now()
	defer func() { b.wait.Add(metrics.Now() - asked) }()
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.free < bytes {
		b.more.Wait()
	}
	b.free -= bytes
}

// give returns bytes that take took.
func (b *budget) give(bytes int) {
	if bytes <= smallRequest {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += bytes
	b.more.Signal() // at most one waits: the holder of turn
}
