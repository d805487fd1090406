// Package load puts a load on servers and measures it: connections that send the requests
// of a workload, in a closed or an open loop, and count what came of them. It has the
// client that keeps several requests in flight on a connection, for any protocol.
package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/text"
	"lockstep/common/wire"
)

const (
	// ConnectTime is how long the first connection may take to be greeted.
	ConnectTime = 10 * time.Second

	// Meetings is how often Round calls Meet: when connected, when warm, and before it sends.
	Meetings = 3

	othersTime = 250 * time.Millisecond // for the next connection to be greeted
	storeTime  = 2 * time.Minute        // for keys to be stored by a request of Preload
	maxLoaders = 4                      // clients that store keys at the same time
)

var (
	// ErrNoAnswer means that servers did not answer in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrWrong means that a server gave an answer that no correct server gives.
	ErrWrong = errors.New("wrong answer")
)

// A Generator has the connections of a workload, each of which is a client of its own.
type Generator struct {
	Grace time.Duration               // how long requests in flight at the end may still take
	Told  Told                        // may be nil
	Meet  func(context.Context) error // waits for other clients, which are to send at the same time: Meetings times a round

	target   Target
	cfg      cluster.Config
	clock    clock
	sampled  bool          // requests leave samples
	warming  bool          // an open loop ends on time, whatever is due
	patience time.Duration // for the next request to be sent, when only the number of operations ends the load
	arrivals uint64        // seed of the next phase's arrivals
	conns    []*connection
	quit     context.CancelFunc // ends the dials
	dials    sync.WaitGroup
}

// A Told is called about once a second, with what came of the requests since the last call: p99 is of
// those that were answered.
type Told func(opsPerSecond float64, p99 time.Duration, failed int64)

// A connection is one client of the servers.
type connection struct {
	sources []*workload.Source // one for each request in flight
	greeted chan struct{}      // closed when client is set
	client  Client             // nil if each request has a new one; closed if the dials failed
	err     error              // why client is not connected, when the dials have ended

	mu     sync.Mutex    // guards what follows, as several requests may be in flight
	tally  *Result       // what came of the phase's requests
	counts client.Counts // those of client that are in a tally
}

// New connects. The connections are numbered from first, and no other connection of the run
// may have these numbers. New returns when all are greeted, or when no other has been for a
// while: a server that serves one client at a time never greets the rest. It is an error if
// none is greeted.
func New(ctx context.Context, to Target, work *workload.Workload, first int) (*Generator, error) {
	cfg := to.Config()
	dialing, quit := context.WithCancel(ctx)
	// Each round and each phase has its own arrivals, or one lucky draw would decide all.
	alone := func(context.Context) error { return nil }
	g := &Generator{Grace: 5 * time.Second, Meet: alone, target: to, cfg: cfg, clock: clock{metrics.Now, metrics.Sleep, metrics.CPU}, quit: quit,
		sampled: work.Sampled, arrivals: cfg.Workload.Seed + uint64(first) + work.Round<<40}
	// Servers that bench did not start may work for longer than cfg says.
	g.patience = 20*time.Second + time.Duration(cfg.Workload.Batch)*max(cfg.Server.Work.Time, time.Second)
	dialed := make(chan error, cfg.Workload.Connections)
	for i := range cfg.Workload.Connections {
		c := &connection{greeted: make(chan struct{})}
		for d := range cfg.Workload.Depth {
			c.sources = append(c.sources, work.Source((first+i)*cfg.Workload.Depth+d))
		}
		g.conns = append(g.conns, c)
		g.dials.Go(func() { // ends when greeted, or at Close
			if cfg.Workload.Conn == "persistent" {
				c.client, c.err = to.Dial(dialing)
			}
			if c.err == nil {
				close(c.greeted)
			}
			dialed <- c.err
		})
	}
	if err := g.wait(ctx, dialed); err != nil {
		g.Close()
		if why, _ := g.endDials(); why != "" {
			err = fmt.Errorf("%w: %s", err, why)
		}
		return nil, err
	}
	return g, nil
}

// wait waits for the results of the dials, which the end of ctx ends.
func (g *Generator) wait(ctx context.Context, dialed <-chan error) error {
	limit := ConnectTime
	failure := fmt.Errorf("no connection was greeted within %v: the server serves others, or waits for its peers", limit)
	for waiting := len(g.conns); waiting > 0; waiting-- {
		select {
		case err := <-dialed:
			if err == nil {
				failure, limit = nil, othersTime
			} else if failure != nil {
				failure = err
			}
		case <-time.After(limit):
			waiting = 0
		}
	}
	return cmp.Or(context.Cause(ctx), failure)
}

// endDials ends the dials. It returns what the servers said to a connection for which they had
// no place, and the number of refused dials that are not in a tally.
func (g *Generator) endDials() (why string, refused int64) {
	g.quit()
	g.dials.Wait()
	for _, c := range g.conns {
		why = cmp.Or(why, refusal(c.err))
		if c.client != nil {
			refused += c.client.Counts().Refused - c.counts.Refused
		}
	}
	return why, refused
}

// refusal returns what the server said that had no place for a connection, or "".
func refusal(err error) string {
	var why wire.Refused
	errors.As(err, &why)
	return string(why)
}

// Close ends all connections and waits for their goroutines.
func (g *Generator) Close() {
	g.endDials()
	for _, c := range g.conns {
		if c.client != nil {
			c.client.Close()
		}
	}
}

// Preload stores a value under every key. After each request it tells how many are stored and
// how long the rest will take. A server works for each key that is there already, up to a
// minute a key: requests are of one key at first, and then grow for as long as they take half
// a second at most. When they are full, others join the first loader, each with a client of its
// own. Those that the server does not greet, because it serves one client at a time, take no part.
func Preload(ctx context.Context, to Target, work *workload.Workload, told func(what string, left time.Duration)) error {
	ctx, stop := context.WithCancelCause(ctx) // ends all loaders
	defer stop(nil)
	dialing, endDials := context.WithTimeout(ctx, ConnectTime)
	start := time.Now()
	var started, taken atomic.Int64 // how many others; how many keys loaders have begun to store
	var others sync.WaitGroup       // loaders but the first: they end with the keys, or when stopped
	var mu sync.Mutex               // guards stored, and is held while told is called
	var stored int                  // keys
	var load func(size int) error   // one loader, whose first request is of size keys
	load = func(size int) error {
		cl, err := to.Dial(dialing)
		if err != nil {
			return err
		}
		defer cl.Close()
		for {
			puts := work.Preload(int(taken.Add(int64(size)))-size, size)
			if len(puts) == 0 {
				return nil
			}
			if size == work.Full && started.Add(1) < maxLoaders {
				others.Go(func() { load(work.Full) })
			}
			began := time.Now()
			if err := store(ctx, cl, puts); err != nil {
				stop(err)
				return err
			}
			size = max(1, min(2*size, work.Full, int(500*time.Millisecond*time.Duration(size)/max(time.Since(began), 1))))
			mu.Lock()
			stored += len(puts)
			told(fmt.Sprintf("storing keys: %s of %s", text.ShortCount(int64(stored)), text.ShortCount(int64(work.Keys))),
				time.Since(start)/time.Duration(stored)*time.Duration(work.Keys-stored))
			mu.Unlock()
		}
	}
	err := load(1)
	endDials()
	others.Wait()
	if err = cmp.Or(context.Cause(ctx), err); err != nil {
		return fmt.Errorf("storing the keys: %w", err)
	}
	return nil
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
