package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"lockstep/common/text"
	"lockstep/common/wire"
)

// An outcome is what is known about a request after a try.
type outcome int

const (
	answered outcome = iota
	notRun           // certainly not applied; another try may help
	hopeless         // certainly not applied; another try will not help
	lost             // sent whole and not answered
)

// do executes one part of a batch, whose keys all belong to this node, and whose frame each
// try sends: it tries again for as long as that is safe and ctx has not ended. The first try
// uses the connection in g. It returns a result for each operation.
func (p *peer) do(ctx context.Context, g gotten, ops []wire.Op, frame []byte, insist bool) ([]wire.Result, error) {
	var last error // why the request was tried again
	for tries := 0; ; tries++ {
		results, fate, err := p.try(ctx, g, ops, frame)
		switch {
		case fate == answered:
			return results, nil
		case fate == lost && wire.Writes(ops): // a read that is lost is tried again
			p.cl.unknown.Add(1)
			return unanswered(wire.Unknown, ops), p.error(fmt.Errorf("%w: %w", ErrUnknown, err))
		case fate == hopeless || err == ErrBusy && !insist:
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
func (p *peer) try(ctx context.Context, g gotten, ops []wire.Op, frame []byte) (results []wire.Result, fate outcome, err error) {
	c := g.c
	if err := cmp.Or(g.err, ctx.Err()); err != nil {
		p.put(c, true)
		return nil, hopeless, err
	}
	unbind := c.Bind(ctx)
	var response wire.Response
	c.WriteFrame(frame)
	switch {
	case !c.Flush():
		fate, err = notRun, c.Err()
	case !c.ReadResponse(&response):
		if fate, err = lost, c.Err(); err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	default:
		results, fate, err = p.judge(ops, &response)
	}
	if c.Err() != nil { // perhaps ctx or Close has ended the connection
		err = cmp.Or(ctx.Err(), context.Cause(p.cl.ctx), err)
	}
	good := fate == answered || slices.Contains([]wire.Code{wire.Busy, wire.WrongNode, wire.Failed}, response.Code)
	p.put(c, unbind() && good && c.Buffered() == 0) // a spare answer would be taken for the next request's
	return results, fate, err
}

// judge says what an answer means. It is malformed if it has another number of results
// than there are operations, or a status that no server may give. A status that does
// not suit its operation, such as Missing for a Put, is an answer: the caller is to
// see and judge it.
func (p *peer) judge(ops []wire.Op, r *wire.Response) ([]wire.Result, outcome, error) {
	switch r.Code {
	case wire.OK:
		if len(r.Results) != len(ops) {
			return nil, lost, fmt.Errorf("%w: %s for %s", wire.ErrMalformed,
				text.Plural(int64(len(r.Results)), "result"), text.Plural(int64(len(ops)), "operation"))
		}
		for i := range r.Results {
			if status := r.Results[i].Status; status < wire.Found || status > wire.TooLarge { // Unknown and NotRun are the client's
				return nil, lost, fmt.Errorf("%w: %v answered to a %v", wire.ErrMalformed, status, ops[i].Kind)
			}
			if r.Results[i].Status == wire.Found && r.Results[i].Value == nil {
				r.Results[i].Value = []byte{} // gob leaves an empty value out
			}
		}
		return r.Results, answered, nil
	case wire.Busy:
		p.cl.refusals.Add(1)
		return nil, notRun, ErrBusy
	case wire.Goodbye:
		return nil, notRun, errors.New("the server is stopping")
	case wire.WrongNode:
		return nil, hopeless, ErrWrongNode
	case wire.Invalid:
		return nil, hopeless, errors.New("the server calls the request invalid")
	}
	err := fmt.Errorf("the server answers: %v", r.Code)
	if r.Code == wire.Failed && !wire.Writes(ops) { // an answer, and final: another try would fail in the same way
		return nil, hopeless, err
	}
	return nil, lost, err // Failed, or an unknown code
}
