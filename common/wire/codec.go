package wire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc64"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// MaxFrame is the maximum length of a frame, not counting the 4-byte length prefix.
const MaxFrame = 64 << 10

const frameHeader = 4 // bytes: the length of what follows, big-endian

// ErrTooLarge is returned for a message that does not fit into a frame.
var ErrTooLarge = fmt.Errorf("message is larger than a frame (%d bytes)", MaxFrame)

// The types that travel. Gob numbers types in the order in which a process
// first uses them. They are first used here, before main begins, so every process of one
// build gives them the same numbers.
var codecs = struct {
	request  *codec[Request]
	response *codec[Response]
	control  *codec[Control]
}{
	newCodec("a request", func(r *Request) { r.Ops = r.Ops[:0] }, func(*Request) int { return 1 }), // the end of a struct
	newCodec("an answer", func(r *Response) { *r = Response{Results: r.Results[:0]} },
		func(r *Response) int { return uintField(uint64(r.Code)) + uintField(r.Number) + 1 }),
	newCodec("a control message", func(m *Control) { *m = Control{} }, nil),
}

// digest is a hash of the descriptions of all types that travel. It is part of the
// greeting, so two programs whose types differ part before the first frame.
var digest = crc64.Checksum(slices.Concat(codecs.request.prime, codecs.response.prime, codecs.control.prime), crc64.MakeTable(crc64.ECMA))

// A codec turns messages of type T into frames and back. Safe for concurrent use.
//
// A gob stream describes a type before its first value, and a decoder that has missed a
// description cannot go on. Here descriptions never travel: each encoder has already
// written them, to nowhere, and each decoder has already read them, from prime. So each
// frame stands alone, any primed encoder or decoder serves any connection, and the pools
// hold as many as are in use at the same time.
type codec[T any] struct {
	name     string       // of a T, in errors
	prime    []byte       // the descriptions and a zero T: what a new decoder reads first
	head     []byte       // what each message of type T begins with: its type number
	reset    func(*T)     // makes a T zero, except that its list's memory is kept
	tail     func(*T) int // how many bytes of a T follow its list; nil: ask gob
	encoders sync.Pool
	decoders sync.Pool
}

type encoder struct {
	out bytes.Buffer // what gob writes to
	gob *gob.Encoder
}

// A decoder reads from a bytes.Reader, because that is an io.ByteReader: gob reads ahead
// of the message from any other reader.
type decoder struct {
	in  bytes.Reader
	gob *gob.Decoder
}

func newCodec[T any](name string, reset func(*T), tail func(*T) int) *codec[T] {
	c := &codec[T]{name: name, reset: reset, tail: tail}
	c.encoders.New = func() any {
		e := new(encoder)
		e.gob = gob.NewEncoder(&e.out)
		e.gob.Encode(new(T)) // any T of this package can be encoded, and decoded
		return e
	}
	c.prime = c.encoders.New().(*encoder).out.Bytes()
	c.decoders.New = func() any {
		d := new(decoder)
		d.in.Reset(c.prime)
		d.gob = gob.NewDecoder(&d.in)
		d.gob.Decode(new(T))
		return d
	}
	zero, _ := c.appendFrame(nil, new(T)) // length, type number, one byte that ends the struct
	c.head = zero[frameHeader+1 : len(zero)-1]
	return c
}

// appendFrame appends m, as one frame, to dst. On an error dst is unchanged.
func (c *codec[T]) appendFrame(dst []byte, m *T) ([]byte, error) {
	e := c.encoders.Get().(*encoder)
	e.out = *bytes.NewBuffer(append(dst, 0, 0, 0, 0))
	err := e.gob.Encode(m)
	out := e.out.Bytes()
	e.out = bytes.Buffer{} // the bytes belong to the caller
	n := len(out) - len(dst) - frameHeader
	if err == nil && n > MaxFrame {
		err = ErrTooLarge
	}
	if err != nil {
		return dst, err // the encoder is not kept: it may have written half of a message
	}
	c.encoders.Put(e)
	byteOrder.PutUint32(out[len(dst):], uint32(n))
	return out, nil
}

