package wire

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
)

var errList = errors.New("a malformed list")

// The lists of a Request and a Response marshal themselves, as time.Time does: they have the
// methods of encoding.BinaryMarshaler and BinaryUnmarshaler, so gob carries each as one
// string of bytes. Without these methods it would handle every field of every element by
// reflection (BenchmarkList shows both).
//
// A list is the number of its elements, then one element after the other. Numbers are those
// of encoding/binary's Uvarint, and a string of bytes stands behind its length.

// Ops is the list of operations in a Request. An element is its Kind, in one byte, Key,
// Value, and Old behind twice its length, plus 1 if Absent.
type Ops []Op

// MarshalBinary returns the list as it travels. The error is always nil.
func (l Ops) MarshalBinary() ([]byte, error) {
	b := binary.AppendUvarint(make([]byte, 0, l.size()), uint64(len(l)))
	for i := range l {
		op := &l[i]
		b = appendString(append(b, byte(op.Kind)), op.Key)
		b = appendString(b, op.Value)
		old := uint64(2 * len(op.Old))
		if op.Absent {
			old++
		}
		b = append(binary.AppendUvarint(b, old), op.Old...)
	}
	return b, nil
}

// UnmarshalBinary sets the list, for which it uses the list's memory again. A Value and an
// Old have memory of their own, so a server can store a Value as it is. The Keys are parts of
// one string.
func (l *Ops) UnmarshalBinary(data []byte) error {
	p := parser{rest: data}
	n := p.count()
	ops := slices.Grow((*l)[:0], n)[:n]
	var keys strings.Builder
	keys.Grow(min(len(data), n*MaxKey)) // so that it is one string from the start
	for i := range ops {
		kind, begin := p.bytes(1), keys.Len()
		keys.Write(p.bytes(p.number()))
		value, old := p.bytes(p.number()), p.number()
		if p.err != nil {
			break
		}
		ops[i] = Op{OpKind(kind[0]), keys.String()[begin:], clone(value), clone(p.bytes(old / 2)), old%2 == 1}
	}
	*l = ops
	return p.end()
}

// size is the length of the list as it travels, which an empty one does not.
func (l Ops) size() int {
	if len(l) == 0 {
		return 0
	}
	n := uvarintSize(len(l))
	for i := range l {
		op := &l[i]
		n += 1 + stringSize(len(op.Key)) + stringSize(len(op.Value)) + uvarintSize(2*len(op.Old)) + len(op.Old)
	}
	return n
}

// Results is the list of results in a Response. An element is its Status, in one byte, and
// Value.
type Results []Result

// MarshalBinary returns the list as it travels. The error is always nil.
func (l Results) MarshalBinary() ([]byte, error) {
	b := binary.AppendUvarint(make([]byte, 0, l.size()), uint64(len(l)))
	for i := range l {
		b = appendString(append(b, byte(l[i].Status)), l[i].Value)
	}
	return b, nil
}

// UnmarshalBinary sets the list, for which it uses the list's memory again. The Values are
// parts of one slice, in which none can grow into the next.
func (l *Results) UnmarshalBinary(data []byte) error {
	p := parser{rest: slices.Clone(data)}
	n := p.count()
	results := slices.Grow((*l)[:0], n)[:n]
	for i := range results {
		status, value := p.bytes(1), p.bytes(p.number())
		if p.err != nil {
			break
		}
		results[i] = Result{Status: Status(status[0])}
		if len(value) > 0 {
			results[i].Value = slices.Clip(value)
		}
	}
	*l = results
	return p.end()
}

func (l Results) size() int {
	if len(l) == 0 {
		return 0
	}
	n := uvarintSize(len(l))
	for i := range l {
		n += 1 + stringSize(len(l[i].Value))
	}
	return n
}

// A parser takes a list apart. After an error it returns zeros.
type parser struct {
	rest []byte
	err  error
}

// count returns the number of elements, each of which takes more than a byte.
func (p *parser) count() int {
	n := p.number()
	if n > MaxOps {
		p.err = fmt.Errorf("more than %d operations", MaxOps)
	} else if n > len(p.rest) {
		p.err = errList
	}
	if p.err != nil {
		return 0
	}
	return n
}

func (p *parser) number() int {
	n, size := binary.Uvarint(p.rest)
	if size <= 0 || n > math.MaxInt32 {
		p.err = errList
		return 0
	}
	p.rest = p.rest[size:]
	return int(n)
}

func (p *parser) bytes(n int) []byte {
	if n > len(p.rest) {
		p.err = errList
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) end() error {
	if len(p.rest) > 0 {
		return cmp.Or(p.err, errList)
	}
	return p.err
}

func appendString[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func stringSize(n int) int { return uvarintSize(n) + n }

func uvarintSize(n int) int { return (bits.Len(uint(n)|1) + 6) / 7 }

// clone returns a copy of b, and nil if it is empty.
func clone(b []byte) []byte { return append([]byte(nil), b...) }
