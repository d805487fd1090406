package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"lockstep/common/client"
	"lockstep/common/wire"
)

// A Codec speaks the protocol of one connection. Append may be called while Read waits.
type Codec interface {
	// Append appends a request to dst. Requests are numbered from 1. On an error dst is
	// unchanged.
	Append(dst []byte, number uint64, ops []wire.Op) ([]byte, error)
	// Read waits for the next answer and returns the number of the request that it
	// answers, or 0 for the oldest one without an answer, whose operations are ops. An
	// error other than a Refusal ends the connection; neither comes with results.
	Read(ops []wire.Op) (number uint64, results []wire.Result, err error)
	// Buffered returns how many bytes have been received and not been read.
	Buffered() int
}

// An Opener makes the codec of a connection to a node, when the server has greeted it.
type Opener func(ctx context.Context, node int, nc net.Conn) (Codec, error)

// A Refusal is an error that the server gave as its answer. The connection remains good.
type Refusal struct{ Reason error }

func (r Refusal) Error() string { return r.Reason.Error() }
func (r Refusal) Unwrap() error { return r.Reason }

// frames is the Codec of Lockstep. Answers come in the order of the requests.
type frames struct{ *wire.Conn }

func (f frames) Append(dst []byte, _ uint64, ops []wire.Op) ([]byte, error) {
	return wire.AppendRequest(dst, &wire.Request{Ops: ops})
}

// codeErrors are what answers mean that have no results.
var codeErrors = map[wire.Code]error{
	wire.Busy:      Refusal{client.ErrBusy},
	wire.WrongNode: Refusal{client.ErrWrongNode},
	wire.Failed:    Refusal{errors.New("the server failed inside the request")},
	wire.Invalid:   Refusal{errors.New("the server calls the request invalid")},
	wire.Goodbye:   fmt.Errorf("%w: the server is stopping", errNotApplied),
}

func (f frames) Read(ops []wire.Op) (number uint64, results []wire.Result, err error) {
	var r wire.Response
	if !f.ReadResponse(&r) {
		return 0, nil, f.Err()
	}
	if slices.ContainsFunc(r.Results, func(r wire.Result) bool { return r.Status < wire.Found || r.Status > wire.TooLarge }) {
		return 0, nil, fmt.Errorf("%w: an answer with the status of a client", wire.ErrMalformed)
	}
	switch {
	case r.Code == wire.Failed && wire.Writes(ops):
		return 0, nil, Refusal{fmt.Errorf("%w: %w", client.ErrUnknown, codeErrors[r.Code])}
	case r.Code != wire.OK:
		return 0, nil, cmp.Or(codeErrors[r.Code], fmt.Errorf("%w: %q in an answer", wire.ErrMalformed, r.Code))
	}
	return 0, r.Results, nil
}
