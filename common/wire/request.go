package wire

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Validate returns an error that names the rule that a request breaks, or nil if the
// request can be sent.
func (r *Request) Validate() error {
	err := r.check()
	if err == nil && messageCost+r.Ops.room() > MaxFrame { // otherwise it fits certainly
		_, err = codecs.request.appendFrame(nil, r)
	}
	return err
}

// check is Validate for a request whose frame is known not to be too large.
func (r *Request) check() error {
	if n := len(r.Ops); n < 1 || n > MaxOps {
		return fmt.Errorf("%d operations are not in 1..%d", n, MaxOps)
	}
	for i := range r.Ops {
		if err := r.Ops[i].check(); err != nil {
			return fmt.Errorf("operation %d of %d: %w", i+1, len(r.Ops), err)
		}
	}
	return nil
}

func (op *Op) check() error {
	switch {
	case op.Kind < Get || op.Kind > CompareAndSwap:
		return fmt.Errorf("operation kind %d is unknown", uint8(op.Kind))
	case len(op.Key) < 1 || len(op.Key) > MaxKey:
		return fmt.Errorf("a key of %d bytes is not in 1..%d", len(op.Key), MaxKey)
	case len(op.Value) > MaxValue:
		return fmt.Errorf("a value of %d bytes is not in 0..%d", len(op.Value), MaxValue)
	case len(op.Old) > MaxValue:
		return fmt.Errorf("an expected value of %d bytes is not in 0..%d", len(op.Old), MaxValue)
	case op.Absent && len(op.Old) > 0:
		return errors.New("both an expected value and Absent are given")
	}
	return nil
}

// opCost is the memory of an operation, not counting the bytes of its strings: 80 for an
// Op, 32 for a Result, and the rounding of the allocator for Value and Old.
const opCost = 144

// Next looks for the next request in the buffer, and reports whether all of it has been
// received. It returns how many operations the request has, and the maximum memory in bytes
// that it takes, with its results, while it is answered: both computed from the frame, which
// stays in the buffer, and zero if that is malformed.
func (c *Conn) Next() (ops, bytes int, whole bool) {
	frame := c.next()
	if frame == nil {
		return 0, 0, false
	}
	list, _, err := codecs.request.split(frame)
	n, _ := binary.Uvarint(list)
	if err != nil || n > MaxOps {
		return 0, 0, true // the frame will not be decoded
	}
	return int(n), 2*len(frame) + int(n)*opCost, true // twice: gob copies the frame, and the list its parts
}

// ReadRequest takes the next request that has been received whole, and reports whether
// there was one. It does not wait. A frame that is not a valid request is answered
// Invalid and ends the connection. The list's memory is used again; the Keys and Values of
// the operations before it stay as they are.
func (c *Conn) ReadRequest(r *Request) bool {
	frame := c.take()
	if frame == nil {
		return false
	}
	err := codecs.request.decode(frame, r)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		c.WriteResponse(&Response{Code: Invalid})
		c.fail("reading a request", err)
	}
	return err == nil
}

// SkipRequest takes the next request without decoding it, and reports whether there was
// one.
func (c *Conn) SkipRequest() bool { return c.take() != nil }

// WriteResponse adds an answer to the request that was taken last, or a Goodbye, to what
// Flush will send. Values that do not fit the frame are left out, and their results become
// TooLarge.
func (c *Conn) WriteResponse(r *Response) {
	if r.Number = c.frames; r.Code == Goodbye {
		r.Number = 0
	}
	out, err := codecs.response.appendFrame(c.out, r)
	if err == ErrTooLarge {
		r.shrink()
		out, err = codecs.response.appendFrame(c.out, r)
	}
	if c.out = out; err != nil {
		c.fail("writing an answer", err)
	}
}

// messageCost is the maximum number of bytes in a frame besides the elements of its list: lengths,
// type, count, code, number and end.
const messageCost = 40

// shrink makes the results TooLarge whose values do not fit the frame.
func (r *Response) shrink() {
	room := MaxFrame - messageCost - 2*len(r.Results) // a status and a length each
	for i := range r.Results {
		if cost := len(r.Results[i].Value) + binary.MaxVarintLen16 - 1; cost <= room {
			room -= cost
		} else {
			r.Results[i] = Result{Status: TooLarge}
		}
	}
}

// WriteRequest adds a request to what Flush will send. It returns an error if the
// request breaks a rule; then nothing is added, and the connection is as good as before.
func (c *Conn) WriteRequest(r *Request) (err error) {
	c.out, err = AppendRequest(c.out, r)
	return err
}

// WriteFrame adds what AppendRequest has made to what Flush will send.
func (c *Conn) WriteFrame(frame []byte) { c.out = append(c.out, frame...) }

// AppendRequest appends the frame of a request to dst. On an error dst is unchanged.
func AppendRequest(dst []byte, r *Request) ([]byte, error) {
	if err := r.check(); err != nil {
		return dst, err
	}
	return codecs.request.appendFrame(slices.Grow(dst, messageCost+r.Ops.room()), r)
}

// AppendResponse appends the frame of an answer to dst. On an error dst is unchanged.
func AppendResponse(dst []byte, r *Response) ([]byte, error) {
	return codecs.response.appendFrame(dst, r)
}

// DecodeResponse decodes an answer from its frame, without the 4-byte length prefix.
func DecodeResponse(frame []byte, r *Response) error { return codecs.response.decode(frame, r) }

// ReadResponse waits for the next answer, and reports whether one came. One that answers
// another request than the oldest without an answer ends the connection.
func (c *Conn) ReadResponse(r *Response) bool {
	if !c.Ready() || !receive(c, codecs.response, r) {
		return false
	}
	want := c.frames
	if r.Code == Goodbye {
		want = 0
	}
	if r.Number != want {
		c.fail("reading an answer", fmt.Errorf("it answers request %d, want %d", r.Number, want))
		*r = Response{}
		return false
	}
	return true
}

// ReadControl takes the next control message that has been received whole, and reports
// whether there was one. It does not wait.
func (c *Conn) ReadControl(m *Control) bool { return receive(c, codecs.control, m) }

// receive takes the next message, and reports whether there was a valid one.
func receive[T any](c *Conn, kind *codec[T], m *T) bool {
	frame := c.take()
	if frame == nil {
		return false
	}
	err := kind.decode(frame, m)
	if err != nil {
		c.fail("reading "+kind.name, err)
	}
	return err == nil
}

// WriteControl adds a control message to what Flush will send.
func (c *Conn) WriteControl(m *Control) {
	out, err := codecs.control.appendFrame(c.out, m)
	if c.out = out; err != nil {
		c.fail("writing a control message", err)
	}
}

// Ask sends one control message and waits for the answer, until ctx ends.
func (c *Conn) Ask(ctx context.Context, question *Control) (answer Control, err error) {
	release := c.Bind(ctx)
	c.WriteControl(question)
	if c.Flush() && c.Ready() {
		c.ReadControl(&answer)
	}
	if !release() {
		return Control{}, context.Cause(ctx)
	}
	if c.err == io.EOF {
		return Control{}, io.ErrUnexpectedEOF
	}
	return answer, c.err
}

// fail ends the connection because of a message, not because of the network.
func (c *Conn) fail(doing string, err error) {
	c.err = cmp.Or(c.err, fmt.Errorf("%s: %w: %w", doing, ErrMalformed, err))
}
