package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"lockstep/common/text"
	"lockstep/common/wire"
)

// Get returns the value stored under key, and reports whether there is one. An empty
// value that is stored is not nil.
func (cl *Client) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.Get, Key: key})
	return r.Value, r.Status == wire.Found, err
}

// Put stores value under key, and reports whether the key is new.
func (cl *Client) Put(ctx context.Context, key string, value []byte) (created bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.Put, Key: key, Value: value})
	return r.Status == wire.Created, err
}

// Delete removes key, and reports whether it was there.
func (cl *Client) Delete(ctx context.Context, key string) (existed bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.Delete, Key: key})
	return r.Status == wire.Deleted, err
}

// CompareAndSwap stores new under key if the stored value is old, or, if old is nil,
// if there is none. It reports whether it stored new.
func (cl *Client) CompareAndSwap(ctx context.Context, key string, old, new []byte) (swapped bool, err error) {
	r, err := cl.one(ctx, wire.Op{Kind: wire.CompareAndSwap, Key: key, Value: new, Old: old, Absent: old == nil})
	return r.Status == wire.Swapped, err
}

func (cl *Client) one(ctx context.Context, op wire.Op) (wire.Result, error) {
	results, err := cl.Do(ctx, op)
	return results[0], err
}

// Do splits ops by node. Each node executes its part as one atomic step; the parts are
// independent of each other. Do always returns one result for each operation, in
// order: the node's answer, Unknown, or NotRun. The error joins the errors of the
// parts, and is nil only if every operation was answered.
//
// The limits of a request, such as wire.MaxOps operations, are those of the whole call,
// however many nodes there are. A call that exceeds one is not sent at all.
//
// Within a part every CompareAndSwap is checked against the state before the call. So two
// of one key that expect the same value both swap, and the second one's value stays.
func (cl *Client) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return cl.do(ctx, ops, true)
}

// Once is like Do, but does not retry a part that was answered Busy: its operations
// are NotRun, and the error is ErrBusy.
func (cl *Client) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return cl.do(ctx, ops, false)
}

func (cl *Client) do(ctx context.Context, ops []wire.Op, insist bool) ([]wire.Result, error) {
	if len(ops) == 0 {
		return nil, nil
	}
	owners := make([]int, len(ops))
	for i := range ops {
		owners[i] = cl.cfg.Owner(ops[i].Key)
	}
	if !slices.ContainsFunc(owners, func(owner int) bool { return owner != owners[0] }) {
		frame := cl.frames.Get().(*[]byte)
		defer cl.frames.Put(frame)
		var err error
		if *frame, err = wire.AppendRequest((*frame)[:0], &wire.Request{Ops: ops}); err != nil {
			return unanswered(wire.NotRun, ops), err
		}
		p := cl.peers[owners[0]]
		return p.do(ctx, p.get(ctx, false), ops, *frame, insist)
	}
	if err := (&wire.Request{Ops: ops}).Validate(); err != nil {
		return unanswered(wire.NotRun, ops), err
	}
	peers := slices.DeleteFunc(slices.Clone(cl.peers), func(p *peer) bool { return !slices.Contains(owners, p.number) })
	got := cl.collect(ctx, peers, false)
	return Divide(owners, ops, func(node int, part []wire.Op) ([]wire.Result, error) {
		p := cl.peers[node]
		frame, _ := wire.AppendRequest(nil, &wire.Request{Ops: part}) // valid, as a part of what is
		return p.do(ctx, got[slices.Index(peers, p)], part, frame, insist)
	})
}

// Divide calls do with each node's part of the operations, at the same time. It returns the
// results in the order of the operations, and the errors joined. Operation i is in
// the part of node owners[i].
func Divide(owners []int, ops []wire.Op, do func(node int, part []wire.Op) ([]wire.Result, error)) ([]wire.Result, error) {
	parts := make([][]wire.Op, slices.Max(owners)+1)
	for i, owner := range owners {
		parts[owner] = append(parts[owner], ops[i])
	}
	answers, errs := make([][]wire.Result, len(parts)), make([]error, len(parts))
	var doing sync.WaitGroup
	for node, part := range parts {
		if part != nil {
			doing.Go(func() { answers[node], errs[node] = do(node, part) })
		}
	}
	doing.Wait()
	results := make([]wire.Result, len(ops))
	for i, owner := range owners {
		results[i], answers[owner] = answers[owner][0], answers[owner][1:]
	}
	return results, errors.Join(errs...)
}

// collect takes a connection to each of the peers, which are in ascending order: a
// connection to a server that serves one client at a time is a lock, and two clients
// must not each hold the one that the other waits for. While a node does not greet, what
// is held is given back after a second and taken again. A node without a connection does
// not keep the call from the others, unless strict, where only one that is down does not.
func (cl *Client) collect(ctx context.Context, peers []*peer, strict bool) []gotten {
	taken := make([]gotten, 0, len(peers))
	for len(taken) < len(peers) {
		p := peers[len(taken)]
		taken = append(taken, p.get(ctx, len(taken) > 0))
		switch err := taken[len(taken)-1].err; {
		case errors.Is(err, errYield):
			for i, g := range taken {
				peers[i].put(g.c, true)
			}
			taken = taken[:0]
			cl.yield(p)
		case strict && err != nil && !errors.Is(err, ErrDown):
			return taken
		}
	}
	return taken
}

