package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// A load is a round in the making: the connections of a workload, each of which is
// a client of its own.
type Load struct {
	target Target
	cfg    cluster.Config
	Once   bool          // a request that is answered Busy is not tried again
	Grace  time.Duration // how long the requests under way at the end may still take
	clock  clock

	patience time.Duration // with servers that answer nobody, where only the number of operations ends a load

	first  uint64 // the number of the first connection
	round  uint64 // from 0
	phases uint64 // so far
	conns  []*connection
	quit   context.CancelFunc // ends connections that nobody ever greeted
	dials  sync.WaitGroup     // their goroutines
}

// A connection is one client of the servers, and asks for what its sources say. With
// a connection for each request it has no client of its own.
type connection struct {
	load    *Load
	sources []*workload.Source // as many as it has requests in flight
	greeted chan struct{}      // closed when client is set
	client  Client
}

const (
	defaultGrace = 5 * time.Second
	ConnectTime  = 10 * time.Second // for the first connection to be greeted
	// Connections that are not greeted while no other is for this long, are waited
	// for no longer.
	nobodyElse = 250 * time.Millisecond
	patience   = 20 * time.Second // for one request, the work that was asked for aside: a server that is stuck says so before
)

var (
	// ErrNoAnswer: servers that are there did not answer in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrWrong: an answer that no correct server gives.
	ErrWrong = errors.New("wrong answer")
)

// newLoad connects, with connections that are numbered from first. It returns when
// all are greeted, or when for a while none has been: on a server that takes one
// client at a time the others wait, and may starve. That nobody is greeted is an
// error.
func New(ctx context.Context, to Target, work *workload.Workload, first int) (*Load, error) {
	cfg := to.Config()
	l := &Load{target: to, cfg: cfg, Once: work.Once, round: work.Round, first: uint64(first), Grace: defaultGrace, patience: patience, clock: realClock()}
	dialing, quit := context.WithCancel(ctx)
	l.quit = quit
	dialed := make(chan error, cfg.Workload.Connections)
	for i := range cfg.Workload.Connections {
		c := &connection{load: l, greeted: make(chan struct{})}
		for d := range cfg.Workload.Depth {
			c.sources = append(c.sources, work.Source((first+i)*cfg.Workload.Depth+d))
		}
		l.conns = append(l.conns, c)
		if cfg.Workload.Conn == "per-request" {
			close(c.greeted)
			dialed <- nil
			continue
		}
		l.dials.Go(func() { // ends when greeted, or at close
			cl, err := to.Dial(dialing)
			if err == nil {
				c.client = cl
				close(c.greeted)
			}
			dialed <- err
		})
	}
	if err := l.wait(ctx, dialed); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Load) wait(ctx context.Context, dialed <-chan error) error {
	greeted, patience := 0, ConnectTime
	err := fmt.Errorf("no connection was greeted within %v: the server serves others, or waits for its peers", patience)
	for more := len(l.conns); more > 0; more-- {
		select {
		case e := <-dialed:
			if e != nil {
				err = e
			} else {
				greeted, patience = greeted+1, nobodyElse
			}
		case <-time.After(patience):
			more = 0
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if greeted > 0 {
		return nil
	}
	return err
}

// open returns the connection's client; or else, a new one for one request, which is
// to be closed.
func (c *connection) open(ctx context.Context) (Client, error) {
	if c.client != nil {
		return c.client, nil
	}
	return c.load.target.Open(ctx)
}

// refusals counts the Busy answers to all connections that are kept.
func (l *Load) refusals() (n int64) {
	for _, c := range l.conns {
		select {
		case <-c.greeted:
			if c.client != nil {
				n += c.client.Counts().Refusals
			}
		default:
		}
	}
	return n
}

// close ends all connections, and waits for their goroutines.
func (l *Load) Close() {
	l.quit()
	l.dials.Wait()
	for _, c := range l.conns {
		if c.client != nil {
			c.client.Close()
		}
	}
}

// preload stores a value under every key.
func Preload(ctx context.Context, to Target, work *workload.Workload) error {
	dialing, cancel := context.WithTimeout(ctx, ConnectTime)
	defer cancel()
	cl, err := to.Dial(dialing)
	if err != nil {
		return fmt.Errorf("storing the keys: %w", err)
	}
	defer cl.Close()
	for ops := range work.Preload {
		limit := patience + time.Duration(len(ops))*to.Config().Server.Work.Time
		doing, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %v", ErrNoAnswer, limit))
		results, err := cl.Do(doing, ops...)
		if err != nil && doing.Err() != nil {
			err = context.Cause(doing)
		}
		cancel()
		if err != nil {
			return fmt.Errorf("storing the keys: %w", err)
		}
		for i, r := range results {
			if r.Status != wire.Created && r.Status != wire.Replaced {
				return fmt.Errorf("%w: storing the keys: %s: %q answered to a put", ErrWrong, ops[i].Key, r.Status)
			}
		}
	}
	return nil
}
