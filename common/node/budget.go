package node

import "sync"

const (
	// decodedMemory is how much memory, in bytes, large requests may take together
	// while they are decoded, applied and their answers encoded. The largest takes
	// 288 KiB, so that a pool of 14 workers never waits for memory. A stage whose
	// connections all decode, and then wait for one lock, would hold them all.
	decodedMemory = 4 << 20

	// smallRequest is what a request may take, in bytes, that need not ask. Nearly
	// all need not.
	smallRequest = 4 << 10
)

// A budget is memory that many share. Whoever holds some of it asks for no more,
// and waits for nobody who waits for some: it is taken before a request is decoded
// and any lock taken, and given back before anything is sent.
type budget struct {
	turn chan struct{} // holds one: who waits for memory. Nobody overtakes a large request
	mu   sync.Mutex    // guards free
	more sync.Cond     // free has grown
	free int
}

func newBudget(bytes int) *budget {
	b := &budget{turn: make(chan struct{}, 1), free: bytes}
	b.more.L = &b.mu
	return b
}

// take waits until there are so many bytes. Small requests take none.
func (b *budget) take(bytes int) {
	if bytes <= smallRequest {
		return
	}
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.free < bytes {
		b.more.Wait()
	}
	b.free -= bytes
}

// give gives back what was taken.
func (b *budget) give(bytes int) {
	if bytes <= smallRequest {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += bytes
	b.more.Signal() // only the one whose turn it is waits
}
