// Package wire is the protocol between two processes of a cluster: a greeting, then
// frames of one gob value each.
//
// The server speaks first. Its greeting (see Greet) has a fixed size and says who the
// server is and what it understands. So two ends that disagree find out before the first
// request, and a client knows that a silent connection is not served yet. If the server
// asks for a secret, both ends prove that they know it before anything is decoded.
//
// Then each direction is a sequence of frames:
//
//	4 bytes, big-endian: length n, 1 to MaxFrame
//	n bytes: one gob value message, a Request or a Response (a Control on a control port)
//
// A frame can be read whole without being decoded, and refused without being read. Type
// descriptions never travel (see codec), so hostile ones never reach gob. The length and
// type of a message, and the length of the list that it begins with, are checked before
// gob sees it. The lists of a Request and a Response marshal themselves (see Ops), so most of
// a message is one string of bytes to gob.
//
// Both ends count the requests of a connection, and each answer carries the number of its
// request. So a surplus answer is never taken for the answer to the next request.
//
// The memory of a server's connections is bounded by
//
//	max_connections × (MaxFrame + MaxUnsent + MaxFrame + 4 KiB) + decoded
//
// A receive buffer holds at most one frame, and grows with the bytes received, never
// with the bytes announced. Answers collect up to MaxUnsent plus one frame. The last term,
// decoded, is what Next reports for all requests that are being decoded, applied and encoded
// at the same time: at most 272 KiB each (twice MaxFrame, and 144 bytes for each of
// MaxOps operations). Package node keeps the large ones within a budget; the small ones
// are the 4 KiB. The garbage collector lets the heap grow to at most twice that bound:
// 125 MiB with 300 connections at their worst (bench's TestMemoryUnderAttack measures
// it), and 4 GiB with the shipped max_connections of 10 000. In addition, an encoder
// keeps the bytes of one message and of its list, and the control port has up to 256
// connections.
package wire

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"lockstep/common/text"
)

// The limits of a request. A client refuses to send a request that exceeds one; a
// server answers it with Invalid and ends the connection.
const (
	MaxKey   = 250      // bytes in a key; at least 1
	MaxValue = 16 << 10 // bytes in a value; may be empty
	MaxOps   = 1024     // operations in a request; at least 1
)

// An OpKind says what an operation does. The zero OpKind is invalid, so that a field that
// was never set is noticed.
type OpKind uint8

const (
	Get            OpKind = iota + 1 // the value, if there is one
	Put                              // store Value
	Delete                           // remove the key, if it is there
	CompareAndSwap                   // store Value if the stored value is Old, or with Absent, if there is none
)

func (k OpKind) String() string {
	return nameOf(uint8(k), "OpKind", "invalid", "get", "put", "delete", "cas")
}

// nameOf returns the n-th of the names of a type's values.
func nameOf(n uint8, typ string, names ...string) string {
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("%s(%d)", typ, n)
}

// Writes reports whether an operation of this kind can change what is stored.
func (k OpKind) Writes() bool { return k != Get }

// Writes reports whether one of the operations can change what is stored.
func Writes(ops []Op) bool {
	return slices.ContainsFunc(ops, func(op Op) bool { return op.Kind.Writes() })
}

// An Op is one operation on one key. In a Request, a CompareAndSwap expects what was stored
// before the whole request, even if an earlier Op of it changes the same key.
type Op struct {
	Kind   OpKind
	Key    string // 1 to MaxKey bytes
	Value  []byte // Put, CompareAndSwap: the new value, at most MaxValue bytes
	Old    []byte // CompareAndSwap: the value expected
	Absent bool   // CompareAndSwap: expect no value (put-if-absent)
}

// Text returns the operation in words, as in `put color "blue"`, with at most limit bytes of its
// key and of each of its values.
func (op *Op) Text(limit int) string {
	quote := func(value []byte) string { return text.Quote(strconv.QuoteToASCII(string(value)), limit) }
	words := op.Kind.String() + " " + text.Quote(op.Key, limit)
	switch {
	case op.Kind == Put:
		words += " " + quote(op.Value)
	case op.Kind == CompareAndSwap && op.Absent:
		words += " none to " + quote(op.Value)
	case op.Kind == CompareAndSwap:
		words += " " + quote(op.Old) + " to " + quote(op.Value)
	}
	return words
}

