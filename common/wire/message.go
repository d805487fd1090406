package wire

import (
	"fmt"
)

// The limits of what a request may hold. A server answers Invalid and ends the
// connection where one is passed; a client refuses to send it.
const (
	MaxKey   = 250      // bytes in a key; at least 1
	MaxValue = 16 << 10 // bytes in a value; may be empty
	MaxOps   = 1024     // operations in a request; at least 1
)

// An OpKind says what an operation does. The zero OpKind is invalid, so that a
// field that was never set is seen.
type OpKind uint8

const (
	Get            OpKind = iota + 1 // the value, if there is one
	Put                              // store Value, whatever was there
	Delete                           // remove the key, if it is there
	CompareAndSwap                   // store Value if the stored value is Old, or absent
)

func (k OpKind) String() string {
	names := [...]string{"invalid", "get", "put", "delete", "cas"}
	if int(k) >= len(names) {
		return fmt.Sprintf("OpKind(%d)", uint8(k))
	}
	return names[k]
}

// Writes reports whether an operation of this kind can change what is stored.
func (k OpKind) Writes() bool { return k != Get }

// An Op is one operation on one key.
type Op struct {
	Kind   OpKind
	Key    string // 1 to MaxKey bytes
	Value  []byte // Put, CompareAndSwap: the new value, at most MaxValue bytes
	Old    []byte // CompareAndSwap: the value expected
	Absent bool   // CompareAndSwap: expect no value (put-if-absent)
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
	TooLarge                   // Get: there is a value, and it no longer fits this answer's frame
	Unknown                    // set by the client: sent, and never answered
	NotRun                     // set by the client: certainly not applied
)

func (s Status) String() string {
	names := [...]string{"invalid", "found", "missing", "created", "replaced", "deleted",
		"swapped", "mismatch", "aborted", "too large", "unknown", "not run"}
	if int(s) >= len(names) {
		return fmt.Sprintf("Status(%d)", uint8(s))
	}
	return names[s]
}

// A Result is the answer to one Op.
type Result struct {
	Status Status
	Value  []byte // Found: the value. Never changed in place by whoever stored it.
}

// A Request is a list of 1 to MaxOps operations, which its node executes as one
// atomic step.
type Request struct {
	Ops []Op
}

// A Code says how a request as a whole was met. The zero Code is invalid.
type Code uint8

const (
	OK        Code = iota + 1 // applied; there is a Result for each Op
	Busy                      // not applied: the server has too much to do
	WrongNode                 // not applied: a key belongs to another node
	Invalid                   // not applied: the request breaks a rule; the connection ends
	Failed                    // the server failed inside the request; what was applied is not known
	Goodbye                   // answers no request: the server stops, what is unanswered was not applied
)

func (c Code) String() string {
	names := [...]string{"no code", "ok", "busy", "wrong node", "invalid request", "server failed", "goodbye"}
	if int(c) >= len(names) {
		return fmt.Sprintf("Code(%d)", uint8(c))
	}
	return names[c]
}

// A Response answers one Request, or is a Goodbye.
type Response struct {
	Results []Result // OK: one for each Op, in order
	Code    Code
}

// A ControlKind says what is asked on a control port. The zero kind is invalid.
type ControlKind uint8

const (
	Barrier ControlKind = iota + 1 // how far is the process in a round of the barrier?
	Stats                          // what has it counted?
)

// A Control is one message on a control port; question and answer have the same
// fields. Package barrier says what they mean.
type Control struct {
	Seen        []uint64 // the incarnations that From has seen ready, by number; 0: not yet
	Kind        ControlKind
	Group       string // "nodes" or "clients"
	Round       int    // from 1
	From, To    int    // process numbers in the group
	Incarnation uint64 // of From: random, one a process, never 0
	Fingerprint string // version, stage, nodes: readable, so that a mismatch can say what differs
	Ready       bool   // From has arrived at Round
	Passed      bool   // From has left Round
	Payload     []byte // what From brought to Round; Stats: the answer
}