// decode reads the one message in frame into m, which it resets first: gob does not send
// zero fields. Afterwards m shares no memory with frame; its list's memory is reused.
func (c *codec[T]) decode(frame []byte, m *T) (err error) {
	_, tail, err := c.split(frame)
	if err != nil {
		return err
	}
	d := c.decoders.Get().(*decoder)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("gob: %v", p) // hostile bytes can make Decode panic: golang.org/issue/55337
		}
		if err == nil {
			c.decoders.Put(d)
		}
	}()
	c.reset(m)
	d.in.Reset(frame)
	if err := d.gob.Decode(m); err != nil {
		return err
	}
	return c.exact(frame, tail, m)
}

// exact returns an error if tail, the part of the frame after the list, is longer than gob makes
// it of m; or if the whole frame is, where the list does not marshal itself. Gob ignores bytes
// after the value in a message, and accepts numbers that are longer than necessary.
func (c *codec[T]) exact(frame, tail []byte, m *T) error {
	left := 0
	if c.tail != nil {
		left = len(tail) - c.tail(m)
	} else if again, err := c.appendFrame(nil, m); err == nil {
		left = len(frame) - (len(again) - frameHeader)
	}
	if left != 0 {
		return fmt.Errorf("%d bytes left over", left)
	}
	return nil
}

// split looks at a message without decoding it. There must be one message that fills the
// frame, a value of type T. Split returns its list, as the list marshals itself, and what
// follows. (The list of a Control does not marshal itself: it is part of what follows.)
func (c *codec[T]) split(frame []byte) (list, tail []byte, err error) {
	n, rest, ok := gobUint(frame)
	fields, typed := bytes.CutPrefix(rest, c.head)
	if !ok || n != uint64(len(rest)) || !typed || len(fields) == 0 || fields[0] > 127 {
		return nil, nil, errors.New("not a message of the expected kind") // a field number longer than necessary would hide the list
	}
	if fields[0] != 1 {
		return nil, fields, nil // the list is empty: gob leaves it out
	}
	if n, rest, ok = gobUint(fields[1:]); !ok || n > uint64(len(rest)) { // bytes, or numbers of a byte and more
		return nil, nil, errors.New("a list that is longer than its message")
	}
	return rest[:n], rest[n:], nil
}

// gobUint reads an unsigned integer as gob writes it: one byte if it is below 128, and
// otherwise the negated count of the big-endian bytes that follow.
func gobUint(b []byte) (n uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	if b[0] < 128 {
		return uint64(b[0]), b[1:], true
	}
	size := -int(int8(b[0]))
	if size > 8 || len(b) < 1+size {
		return 0, nil, false
	}
	for _, x := range b[1 : 1+size] {
		n = n<<8 | uint64(x)
	}
	return n, b[1+size:], true
}

// uintField is the length of a field that is an unsigned integer: one byte, its distance from
// the field before, and the integer. Zero is left out.
func uintField(n uint64) int {
	switch {
	case n == 0:
		return 0
	case n < 128:
		return 2
	}
	return 2 + (bits.Len64(n)+7)/8
}

// The lists of a Request and a Response marshal themselves, as time.Time does: they have the
// methods of encoding.BinaryMarshaler and BinaryUnmarshaler, so gob carries each as one
// string of bytes. Without these methods it would handle every field of every element by
// reflection (BenchmarkCodec shows both).
//
// A list is the number of its elements, then one element after the other. A string follows
// its length. Numbers are those of encoding/binary's Uvarint, as short as possible.

// Ops is the list of operations in a Request. An element is Kind and Absent, in one byte,
// then Key, Value and Old.
type Ops []Op

const absent = 1 << 7 // added to a Kind

var errList = errors.New("a malformed list")

// MarshalBinary returns the list as it travels. The error is always nil.
func (l Ops) MarshalBinary() ([]byte, error) {
	b := binary.AppendUvarint(make([]byte, 0, l.room()), uint64(len(l)))
	for i := range l {
		op := &l[i]
		head := byte(op.Kind) // below absent, as check has found
		if op.Absent {
			head |= absent
		}
		b = appendString(append(b, head), op.Key)
		b = appendString(b, op.Value)
		b = appendString(b, op.Old)
	}
	return b, nil
}

// UnmarshalBinary sets the list, whose memory it reuses. A Value and an Old have memory of
// their own, so a server can store a Value as it is. The Keys are parts of one string.
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

// UnmarshalBinary sets the list, whose memory it reuses. The Values are parts of one
// slice, in which none can grow into the next.
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
