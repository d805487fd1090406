package wire

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A hostile stream breaks the protocol.
type hostile struct {
	name   string
	stream []byte
}

// framed puts a message into a frame.
func framed(message []byte) []byte {
	return append(byteOrder.AppendUint32(nil, uint32(len(message))), message...)
}

// ofType makes a message of c's type out of body.
func ofType[T any](c *codec[T], body string) []byte {
	return reframe(append(bytes.Clone(c.head), body...))
}

// hostiles returns streams for an end that reads messages of c's type, such as good.
func hostiles[T any](t testing.TB, c *codec[T], good *T) []hostile {
	message := body(t, c, good)
	var described bytes.Buffer
	gob.NewEncoder(&described).Encode(good)
	definition := described.Bytes()[:1+int(described.Bytes()[0])] // the first message: the name and fields of the type
	shorter, longer := bytes.Clone(message), bytes.Clone(message)
	shorter[0]-- // its length is in one byte
	longer[0]++
	all := []hostile{
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"TLS", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x5a", 500))},
		{"a greeting", []byte(magic + strings.Repeat("\x00", greetingSize-len(magic)))},
		{"control characters", []byte("\x1b]0;owned\x07\r\n\x00\x9b2J" + strings.Repeat("\n", 64))},
		{"half a length", []byte{0, 0}},
		{"half a frame", framed(message)[:frameHeader+len(message)/2]},
		{"a frame but its last byte", framed(message)[:frameHeader+len(message)-1]},
		{"the largest frame, of zeroes", framed(make([]byte, MaxFrame))},
		{"the largest frame, of ones", framed(bytes.Repeat([]byte{0xff}, MaxFrame))},
		{"an inner length too short", framed(shorter)},
		{"an inner length too long", framed(longer)},
		{"an inner length of all ones", framed(append(bytes.Repeat([]byte{0xff}, 9), message...))},
		{"an inner length of 8 bytes", framed(append([]byte{0xf8, 0x7f, 255, 255, 255, 255, 255, 255, 255}, message...))},
		{"a byte after the message", framed(append(bytes.Clone(message), 0))},
		{"two messages in a frame", framed(append(bytes.Clone(message), message...))},
		{"a type definition", framed(definition)},
		{"a type definition, then a message", framed(append(bytes.Clone(definition), message...))},
		{"a type nobody has", framed(reframe(append([]byte{0xfe, 0x7f, 0xfe}, message[2:]...)))},
		{"a count of 100 million", framed(ofType(c, "\x01\xfc\x05\xf5\xe1\x00\x00\x00"))},
		{"a count of all ones", framed(ofType(c, "\x01\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00"))},
		{"a count one above the limit", framed(ofType(c, "\x01\xfe\x04\x01"+strings.Repeat("\x01\x01\x00", MaxOps+1)+"\x00"))},
		{"a count that nothing follows", framed(ofType(c, "\x01\xfe\x04\x00"))},
		{"a count behind a long field number", framed(ofType(c, "\xff\x01\xfc\x05\xf5\xe1\x00\x00\x00"))},
		{"a field that is not there", framed(ofType(c, "\x7f\x01\x00"))},
		{"a field number that overflows", framed(ofType(c, "\x02\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x00"))},
		{"a number longer than necessary", framed(ofType(c, "\x01\xff\x01\x01\x02\x01k\x00\x00"))},
		{"bytes after the value", framed(ofType(c, string(c.rest(message))+"\x00\x00\x00"))},
	}
	for _, n := range []uint32{0, 1, MaxFrame, MaxFrame + 1, 1 << 31, 1<<32 - 1} { // two are legal, and do not fit what follows
		all = append(all, hostile{"a wrong length", append(byteOrder.AppendUint32(nil, n), message...)})
	}
	return all
}

// rest returns a message without its length and type.
func (c *codec[T]) rest(message []byte) []byte {
	_, rest, _ := gobUint(message)
	return bytes.TrimPrefix(rest, c.head)
}

// hostileRequests returns hostiles and those that only a Request can hold.
func hostileRequests(t testing.TB) []hostile {
	c := codecs.request
	return append(hostiles(t, c, sampleRequest()),
		hostile{"an answer", framed(body(t, codecs.response, sampleResponse()))},
		hostile{"a control message", framed(body(t, codecs.control, &Control{Kind: Stats}))},
		hostile{"a kind of 0", framed(body(t, c, &Request{Ops: []Op{{Key: "k"}}}))},
		hostile{"a kind of 5", framed(body(t, c, &Request{Ops: []Op{{Kind: CompareAndSwap + 1, Key: "k"}}}))},
		hostile{"a key too long", framed(body(t, c, &Request{Ops: []Op{{Kind: Get, Key: strings.Repeat("k", MaxKey+1)}}}))},
		hostile{"a value too long", framed(body(t, c, &Request{Ops: []Op{{Kind: Put, Key: "k", Value: make([]byte, MaxValue+1)}}}))},
		hostile{"an expected value too long", framed(body(t, c, &Request{Ops: []Op{{Kind: CompareAndSwap, Key: "k", Old: make([]byte, MaxValue+1)}}}))},
		hostile{"no operation", framed(body(t, c, &Request{}))},
		hostile{"a key of 2 GiB", ofList("\x01\x01\xff\xff\xff\xff\x07k\x00\x00")},
		hostile{"a value of 2 GiB", ofList("\x01\x02\x01k\xff\xff\xff\xff\x07v\x00")},
		hostile{"an expected value of 2 GiB", ofList("\x01\x04\x01k\x00\xff\xff\xff\xff\x0fv")},
		hostile{"a key of minus one", ofList("\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k\x00\x00")},
		hostile{"a list of 100 million", ofList("\x80\xc2\xd7\x2f\x01\x01k\x00\x00")},
		hostile{"a list one above the limit", ofList("\x81\x08" + strings.Repeat("\x01\x01k\x00\x00", MaxOps+1))},
		hostile{"a list without a length", ofList("\xff")},
		hostile{"a list of no bytes", ofList("")},
		hostile{"half a list", ofList("\x02\x01\x01k\x00\x00")},
		hostile{"a byte after the list", ofList("\x01\x01\x01k\x00\x00\x00")},
		hostile{"a list length longer than necessary", ofList("\x81\x00\x01\x01k\x00\x00")},
		hostile{"a key length longer than necessary", ofList("\x01\x01\x81\x00k\x00\x00")},
	)
}

