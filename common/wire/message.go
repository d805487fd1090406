package wire

import (
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
// before the whole request, also if an earlier Op of it changes the same key.
type Op struct {
	Kind   OpKind
	Key    string // 1 to MaxKey bytes
	Value  []byte // Put, CompareAndSwap: the new value, at most MaxValue bytes
	Old    []byte // CompareAndSwap: the value expected
	Absent bool   // CompareAndSwap: expect no value (put-if-absent)
}

// Text returns the operation in words, as in `put color "blue"`, with so many bytes at most of
// its key and of each of its values.
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
	Mismatch                   // CompareAndSwap: the value was another; the request changed nothing
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
