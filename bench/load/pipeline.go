package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A pipeline is a client with one connection to each node, and as many requests in
// flight on it as there are calls. (A client.Client has one in flight on each of its
// connections, and opens more.) A connection that is lost stays lost. Safe for
// concurrent use.
type pipeline struct {
	cfg     cluster.Config
	pipes   []*pipe // by node
	dialing time.Duration
}

// A pipe is the connection to one node. Answers come in the order of the requests.
type pipe struct {
	nc     net.Conn      // to write to
	limit  time.Duration // of one write
	reader sync.WaitGroup
	busy   atomic.Int64 // answers

	mu      sync.Mutex            // guards what follows
	unsent  []byte                // requests
	writing bool                  // somebody sends them, until there are none
	waiting []chan *wire.Response // for answers; of size 1, as a call may be given up
	lost    error                 // why there is no more connection; then it stays
}

// dialPipeline connects to the nodes in ascending order, as client.Dial does, and
// waits to be greeted by each.
func dialPipeline(ctx context.Context, cfg cluster.Config) (*pipeline, error) {
	pl := &pipeline{cfg: cfg}
	start := metrics.Now()
	for i, node := range cfg.Nodes {
		var conn *wire.Conn
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", node.Addr)
		if err == nil {
			conn, err = wire.Open(ctx, nc, wire.Hello{Purpose: wire.Service, Group: "nodes", Number: i,
				Fingerprint: cfg.Fingerprint(), Secret: cfg.Secret}, wire.Limits{Frame: cfg.Server.FrameTimeout})
		}
		if err != nil {
			pl.Close()
			return nil, fmt.Errorf("node %d (%s): %w", i, node.Addr, err)
		}
		p := &pipe{nc: nc, limit: cfg.Server.WriteTimeout}
		p.reader.Go(func() { p.read(conn) }) // until the connection ends
		pl.pipes = append(pl.pipes, p)
	}
	pl.dialing = metrics.Now() - start
	return pl, nil
}

// Do, Once, Counts and Close are those of client.Client; a connection that is lost stays
// lost, so nothing is retried but what was Busy.
func (pl *pipeline) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return pl.do(ctx, ops, true)
}

func (pl *pipeline) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return pl.do(ctx, ops, false)
}

func (pl *pipeline) Counts() client.Counts {
	c := client.Counts{Dials: int64(len(pl.pipes)), Dialing: pl.dialing}
	for _, p := range pl.pipes {
		c.Refusals += p.busy.Load()
	}
	return c
}

func (pl *pipeline) Close() error {
	for _, p := range pl.pipes {
		p.nc.Close()
		p.reader.Wait()
	}
	return nil
}

func (pl *pipeline) do(ctx context.Context, ops []wire.Op, insist bool) ([]wire.Result, error) {
	if len(pl.pipes) == 1 {
		return pl.pipes[0].do(ctx, ops, insist)
	}
	results := make([]wire.Result, len(ops))
	errs := make([]error, len(pl.pipes))
	var parts sync.WaitGroup
	for node, p := range pl.pipes {
		var part []wire.Op
		var places []int // of its operations in ops
		for i, op := range ops {
			if pl.cfg.Owner(op.Key) == node {
				part, places = append(part, op), append(places, i)
			}
		}
		if part == nil {
			continue
		}
		parts.Go(func() {
			answers, err := p.do(ctx, part, insist)
			for j, i := range places {
				results[i].Status = wire.Unknown
				if err == nil {
					results[i] = answers[j]
				}
			}
			errs[node] = err
		})
	}
	parts.Wait()
	return results, errors.Join(errs...)
}

// do sends a request and waits for the answer; if that is Busy, and insist is set,
// again and again.
func (p *pipe) do(ctx context.Context, ops []wire.Op, insist bool) ([]wire.Result, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		answer := make(chan *wire.Response, 1)
		if err := p.send(ops, answer); err != nil {
			return nil, err
		}
		select {
		case r := <-answer:
			switch {
			case r == nil:
				return nil, fmt.Errorf("%w: %w", client.ErrUnknown, p.lost)
			case r.Code == wire.OK && len(r.Results) == len(ops):
				return r.Results, nil
			case r.Code != wire.Busy:
				return nil, fmt.Errorf("%v, with %d results for %d operations", r.Code, len(r.Results), len(ops))
			}
			p.busy.Add(1)
			if !insist {
				return nil, client.ErrBusy
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		Pause(ctx, wait)
	}
}

// send sends a request, unless somebody who is sending already will send it, too.
func (p *pipe) send(ops []wire.Op, answer chan *wire.Response) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost != nil {
		return fmt.Errorf("%w: %w", client.ErrDown, p.lost)
	}
	if p.unsent, err = wire.AppendRequest(p.unsent, &wire.Request{Ops: ops}); err != nil {
		return err
	}
	p.waiting = append(p.waiting, answer)
	if p.writing {
		return nil
	}
	p.writing = true
	for out := []byte(nil); len(p.unsent) > 0; {
		out, p.unsent = p.unsent, out[:0]
		p.mu.Unlock()
		p.nc.SetWriteDeadline(time.Now().Add(p.limit))
		if _, err := p.nc.Write(out); err != nil {
			p.nc.Close() // the reader tells all who wait
		}
		p.mu.Lock()
	}
	p.writing = false
	return nil
}

// read hands out answers until the connection ends, and then nil to all who wait.
func (p *pipe) read(conn *wire.Conn) {
	for {
		r := new(wire.Response)
		ok := conn.ReadResponse(r) && r.Code != wire.Goodbye
		p.mu.Lock()
		if !ok || len(p.waiting) == 0 {
			break
		}
		p.waiting[0] <- r
		p.waiting = p.waiting[1:]
		p.mu.Unlock()
	}
	defer p.mu.Unlock()
	p.nc.Close()
	why := conn.Err()
	if why == nil {
		why = errors.New("the server ended it")
	}
	p.lost = fmt.Errorf("the connection to %v is lost: %w", p.nc.RemoteAddr(), why)
	for _, w := range p.waiting {
		close(w)
	}
}
