package wire

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The lists of a Request and a Response marshal themselves, as time.Time does: they have the
// methods of encoding.BinaryMarshaler and BinaryUnmarshaler, so gob carries each as one
// string of bytes. Without these methods it would handle every field of every element by
// reflection (BenchmarkCodec shows both).
//
// A list is the number of its elements, then one element after the other. A string stands
// behind its length. Numbers are those of encoding/binary's Uvarint, as short as possible.

// Ops is the list of operations in a Request. An element is Kind and Absent, in one byte,
// then Key, Value and Old.
type Ops []Op

const absent = 1 << 7 // added to a Kind

var errList = errors.New("a malformed list")

// MarshalBinary returns the list as it travels. The error is nil unless a Kind is far from
// those that there are.
func (l Ops) MarshalBinary() ([]byte, error) {
	b := binary.AppendUvarint(make([]byte, 0, l.room()), uint64(len(l)))
	for i := range l {
		op := &l[i]
		head := byte(op.Kind)
		if head >= absent {
			return nil, fmt.Errorf("operation kind %d is unknown", head)
		}
		if op.Absent {
			head |= absent
		}
		b = appendString(append(b, head), op.Key)
		b = appendString(b, op.Value)
		b = appendString(b, op.Old)
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
		head, begin := p.byte(), keys.Len()
		keys.Write(p.string())
		key, value, old := keys.String()[begin:], p.string(), p.string()
		ops[i] = Op{OpKind(head &^ absent), key, append([]byte(nil), value...), append([]byte(nil), old...), head >= absent}
	}
	*l = ops
	return p.end()
}

// room is at least the length of the list as it travels.
func (l Ops) room() int {
	n := binary.MaxVarintLen16
	for i := range l {
		n += 1 + len(l[i].Key) + len(l[i].Value) + len(l[i].Old) + 3*binary.MaxVarintLen16
	}
	return n
}

// Results is the list of results in a Response. An element is Status, in one byte, and Value.
type Results []Result

// MarshalBinary returns the list as it travels. The error is always nil.
func (l Results) MarshalBinary() ([]byte, error) {
	b := binary.AppendUvarint(make([]byte, 0, l.room()), uint64(len(l)))
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
		results[i] = Result{Status(p.byte()), p.string()}
	}
	*l = results
	return p.end()
}

func (l Results) room() int {
	n := binary.MaxVarintLen16
	for i := range l {
		n += 1 + len(l[i].Value) + binary.MaxVarintLen16
	}
	return n
}

func appendString[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A parser takes a list apart. After an error it returns zeros.
type parser struct {
	rest []byte
	err  error
}

// count returns the number of elements, each of which takes more than a byte.
func (p *parser) count() int {
	n, size := binary.Uvarint(p.rest)
	switch {
	case n > MaxOps:
		p.err = fmt.Errorf("more than %d operations", MaxOps)
	case size <= 0 || size > 1 && p.rest[size-1] == 0 || int(n) >= len(p.rest):
		p.err = errList
	default:
		p.rest = p.rest[size:]
		return int(n)
	}
	return 0
}

func (p *parser) byte() (b byte) {
	if p.err == nil && len(p.rest) > 0 {
		b, p.rest = p.rest[0], p.rest[1:]
		return b
	}
	p.err = cmp.Or(p.err, errList)
	return 0
}

// string returns the next string, or nil if it is empty. A last byte of zero would make a
// length longer than necessary.
func (p *parser) string() []byte {
	n, size := binary.Uvarint(p.rest)
	if p.err != nil || size <= 0 || size > 1 && p.rest[size-1] == 0 || n > uint64(len(p.rest)-size) {
		p.err = cmp.Or(p.err, errList)
		return nil
	}
	end := size + int(n)
	s := p.rest[size:end:end]
	p.rest = p.rest[end:]
	if n == 0 {
		return nil
	}
	return s
}

func (p *parser) end() error {
	if len(p.rest) > 0 {
		return cmp.Or(p.err, errList)
	}
	return p.err
}
