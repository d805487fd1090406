package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"sync"
)

// MaxFrame is the greatest length of a frame, its 4 bytes of length apart.
const MaxFrame = 64 << 10

const frameHeader = 4 // bytes: the length of what follows, big-endian

// ErrTooLarge is returned for a message that does not fit a frame.
var ErrTooLarge = fmt.Errorf("message is larger than a frame (%d bytes)", MaxFrame)

// codecs are the types that travel. Gob numbers types in the order in which a
// process first uses them, so they are used here first, in one order, before
// main begins: every process of one build gives them the same numbers.
var codecs = struct {
	request  *codec[Request]
	response *codec[Response]
	control  *codec[Control]
}{
	newCodec((*Request).size),
	newCodec((*Response).size),
	newCodec((*Control).size),
}

// digest of the descriptions of all types that travel. It stands in the
// greeting, so that two programs whose types differ part before the first frame.
var digest = func() uint64 {
	h := sha256.New()
	h.Write(codecs.request.prime)
	h.Write(codecs.response.prime)
	h.Write(codecs.control.prime)
	return binary.BigEndian.Uint64(h.Sum(nil))
}()

// A codec turns messages of type T into frames and back. Safe for concurrent use.
//
// A gob stream describes a type before its first value, and a decoder that has
// missed a description is lost. Here descriptions never travel: every encoder
// has already written them, to nowhere, and every decoder has already read them,
// from prime. So each frame stands alone, any primed encoder or decoder serves
// any connection, and the pools hold as many as are in use at once.
type codec[T any] struct {
	prime    []byte       // the descriptions, then a zero T: what a new decoder reads first
	head     []byte       // how the bytes of every T begin: its type number
	body     func(*T) int // the length of a T, without what is around it
	encoders sync.Pool
	decoders sync.Pool
}

type encoder struct {
	out []byte // what Write appends to
	gob *gob.Encoder
}

func (e *encoder) Write(p []byte) (int, error) {
	e.out = append(e.out, p...)
	return len(p), nil
}

// A decoder reads from a bytes.Reader, which is an io.ByteReader: gob would read
// ahead of the message from anything less.
type decoder struct {
	in  bytes.Reader
	gob *gob.Decoder
}

func newCodec[T any](body func(*T) int) *codec[T] {
	c := &codec[T]{body: body}
	e := c.newEncoder()
	c.prime = e.out
	e.out = nil
	if err := e.gob.Encode(new(T)); err != nil {
		panic(err) // T cannot be encoded: a mistake in this package
	}
	zero := e.out // one byte of length, the type number, one byte that ends the struct
	c.head = zero[1 : len(zero)-1]
	return c
}

func (c *codec[T]) newEncoder() *encoder {
	e := new(encoder)
	e.gob = gob.NewEncoder(e)
	if err := e.gob.Encode(new(T)); err != nil {
		panic(err)
	}
	return e
}

func (c *codec[T]) newDecoder() *decoder {
	d := new(decoder)
	d.in.Reset(c.prime)
	d.gob = gob.NewDecoder(&d.in)
	if err := d.gob.Decode(new(T)); err != nil {
		panic(err)
	}
	return d
}

// appendFrame appends m, as one frame, to dst. On an error dst is unchanged.
func (c *codec[T]) appendFrame(dst []byte, m *T) ([]byte, error) {
	e, ok := c.encoders.Get().(*encoder)
	if !ok {
		e = c.newEncoder()
	}
	e.out = append(dst, 0, 0, 0, 0)
	err := e.gob.Encode(m)
	out := e.out
	e.out = nil // the bytes belong to the caller
	n := len(out) - len(dst) - frameHeader
	if err == nil && n > MaxFrame {
		err = ErrTooLarge
	}
	if err != nil {
		return dst, err // the encoder is not kept: what it has written is not known
	}
	c.encoders.Put(e)
	binary.BigEndian.PutUint32(out[len(dst):], uint32(n))
	return out, nil
}

// decode reads the one message in frame into m, which it clears first: gob
// leaves out fields that are zero, and would fill in a slice that is there.
// What m holds afterwards shares no memory with frame or with any other message.
func (c *codec[T]) decode(frame []byte, m *T) (err error) {
	if _, err := c.check(frame); err != nil {
		return err
	}
	d, ok := c.decoders.Get().(*decoder)
	if !ok {
		d = c.newDecoder()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("gob: %v", p) // golang.org/issue/55337: hostile bytes can make Decode panic
		}
		if err == nil {
			c.decoders.Put(d)
		}
	}()
	*m = *new(T)
	d.in.Reset(frame)
	if err := d.gob.Decode(m); err != nil {
		return err
	}
	if n := c.size(c.body(m)); n != len(frame) {
		return fmt.Errorf("%d bytes left over", len(frame)-n)
	}
	return nil
}

var errShape = errors.New("not a message of the expected kind")

// check looks at the beginning of a message without decoding it: one message
// that fills the frame, a value of type T, and a list no longer than MaxOps, whose
// length it returns.
func (c *codec[T]) check(frame []byte) (list int, err error) {
	n, rest, ok := gobUint(frame)
	if !ok || n != uint64(len(rest)) || !bytes.HasPrefix(rest, c.head) {
		return 0, errShape
	}
	rest = rest[len(c.head):]
	if len(rest) == 0 || rest[0] > 127 {
		return 0, errShape // a field number written longer than it need be would hide the list
	}
	if rest[0] != 1 {
		return 0, nil // the list is empty: gob leaves it out
	}
	if n, _, ok = gobUint(rest[1:]); !ok || n > MaxOps {
		return 0, fmt.Errorf("more than %d operations", MaxOps)
	}
	return int(n), nil
}

// gobUint reads an unsigned integer as gob writes it: one byte below 128, or the
// negated count of the big-endian bytes that follow.
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
