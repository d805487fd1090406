package wire

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
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

func TestCodecRoundTrip(t *testing.T) {
	want := sampleRequest()
	for range 3 { // a reused codec is as good as a new one
		var got Request
		if err := codecs.request.decode(body(t, codecs.request, want), &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, *want) {
			t.Errorf("decoded %+v, want %+v", got, *want)
		}
	}
}

// A frame is one value: with its description it would be twice as long.
func TestDescriptionsNeverTravel(t *testing.T) {
	m := &Request{Ops: []Op{{Kind: Get, Key: "k"}}}
	var plain bytes.Buffer
	gob.NewEncoder(&plain).Encode(m)
	for i := range 3 {
		if got := len(body(t, codecs.request, m)); got > 16 || plain.Len() < 3*got {
			t.Errorf("frame %d of a small Get is %d bytes, of which a plain gob stream takes %d", i, got, plain.Len())
		}
	}
}

func TestDecodeClearsAndSharesNothing(t *testing.T) {
	var m Request
	first := body(t, codecs.request, &Request{Ops: []Op{{Kind: Put, Key: "a", Value: []byte("first"), Old: []byte("x"), Absent: true}}})
	if err := codecs.request.decode(first, &m); err != nil {
		t.Fatal(err)
	}
	stored := m.Ops[0].Value
	if err := codecs.request.decode(body(t, codecs.request, &Request{Ops: []Op{{Kind: Get, Key: "b"}}}), &m); err != nil {
		t.Fatal(err)
	}
	if want := (Op{Kind: Get, Key: "b"}); !reflect.DeepEqual(m.Ops[0], want) {
		t.Errorf("decoded into a used Request: %+v, want %+v", m.Ops[0], want)
	}
	if err := codecs.request.decode(body(t, codecs.request, &Request{Ops: []Op{{Kind: Put, Key: "b", Value: []byte("other")}}}), &m); err != nil {
		t.Fatal(err)
	}
	clear(first)
	if string(stored) != "first" {
		t.Errorf("a value decoded before is now %q, want %q", stored, "first")
	}
}

// many is a list of n operations in as few bytes as possible.
func many(n int) *Request {
	ops := make([]Op, n)
	for i := range ops {
		ops[i] = Op{Kind: Get, Key: "k"}
	}
	return &Request{Ops: ops}
}

func TestDecodeRefuses(t *testing.T) {
	good := body(t, codecs.request, sampleRequest())
	var described bytes.Buffer
	gob.NewEncoder(&described).Encode(sampleRequest())
	for _, test := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"nothing", nil, "expected kind"},
		{"another type", body(t, codecs.response, &Response{Code: OK}), "expected kind"},
		{"descriptions first", described.Bytes(), "expected kind"},
		{"a byte more", append(bytes.Clone(good), 0), "expected kind"},
		{"a byte less", good[:len(good)-1], "expected kind"},
		{"inner length of 8 bytes", append([]byte{0xf8, 255, 255, 255, 255, 255, 255, 255, 255}, good...), "expected kind"},
		{"inner length of 9 bytes", append([]byte{0xf7, 1, 2, 3, 4, 5, 6, 7, 8, 9}, good...), "expected kind"},
		{"too many operations", body(t, codecs.request, many(MaxOps+1)), "1024 operations"},
		{"a count behind a field number in two bytes", []byte{0x0b, 0xff, 0x80, 0xff, 1, 0xfc, 5, 0xf5, 0xe1, 0, 0, 0}, "expected kind"},
		{"cut inside", reframe(good[:len(good)/2]), ""},
		{"zeroes", reframe(append(bytes.Clone(codecs.request.head), make([]byte, 1000)...)), "bytes left over"},
		{"a number longer than needed", reframe(append(bytes.Clone(codecs.request.head), 1, 0xff, 1, 1, 1, 2, 1, 'k', 0, 0)), "bytes left over"},
	} {
		var m Request
		err := codecs.request.decode(test.frame, &m)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
	var m Request
	if err := codecs.request.decode(body(t, codecs.request, many(MaxOps)), &m); err != nil || len(m.Ops) != MaxOps {
		t.Errorf("%d operations: %v, decoded %d", MaxOps, err, len(m.Ops))
	}
}

// What a frame of a few bytes claims to hold costs nothing, in any message.
func TestClaimsCostNothing(t *testing.T) {
	const claim = "\xfc\x05\xf5\xe1\x00\x00\x00" // a hundred million, and the end
	refused := func(name string, decode func([]byte) error, head []byte) {
		for _, field := range []string{"\x01", "\xff\x01"} { // the first field's number, and written longer than it need be
			frame := append(bytes.Clone(head), field+claim...)
			frame = append([]byte{byte(len(frame))}, frame...)
			const times = 100
			var before, after runtime.MemStats
			var err error
			runtime.ReadMemStats(&before)
			for range times {
				err = decode(frame)
			}
			runtime.ReadMemStats(&after)
			if spent := (after.TotalAlloc - before.TotalAlloc) / times; err == nil || spent > 4<<10 {
				t.Errorf("a %s of %d bytes: %d bytes allocated, error %v, want an error and next to nothing", name, len(frame), spent, err)
			}
		}
	}
	refused("request", func(f []byte) error { return codecs.request.decode(f, new(Request)) }, codecs.request.head)
	refused("response", func(f []byte) error { return codecs.response.decode(f, new(Response)) }, codecs.response.head)
	refused("control message", func(f []byte) error { return codecs.control.decode(f, new(Control)) }, codecs.control.head)
}