// ofList makes the frame of a request of which a list is sent.
func ofList(list string) []byte {
	size := []byte{byte(len(list))}
	if len(list) > 127 {
		size = []byte{0xfe, byte(len(list) >> 8), byte(len(list))}
	}
	return framed(ofType(codecs.request, "\x01"+string(size)+list+"\x00"))
}

func sampleResponse() *Response {
	return &Response{Code: OK, Number: 1, Results: []Result{{Status: Found, Value: []byte("blue")}, {Status: Missing}, {Status: Swapped}}}
}

// feed has a server's end read a stream until either ends. It returns the server's end
// and the requests that it accepted.
func feed(stream []byte) (c *Conn, requests []Request) {
	c = serverEnd(&script{in: stream}, Limits{})
	defer c.Close()
	for c.Ready() {
		for r := (Request{}); c.ReadRequest(&r); {
			requests = append(requests, Request{slices.Clone(r.Ops)})
			c.WriteResponse(&Response{Code: Busy})
		}
		c.Flush()
	}
	return c, requests
}

// No hostile stream is taken for a message, whether it comes first or after a good one, or
// costs much memory, whatever it claims.
func TestHostileStreams(t *testing.T) {
	checkHostile(t, codecs.request, sampleRequest(), hostileRequests(t), (*Conn).ReadRequest)
	checkHostile(t, codecs.response, sampleResponse(), append(hostiles(t, codecs.response, sampleResponse()),
		hostile{"a request", framed(body(t, codecs.request, sampleRequest()))}), (*Conn).ReadResponse)
	question := &Control{Seen: []uint64{1}, Kind: Barrier}
	checkHostile(t, codecs.control, question, hostiles(t, codecs.control, question), (*Conn).ReadControl)
}

func checkHostile[T any](t *testing.T, kind *codec[T], good *T, all []hostile, read func(*Conn, *T) bool) {
	for _, h := range all {
		for want := range 2 {
			c := &Conn{nc: &script{in: append(bytes.Repeat(framed(body(t, kind, good)), want), h.stream...)}}
			got := 0
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for m := new(T); c.Ready() && read(c, m); m = new(T) {
				if got++; !reflect.DeepEqual(m, good) {
					t.Errorf("decoded %+v, want %+v", m, good)
				}
			}
			runtime.ReadMemStats(&after)
			if got != want || !errors.Is(c.Err(), ErrMalformed) && !errors.Is(c.Err(), io.ErrUnexpectedEOF) {
				t.Errorf("%T, %s: %d messages taken, then %v, want %d and an error", good, h.name, got, c.Err(), want)
			}
			if spent := after.TotalAlloc - before.TotalAlloc; spent > 128<<10+8*uint64(len(h.stream)) {
				t.Errorf("%T, %s: %d bytes cost %d bytes of memory", good, h.name, len(h.stream), spent)
			}
		}
	}
}

// Good streams with random changes.
func TestMutatedStreams(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var good []byte
	for _, r := range []*Request{sampleRequest(), many(1), many(3), many(20)} {
		good = append(good, framed(body(t, codecs.request, r))...)
	}
	for range 2000 {
		checkFed(t, mutate(rng, bytes.Clone(good)))
	}
}

// checkFed feeds any bytes to a server's end. It must not panic, end with an error, and hold at
// most one buffer. What it accepts is valid, and survives a round trip.
func checkFed(t *testing.T, stream []byte) {
	t.Helper()
	c, requests := feed(stream)
	for _, r := range requests {
		if err := r.Validate(); err != nil {
			t.Fatalf("%x was taken for a request: %v", stream, err)
		}
		roundTrip(t, codecs.request, &r)
	}
	if cap(c.in) > maxBuffer || c.Err() == nil {
		t.Errorf("the stream %x has ended with %v, and a buffer of %d bytes", stream, c.Err(), cap(c.in))
	}
}

// mutate changes a stream.
func mutate(rng *rand.Rand, stream []byte) []byte {
	for range 1 + rng.IntN(3) {
		if len(stream) == 0 {
			return nil
		}
		i := rng.IntN(len(stream))
		switch rng.IntN(6) {
		case 0:
			stream[i] ^= 1 << rng.IntN(8)
		case 1:
			stream[i] = byte(rng.Uint32())
		case 2: // the bytes that begin a long number
			stream[i] = 0xf8 + byte(rng.IntN(8))
		case 3:
			stream = slices.Insert(stream, i, byte(rng.Uint32()))
		case 4:
			stream = slices.Delete(stream, i, min(len(stream), i+1+rng.IntN(8)))
		case 5:
			stream = stream[:i]
		}
	}
	return stream
}

// roundTrip makes sure that what was decoded can be sent, and arrives unchanged.
func roundTrip[T any](t *testing.T, c *codec[T], m *T) {
	t.Helper()
	again := new(T)
	if err := c.decode(body(t, c, m), again); err != nil || !reflect.DeepEqual(m, again) {
		t.Fatalf("decoded %+v, and after another round trip %+v, %v", m, again, err)
	}
}