// A Status says what became of an operation. The zero Status is invalid.
type Status uint8

const (
	Found    Status = iota + 1 // Get: Value holds the value
	Missing                    // Get, Delete: no such key
	Created                    // Put: the key is new
	Replaced                   // Put: the key had a value
	Deleted                    // Delete: the key is gone
	Swapped                    // CompareAndSwap: done
	Mismatch                   // CompareAndSwap: the value was a different one; the request changed nothing
	Aborted                    // another operation of the request answered Mismatch
	TooLarge                   // Get: there is a value, but it does not fit the answer's frame
	Unknown                    // set by the client: sent, and never answered
	NotRun                     // set by the client: certainly not applied
)

func (s Status) String() string {
	return nameOf(uint8(s), "Status", "invalid", "found", "missing", "created", "replaced", "deleted",
		"swapped", "mismatch", "aborted", "too large", "unknown", "not run")
}

// A Result is the answer to one Op.
type Result struct {
	Status Status
	Value  []byte // Found: the value. A stored value is never changed in place.
}

// A Request is a list of 1 to MaxOps operations that its node executes as one atomic
// step: every CompareAndSwap is checked against the state before the request, and unless
// one fails, the operations then run in order. So two CompareAndSwaps of one key with the
// same expected value both answer Swapped, and the second one's value stays.
type Request struct {
	Ops Ops
}

// A Code says what became of a request as a whole. The zero Code is invalid.
type Code uint8

const (
	OK        Code = iota + 1 // applied; there is a Result for each Op
	Busy                      // not applied: the server has too much to do
	WrongNode                 // not applied: a key belongs to another node
	Invalid                   // not applied: the request breaks a rule; the connection ends
	Failed                    // the server failed inside the request; it is not known what was applied
	Goodbye                   // answers no request: the server is stopping, and has applied no unanswered request
)

func (c Code) String() string {
	return nameOf(uint8(c), "Code", "no code", "ok", "busy", "wrong node", "invalid request", "server failed", "goodbye")
}

// A Response answers one Request, or is a Goodbye.
type Response struct {
	Results Results // OK: one for each Op, in order
	Code    Code
	Number  uint64 // of the request on its connection, from 1; a Goodbye has 0
}

// A ControlKind says what a control port is asked. The zero ControlKind is invalid.
type ControlKind uint8

const (
	Barrier ControlKind = iota + 1 // how far is the process in a round of the barrier?
	Stats                          // what are its statistics?
	Lanes                          // what are its connections doing?
)

// A Control is a message on a control port. Question and answer have the same fields;
// package barrier says what they mean.
type Control struct {
	Seen        []uint64 // the incarnations that From has seen ready, by number; 0: none yet
	Kind        ControlKind
	Group       string // "nodes" or "clients"
	Round       int    // from 1
	From, To    int    // process numbers in the group
	Incarnation uint64 // of From: random, a new one for each start of a process, never 0
	Fingerprint string // version, stage and nodes as text, so that a mismatch can say what differs
	Ready       bool   // From has arrived at Round
	Passed      bool   // From has left Round
	Payload     []byte // what From brought to Round; Stats, Lanes: the answer
}

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
// Invalid and ends the connection. The list's memory is reused; the Keys and Values of
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
	if err != nil { // it is too large
		r.shrink()
		out, _ = codecs.response.appendFrame(c.out, r)
	}
	c.out = out
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

// ReadResponse waits for the next answer, and reports whether one came. An answer to any
// request but the oldest unanswered one ends the connection.
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

// fail ends the connection because of a message, not because of the network.
func (c *Conn) fail(doing string, err error) {
	c.err = cmp.Or(c.err, fmt.Errorf("%s: %w: %w", doing, ErrMalformed, err))
}
