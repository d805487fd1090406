package wire

import "math/bits"

// These functions compute the exact length of a message as gob writes it. Gob ignores
// bytes after the value in a message. A message of any other length has such bytes, or a
// number longer than necessary, and is refused.

// size is the length of a message whose struct takes n bytes.
func (c *codec[T]) size(n int) int {
	n += len(c.head)
	return uintSize(uint64(n)) + n
}

func (r *Request) size() int { return bytesField(r.Ops.size()) + 1 } // the end of a struct

func (r *Response) size() int {
	return bytesField(r.Results.size()) + uintField(uint64(r.Code)) + uintField(r.Number) + 1
}

func (m *Control) size() int {
	n := uintField(uint64(m.Kind)) + bytesField(len(m.Group)) + intField(m.Round) + intField(m.From) + intField(m.To) +
		uintField(m.Incarnation) + bytesField(len(m.Fingerprint)) + boolField(m.Ready) + boolField(m.Passed) +
		bytesField(len(m.Payload)) + uintField(uint64(len(m.Seen))) + 1
	for _, incarnation := range m.Seen {
		n += uintSize(incarnation)
	}
	return n
}

// A field is one byte, its distance from the last field sent, and its value. Zero values
// are left out.

func uintField(n uint64) int {
	if n == 0 {
		return 0
	}
	return 1 + uintSize(n)
}

// An int is sent shifted left by one; if it is negative, its complement is, with the lowest
// bit set.
func intField(n int) int { return uintField(uint64(int64(n)<<1 ^ int64(n)>>63)) }

func boolField(b bool) int {
	if !b {
		return 0
	}
	return 2
}

func bytesField(n int) int { return uintField(uint64(n)) + n }

// uintSize is the length of an unsigned integer: one byte if it is below 128, and
// otherwise a byte that counts the bytes that follow.
func uintSize(n uint64) int {
	if n < 128 {
		return 1
	}
	return 1 + (bits.Len64(n)+7)/8
}
