package load

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/text"
	"lockstep/common/wire"
)

const (
	maxLoaders = 4               // clients that store keys at the same time
	storeTime  = 2 * time.Minute // for keys to be stored by a request
)

// A preload is the storing of all keys, by loaders that have a client each.
type preload struct {
	to       Target
	requests chan []wire.Op          // closed when every key is in one
	dialing  context.Context         // ends when there are no more requests
	stop     context.CancelCauseFunc // ends the loaders
	loaders  sync.WaitGroup
	grown    sync.Once // the other loaders have started

	start  time.Time
	keys   int
	told   func(what string, left time.Duration)
	mu     sync.Mutex // guards stored, and is held while told is called
	stored int        // of the keys
}

// Preload stores a value under every key. After each request it tells how many are stored and
// how long the rest will take. A server works for each key that is there already, up to a
// minute a key: requests are of one key at first, and then grow for as long as they take half
// a second at most. When they are full, others join the first loader. Those that the server
// does not greet, since it serves one client at a time, take no part.
func Preload(ctx context.Context, to Target, work *workload.Workload, told func(what string, left time.Duration)) error {
	greeting, cancel := context.WithTimeout(ctx, ConnectTime)
	defer cancel()
	first, err := to.Dial(greeting)
	if err != nil {
		return fmt.Errorf("storing the keys: %w", err)
	}
	p := &preload{to: to, requests: make(chan []wire.Op), start: time.Now(), keys: work.Keys, told: told}
	ctx, p.stop = context.WithCancelCause(ctx)
	defer p.stop(nil)
	dialing, endDials := context.WithCancel(ctx)
	p.dialing = dialing
	p.loaders.Go(func() { p.load(ctx, first, 1) })
	work.Preload(func(ops []wire.Op) bool {
		select {
		case p.requests <- ops:
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(p.requests)
	endDials()
	p.loaders.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("storing the keys: %w", context.Cause(ctx))
	}
	return nil
}

// load stores keys until there are no more or it is stopped, at first up to size by a request.
func (p *preload) load(ctx context.Context, cl Client, size int) {
	defer cl.Close()
	for ops := range p.requests {
		if full := len(ops); size >= full {
			p.grown.Do(func() {
				for range maxLoaders - 1 {
					p.loaders.Go(func() {
						if cl, err := p.to.Dial(p.dialing); err == nil {
							p.load(ctx, cl, full)
						}
					})
				}
			})
		}
		for len(ops) > 0 {
			n, began := min(size, len(ops)), time.Now()
			if err := store(ctx, cl, ops[:n]); err != nil {
				p.stop(err)
				return
			}
			size = max(1, min(2*size, wire.MaxOps, int(500*time.Millisecond*time.Duration(size)/max(time.Since(began), 1))))
			ops = ops[n:]
			p.add(n)
		}
	}
}

// add tells that n more keys are stored.
func (p *preload) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored += n
	p.told(fmt.Sprintf("storing keys: %s of %s", millions(p.stored), millions(p.keys)),
		time.Since(p.start)/time.Duration(p.stored)*time.Duration(p.keys-p.stored))
}

// store sends puts and checks the answers.
func store(ctx context.Context, cl Client, puts []wire.Op) error {
	doing, cancel := context.WithTimeoutCause(ctx, storeTime, fmt.Errorf("%w within %v", ErrNoAnswer, storeTime))
	defer cancel()
	results, err := cl.Do(doing, puts...)
	if err != nil {
		return cmp.Or(context.Cause(doing), err)
	}
	for i, r := range results {
		if r.Status != wire.Created && r.Status != wire.Replaced {
			return fmt.Errorf("%w: %s: %q answered to a put", ErrWrong, puts[i].Key, r.Status)
		}
	}
	return nil
}

// millions writes n in full below a million, and in millions from there on.
func millions(n int) string {
	if n < 1_000_000 {
		return text.Count(int64(n))
	}
	return text.Sig(float64(n)/1e6, 2) + " M"
}