// reframe gives a cut message an inner length that agrees with it.
func reframe(message []byte) []byte {
	_, rest, _ := gobUint(message)
	if bytes.HasPrefix(message, codecs.request.head) {
		rest = message
	}
	return append([]byte{0xfe, byte(len(rest) >> 8), byte(len(rest))}, rest...)
}

func TestGobUint(t *testing.T) {
	for _, test := range []struct {
		in   []byte
		want uint64
		ok   bool
	}{
		{[]byte{0}, 0, true},
		{[]byte{127}, 127, true},
		{[]byte{0xff, 128}, 128, true},
		{[]byte{0xfe, 1, 0}, 256, true},
		{[]byte{0xf8, 1, 0, 0, 0, 0, 0, 0, 0}, 1 << 56, true},
		{nil, 0, false},
		{[]byte{0xff}, 0, false},
		{[]byte{0x80}, 0, false},
		{bytes.Repeat([]byte{0xf7}, 20), 0, false},
	} {
		if got, _, ok := gobUint(test.in); got != test.want || ok != test.ok {
			t.Errorf("gobUint(%x) = %d, %v, want %d, %v", test.in, got, ok, test.want, test.ok)
		}
	}
}

// What size computes is what gob writes, for every length of every field.
func TestSize(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func() []byte { return bytes.Repeat([]byte("x"), rng.IntN(300)*rng.IntN(2)) }
	number := func() uint64 { return rng.Uint64() >> rng.IntN(65) }
	flip := func() bool { return rng.IntN(2) == 0 }
	for range 2000 {
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
		checkSize(t, codecs.request, req)
		checkSize(t, codecs.response, res)
		checkSize(t, codecs.control, ctl)
	}
}

func checkSize[T any](t *testing.T, c *codec[T], m *T) {
	t.Helper()
	frame, err := c.appendFrame(nil, m)
	if err != nil {
		return // too large
	}
	if got, want := c.size(c.body(m)), len(frame)-frameHeader; got != want {
		t.Fatalf("size %d, gob writes %d: %+v", got, want, m)
	}
}

func TestFrameLimit(t *testing.T) {
	big := make([]byte, MaxFrame)
	before := []byte("before")
	out, err := codecs.control.appendFrame(before, &Control{Payload: big})
	if err != ErrTooLarge || string(out) != "before" {
		t.Errorf("a payload of %d bytes: %q, error %v, want what was there before and ErrTooLarge", len(big), out, err)
	}
	if _, err := codecs.control.appendFrame(nil, &Control{Payload: big[:MaxFrame-64]}); err != nil {
		t.Errorf("a payload of %d bytes: %v", MaxFrame-64, err)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(body(f, codecs.request, sampleRequest()))
	f.Add(body(f, codecs.request, many(3)))
	f.Add(body(f, codecs.response, &Response{Code: OK, Results: []Result{{Status: Found, Value: []byte("v")}}}))
	f.Add(reframe(append(bytes.Clone(codecs.request.head), 1, 0xfe, 4, 0)))
	for _, h := range hostileRequests(f) {
		f.Add(h.stream)
		f.Add(h.stream[min(frameHeader, len(h.stream)):])
	}
	f.Fuzz(func(t *testing.T, frame []byte) { roundTrip(t, codecs.request, frame) })
}

// roundTrip makes sure that a frame that c takes for a message is one: what was decoded
// can be sent, and arrives as it was.
func roundTrip[T any](t *testing.T, c *codec[T], frame []byte) {
	var m, again T
	if len(frame) > MaxFrame || c.decode(frame, &m) != nil {
		return
	}
	if err := c.decode(body(t, c, &m), &again); err != nil {
		t.Fatalf("what was decoded cannot be sent: %v", err)
	}
	if !reflect.DeepEqual(m, again) {
		t.Fatalf("decoded %+v, and after another round trip %+v", m, again)
	}
}

// What a codec costs that is made for the message, against one that is kept.
//
//	go test ./common/wire -bench Codec
func BenchmarkCodec(b *testing.B) {
	m := &Request{Ops: []Op{{Kind: Put, Key: "key-000017", Value: make([]byte, 30)}}}
	b.Run("codec=fresh", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var wire bytes.Buffer
			var got Request
			if err := gob.NewEncoder(&wire).Encode(m); err != nil {
				b.Fatal(err)
			}
			if err := gob.NewDecoder(&wire).Decode(&got); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, ops := range []int{1, 64} {
		m := many(ops)
		b.Run(fmt.Sprintf("codec=kept/ops=%d", ops), func(b *testing.B) {
			b.ReportAllocs()
			var frame []byte
			var got Request
			for b.Loop() {
				var err error
				if frame, err = codecs.request.appendFrame(frame[:0], m); err != nil {
					b.Fatal(err)
				}
				if err := codecs.request.decode(frame[frameHeader:], &got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
