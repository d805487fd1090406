package node

import "lockstep/common/metrics"

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
	turn chan struct{}  // held while taking memory: no two requests have a part each, and none is overtaken
	used chan struct{}  // an element for each smallRequest bytes that are taken, rounded up
}

func newBudget(bytes int, wait *metrics.Timer) *budget {
	return &budget{wait, make(chan struct{}, 1), make(chan struct{}, bytes/smallRequest)}
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
	for ; bytes > 0; bytes -= smallRequest {
		b.used <- struct{}{}
	}
}

// give returns bytes that take took.
func (b *budget) give(bytes int) {
	if bytes <= smallRequest {
		return
	}
	for ; bytes > 0; bytes -= smallRequest {
		<-b.used
	}
}
