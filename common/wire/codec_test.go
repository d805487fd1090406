package wire

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func sampleRequest() *Request {
	return &Request{Ops: []Op{
		{Kind: Put, Key: "color", Value: []byte("blue")},
		{Kind: Get, Key: "color"},
		{Kind: Delete, Key: "shape"},
		{Kind: CompareAndSwap, Key: "size", Value: []byte("9"), Old: []byte("8")},
		{Kind: CompareAndSwap, Key: "lock", Value: []byte("me"), Absent: true},
	}}
}

// body returns the frame that c makes of m, without its length.
func body[T any](t testing.TB, c *codec[T], m *T) []byte {
	t.Helper()
	frame, err := c.appendFrame(nil, m)
	if err != nil {
		t.Fatalf("appendFrame(%+v): %v", m, err)
	}
	if got, want := byteOrder.Uint32(frame), uint32(len(frame)-frameHeader); got != want {
		t.Fatalf("the frame says it is %d bytes long, want %d", got, want)
	}
	return frame[frameHeader:]
}

func TestDecodeClearsAndSharesNothing(t *testing.T) {
	var m Request
	decode := func(op Op) (frame []byte) {
		frame = body(t, codecs.request, &Request{Ops: []Op{op}})
		if err := codecs.request.decode(frame, &m); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m.Ops[0], op) {
			t.Errorf("decoded into a used Request: %+v, want %+v", m.Ops[0], op)
		}
		return frame
	}
	first := decode(Op{Kind: Put, Key: "a", Value: []byte("first"), Old: []byte("x"), Absent: true})
	stored := m.Ops[0].Value
	decode(Op{Kind: Get, Key: "b"})
	decode(Op{Kind: Put, Key: "b", Value: []byte("other")})
	clear(first)
	if string(stored) != "first" {
		t.Errorf("a value decoded before is now %q, want %q", stored, "first")
	}
	if err := codecs.request.decode(body(t, codecs.request, new(Request)), &m); err != nil || len(m.Ops) > 0 { // gob leaves the list out
		t.Errorf("decoded into a used Request: %+v, %v, want no operation", m, err)
	}
}

// many returns a request of n operations in as few bytes as possible.
func many(n int) *Request {
	return &Request{Ops: slices.Repeat([]Op{{Kind: Get, Key: "k"}}, n)}
}

// reframe gives a message an inner length that fits it.
func reframe(message []byte) []byte {
	_, rest, _ := gobUint(message)
	if bytes.HasPrefix(message, codecs.request.head) {
		rest = message
	}
	return append([]byte{0xfe, byte(len(rest) >> 8), byte(len(rest))}, rest...)
}

// No byte is left over in what gob writes, for any length of any field.
func TestExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func() []byte { return bytes.Repeat([]byte("x"), rng.IntN(300)*rng.IntN(2)) }
	number := func() uint64 { return rng.Uint64() >> rng.IntN(65) }
	flip := func() bool { return rng.IntN(2) == 0 }
	for range 500 {
		req, res := new(Request), &Response{Code: Code(rng.IntN(8))}
		for range rng.IntN(200) {
			req.Ops = append(req.Ops, Op{OpKind(rng.IntN(5)), string(text()), text(), text(), flip()})
			res.Results = append(res.Results, Result{Status(rng.IntN(12)), text()})
		}
		ctl := &Control{nil, ControlKind(rng.IntN(3)), string(text()), int(number()), int(number()), -int(number() >> 1),
			number(), string(text()), flip(), flip(), text()}
		for range rng.IntN(5) {
			ctl.Seen = append(ctl.Seen, number())
		}
		checkExact(t, codecs.request, req)
		checkExact(t, codecs.response, res)
		checkExact(t, codecs.control, ctl)
	}
}

func checkExact[T any](t *testing.T, c *codec[T], m *T) {
	t.Helper()
	frame, err := c.appendFrame(nil, m)
	if err != nil {
		return // too large
	}
	frame = frame[frameHeader:]
	_, tail, err := c.split(frame)
	if err := errors.Join(err, c.exact(frame, tail, m)); err != nil {
		t.Fatalf("%v in what gob writes: %+v", err, m)
	}
}

func TestFrameLimit(t *testing.T) {
	big := make([]byte, MaxFrame)
	before := []byte("before")
	out, err := codecs.control.appendFrame(before, &Control{Payload: big})
	if err != ErrTooLarge || string(out) != "before" {
		t.Errorf("a payload of %d bytes: %q, error %v, want the unchanged prefix and ErrTooLarge", len(big), out, err)
	}
	if _, err := codecs.control.appendFrame(nil, &Control{Payload: big[:MaxFrame-64]}); err != nil {
		t.Errorf("a payload of %d bytes: %v", MaxFrame-64, err)
	}
}

// The cost of a request, there and back: with a codec that is created for each, with one that
// is kept, and with one that is kept and a list that marshals itself.
//
//	go test ./common/wire -bench Codec
func BenchmarkCodec(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		ops := slices.Repeat([]Op{{Kind: Put, Key: "key-000017", Value: make([]byte, 30)}, {Kind: Get, Key: "key-000018"}}, n)[:n]
		b.Run(fmt.Sprintf("codec=fresh/list=reflected/ops=%d", n), func(b *testing.B) { benchmarkGob(b, true, &struct{ Ops []Op }{ops}) })
		b.Run(fmt.Sprintf("codec=kept/list=reflected/ops=%d", n), func(b *testing.B) { benchmarkGob(b, false, &struct{ Ops []Op }{ops}) })
		b.Run(fmt.Sprintf("codec=kept/list=marshaled/ops=%d", n), func(b *testing.B) { benchmarkGob(b, false, &Request{ops}) })
	}
}

func benchmarkGob[T any](b *testing.B, fresh bool, m *T) {
	var stream bytes.Buffer
	enc, dec := gob.NewEncoder(&stream), gob.NewDecoder(&stream)
	b.ReportAllocs()
	for b.Loop() {
		if fresh {
			enc, dec = gob.NewEncoder(&stream), gob.NewDecoder(&stream)
		}
		if err := errors.Join(enc.Encode(m), dec.Decode(new(T))); err != nil {
			b.Fatal(err)
		}
	}
}