// An Outcome is what is known about a request after a try.
type Outcome int

const (
	Answered Outcome = iota
	NotRun           // certainly not applied; another try may help
	Hopeless         // certainly not applied; another try will not help
	Lost             // sent whole and not answered
)

// do executes one part of a batch, whose keys all belong to this node, and whose frame each
// try sends: it tries again for as long as that is safe and ctx has not ended. The first try
// uses the connection in g. It returns a result for each operation.
func (p *peer) do(ctx context.Context, g gotten, ops []wire.Op, frame []byte, insist bool) ([]wire.Result, error) {
	var last error // why the request was tried again
	for tries := 0; ; tries++ {
		results, fate, err := p.try(ctx, g, ops, frame)
		switch {
		case fate == Answered:
			return results, nil
		case fate == Lost && wire.Writes(ops): // a read that is lost is tried again
			p.cl.unknown.Add(1)
			return unanswered(wire.Unknown, ops), p.error(fmt.Errorf("%w: %w", ErrUnknown, err))
		case fate == Hopeless || err == ErrBusy && !insist:
			return unanswered(wire.NotRun, ops), p.error(err)
		case err != ctx.Err():
			last = err
		}
		select {
		case <-time.After(Backoff(tries)):
			p.cl.retries.Add(1)
		case <-ctx.Done():
		case <-p.cl.ctx.Done(): // the next try says so
		}
		if g = p.get(ctx, false); ctx.Err() != nil && last != nil {
			g.err = fmt.Errorf("%w: %w", last, cmp.Or(g.err, ctx.Err()))
		}
	}
}

func unanswered(status wire.Status, ops []wire.Op) []wire.Result {
	return slices.Repeat([]wire.Result{{Status: status}}, len(ops))
}

func (p *peer) error(err error) error { return fmt.Errorf("%w (node %d, %s)", err, p.number, p.addr) }

// try sends a request once and waits for the answer. It keeps the connection if that
// is as good as before.
func (p *peer) try(ctx context.Context, g gotten, ops []wire.Op, frame []byte) (results []wire.Result, fate Outcome, err error) {
	c := g.c
	if err := cmp.Or(g.err, ctx.Err()); err != nil {
		p.put(c, true)
		return nil, Hopeless, err
	}
	unbind := c.Bind(ctx)
	var response wire.Response
	c.WriteFrame(frame)
	switch {
	case !c.Flush():
		fate, err = NotRun, c.Err()
	case !c.ReadResponse(&response):
		if fate, err = Lost, c.Err(); err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	default:
		results, fate, err = Judge(ops, &response)
		if err == ErrBusy {
			p.cl.refusals.Add(1)
		}
	}
	if c.Err() != nil { // perhaps ctx or Close has ended the connection
		err = cmp.Or(ctx.Err(), context.Cause(p.cl.ctx), err)
	}
	good := fate == Answered || slices.Contains([]wire.Code{wire.Busy, wire.WrongNode, wire.Failed}, response.Code)
	p.put(c, unbind() && good && c.Buffered() == 0) // a spare answer would be taken for the next request's
	return results, fate, err
}

// Judge says what an answer to ops means. It is malformed if it has more or fewer results
// than there are operations, or a status that no server may give. A status that does
// not suit its operation, such as Missing for a Put, is an answer, which the caller
// is to judge.
func Judge(ops []wire.Op, r *wire.Response) ([]wire.Result, Outcome, error) {
	switch r.Code {
	case wire.OK:
		if len(r.Results) != len(ops) {
			return nil, Lost, fmt.Errorf("%w: %s for %s", wire.ErrMalformed,
				text.Plural(int64(len(r.Results)), "result"), text.Plural(int64(len(ops)), "operation"))
		}
		for i := range r.Results {
			if status := r.Results[i].Status; status < wire.Found || status > wire.TooLarge { // Unknown and NotRun are the client's
				return nil, Lost, fmt.Errorf("%w: %v answered to a %v", wire.ErrMalformed, status, ops[i].Kind)
			}
			if r.Results[i].Status == wire.Found && r.Results[i].Value == nil {
				r.Results[i].Value = []byte{} // gob leaves an empty value out
			}
		}
		return r.Results, Answered, nil
	case wire.Busy:
		return nil, NotRun, ErrBusy
	case wire.Goodbye:
		return nil, NotRun, errors.New("the server is stopping")
	case wire.WrongNode:
		return nil, Hopeless, ErrWrongNode
	case wire.Invalid:
		return nil, Hopeless, errors.New("the server calls the request invalid")
	case wire.Failed:
		if !wire.Writes(ops) { // an answer, and final: another try would fail in the same way
			return nil, Hopeless, ErrFailed
		}
		return nil, Lost, ErrFailed
	}
	return nil, Lost, fmt.Errorf("the server answers: %v", r.Code)
}
