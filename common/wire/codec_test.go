package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func sampleRequest() *Request {
	return &Request{Ops: []Op{
		{Kind: Put, Key: "color", Value: []byte("blue")},
		{Kind: Get, Key: "color"},
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
	empty := body(t, codecs.request, new(Request)) // gob leaves the list out
	if err := codecs.request.decode(empty, &m); err != nil || len(m.Ops) > 0 {
		t.Errorf("decoded into a used Request: %+v, %v, want no operation", m, err)
	}
}

// reframe gives the rest of a message an inner length that fits it.
func reframe(rest []byte) []byte {
	return append([]byte{0xfe, byte(len(rest) >> 8), byte(len(rest))}, rest...)
}

// No byte is left over in what gob writes, for any length of any field.
func TestExact(t *testing.T) {
	for shift := range 65 {
		for _, elements := range []int{0, 1, 4, 8, 1000} { // lengths of one to three bytes
			sent := Response{Code: Code(2 * shift), Number: math.MaxUint64 >> shift}
			sent.Results = slices.Repeat([]Result{{Found, make([]byte, 30)}}, elements)
			frame, _ := AppendResponse(nil, &sent)
			if err := DecodeResponse(frame[frameHeader:], new(Response)); err != nil {
				t.Fatalf("%v in what gob writes: %v, number %d, %d results", err, sent.Code, sent.Number, elements)
			}
		}
	}
}

// The cost of a request, there and back: with a codec that is created for each, with one that
// is kept, and with one that is kept and a list that marshals itself.
//
//	go test ./common/wire -bench Codec
func BenchmarkCodec(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		ops := slices.Repeat([]Op{{Kind: Put, Key: "key-000017", Value: make([]byte, 30)}, {Kind: Get, Key: "key-000018"}}, n)[:n]
		name := func(kind, list string) string { return fmt.Sprintf("codec=%s/list=%s/ops=%d", kind, list, n) }
		b.Run(name("fresh", "reflected"), func(b *testing.B) { benchmarkGob(b, true, &struct{ Ops []Op }{ops}) })
		b.Run(name("kept", "reflected"), func(b *testing.B) { benchmarkGob(b, false, &struct{ Ops []Op }{ops}) })
		b.Run(name("kept", "marshaled"), func(b *testing.B) { benchmarkGob(b, false, &Request{ops}) })
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

// A hostile stream breaks the protocol.
type hostile struct {
	name   string
	stream []byte
}

// framed puts a message into a frame.
func framed(message []byte) []byte {
	return append(byteOrder.AppendUint32(nil, uint32(len(message))), message...)
}

// ofType makes a message of c's type out of fields.
func ofType[T any](c *codec[T], fields string) []byte {
	return framed(reframe(append(bytes.Clone(c.head), fields...)))
}

// hostiles returns streams for an end that reads messages of c's type, such as good.
func hostiles[T any](t testing.TB, c *codec[T], good *T) []hostile {
	message := body(t, c, good)
	size := message[0] // of what follows: its type, then its fields
	rest := message[1:]
	var described bytes.Buffer
	gob.NewEncoder(&described).Encode(good)
	definition := described.Bytes()[:1+int(described.Bytes()[0])] // the first message: the name and fields of the type
	all := []hostile{
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"half a frame", framed(message)[:frameHeader+len(message)/2]},
		{"the largest frame, of ones", framed(bytes.Repeat([]byte{0xff}, MaxFrame))},
		{"an inner length too short", framed(append([]byte{size - 1}, rest...))},
		{"an inner length too long", framed(append([]byte{size + 1}, rest...))},
		{"two messages in a frame", framed(append(bytes.Clone(message), message...))},
		{"a type definition", framed(definition)},
		{"a type nobody has", framed(reframe(append([]byte{0xfe, 0x7f, 0xfe}, rest[len(c.head):]...)))},
		{"a count of 100 million", ofType(c, "\x01\xfc\x05\xf5\xe1\x00\x00\x00")},
		{"a count of all ones", ofType(c, "\x01\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00")},
		{"a count behind a long field number", ofType(c, "\xff\x01\xfc\x05\xf5\xe1\x00\x00\x00")},
		{"a field that is not there", ofType(c, "\x7f\x01\x00")},
		{"a field number that overflows", ofType(c, "\x02\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x00")},
		{"a number longer than necessary", ofType(c, "\x01\xff\x01\x01\x02\x01k\x00\x00")},
		{"bytes after the value", ofType(c, string(rest[len(c.head):])+"\x00\x00\x00")},
	}
	for _, n := range []uint32{0, 1, MaxFrame, MaxFrame + 1, 1 << 31, 1<<32 - 1} { // two are legal, and do not fit what follows
		all = append(all, hostile{"a wrong length", append(byteOrder.AppendUint32(nil, n), message...)})
	}
	return all
}

// hostileRequests returns hostiles and those that only a Request can hold.
func hostileRequests(t testing.TB) []hostile {
	c := codecs.request
	one := func(op Op) []byte { return framed(body(t, c, &Request{Ops: []Op{op}})) }
	return append(hostiles(t, c, sampleRequest()), []hostile{
		{"an answer", framed(body(t, codecs.response, sampleResponse()))},
		{"a kind of 0", one(Op{Key: "k"})},
		{"a kind of 5", one(Op{Kind: CompareAndSwap + 1, Key: "k"})},
		{"a key too long", one(Op{Kind: Get, Key: strings.Repeat("k", MaxKey+1)})},
		{"a value too long", one(Op{Kind: Put, Key: "k", Value: make([]byte, MaxValue+1)})},
		{"an expected value too long", one(Op{Kind: CompareAndSwap, Key: "k", Old: make([]byte, MaxValue+1)})},
		{"no operation", framed(body(t, c, &Request{}))},
		{"a key of minus one", ofList("\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k\x00\x00")},
		{"a list one above the limit", ofList("\x81\x08" + strings.Repeat("\x01\x01k\x00\x00", MaxOps+1))},
		{"a list of no bytes", ofList("")},
		{"half a list", ofList("\x02\x01\x01k\x00\x00")},
		{"a byte after the list", ofList("\x01\x01\x01k\x00\x00\x00")},
		{"a list length longer than necessary", ofList("\x81\x00\x01\x01k\x00\x00")},
		{"a key length longer than necessary", ofList("\x01\x01\x81\x00k\x00\x00")},
	}...)
}

// ofList makes the frame of a request of which a list is sent.
func ofList(list string) []byte {
	return ofType(codecs.request, "\x01"+string(reframe([]byte(list)))+"\x00")
}

func sampleResponse() *Response {
	return &Response{Code: OK, Number: 1, Results: []Result{{Found, []byte("blue")}, {Status: Missing}, {Status: Swapped}}}
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
			c := &Conn{nc: play(append(bytes.Repeat(framed(body(t, kind, good)), want), h.stream...))}
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

// checkFed feeds any bytes to a server's end and to a client's. They must not panic. The server's
// must end with an error, and hold at most one buffer. What it accepts is valid, and survives a round trip.
func checkFed(t *testing.T, stream []byte) {
	t.Helper()
	c := serverEnd(play(stream), Limits{})
	defer c.Close()
	for c.Ready() {
		for r := (Request{}); c.ReadRequest(&r); r = (Request{}) {
			if err := r.Validate(); err != nil {
				t.Fatalf("%x was taken for a request: %v", stream, err)
			}
			again := new(Request)
			if err := codecs.request.decode(body(t, codecs.request, &r), again); err != nil || !reflect.DeepEqual(&r, again) {
				t.Fatalf("decoded %+v, and after another round trip %+v, %v", r, again, err)
			}
			c.WriteResponse(&Response{Code: Busy})
		}
		c.Flush()
	}
	if cap(c.in) > maxBuffer || c.Err() == nil {
		t.Errorf("the stream %x has ended with %v, and a buffer of %d bytes", stream, c.Err(), cap(c.in))
	}
	client := &Conn{nc: play(stream)}
	for r := (Response{}); client.ReadResponse(&r); {
		if len(r.Results) > MaxOps {
			t.Errorf("%x was taken for an answer with %d results", stream, len(r.Results))
		}
	}
}

// Good streams with random changes.
func TestMutatedStreams(t *testing.T) {
	frame := func(r *Request) []byte { return framed(body(t, codecs.request, r)) }
	good := slices.Concat(frame(get("k")), frame(sampleRequest()), frame(&Request{Ops: slices.Repeat(get("k").Ops, 20)}))
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		stream := good
		for range 1 + rng.IntN(3) {
			i := rng.IntN(len(stream))
			with := [][]byte{nil, {stream[i] ^ 1<<rng.IntN(8)}, {0xf8 + byte(rng.IntN(8))}, {byte(rng.Uint32())}} // 0xf8: a long number
			stream = slices.Concat(stream[:i], with[rng.IntN(4)], stream[min(len(stream), i+rng.IntN(4)):])
		}
		checkFed(t, stream)
	}
}

func FuzzFrames(f *testing.F) {
	frame := framed(body(f, codecs.request, sampleRequest()))
	f.Add(slices.Concat(frame, frame))
	for _, h := range hostileRequests(f) {
		f.Add(slices.Concat(frame, h.stream))
	}
	f.Fuzz(checkFed)
}

// The protocols that are usually written first. Each looks right until it meets the case
// below:
//
//	go test ./common/wire -run Specimen -v

// show logs the prediction and the result, and fails the test if the result is not what
// the course says.
func show(t *testing.T, prediction string, got, want []string) {
	t.Helper()
	t.Logf("prediction: %s\nfound: %q", prediction, got)
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// A message is a line, and each Read is taken for a line. But TCP keeps only the order of
// bytes, not how they were split into writes.
func TestSpecimenOneReadIsOneMessage(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		writes           []string
	}{
		{"one write", "one message: which is why the mistake goes unnoticed", []string{"PUT color blue\n"}},
		{"two messages in one write", "two messages arrive as one", []string{"PUT color blue\nPUT shape round\n"}},
		{"one message in two writes", "one message arrives as two, and the first is valid", []string{"PUT color bl", "ue\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := tcp(t)
			var got []string
			for _, text := range c.writes {
				message := make([]byte, 1024)
				client.Write([]byte(text))
				n, err := server.Read(message) // the mistake
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(message[:n]))
			}
			show(t, c.prediction, got, c.writes)
		})
	}
}

// With reads up to the newline, a line arrives as a line. But now no value may contain a
// newline or a space.
func TestSpecimenDelimiters(t *testing.T) {
	for _, c := range []struct {
		name, prediction, value string
		want                    []string
	}{
		{"a word", "one message of three words", "blue", []string{"PUT|color|blue"}},
		{"a value with a space", "one word too many: which is the value?", "light blue", []string{"PUT|color|light|blue"}},
		{"a value with a newline", "a value can contain a command", "blue\nDELETE shape", []string{"PUT|color|blue", "DELETE|shape"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			lines := bufio.NewScanner(strings.NewReader("PUT color " + c.value + "\n"))
			for lines.Scan() {
				got = append(got, strings.Join(strings.Fields(lines.Text()), "|"))
			}
			show(t, c.prediction, got, c.want)
		})
	}
	t.Run("a frame", func(t *testing.T) {
		server, client := tcp(t)
		frame, _ := AppendRequest(nil, &Request{Ops: []Op{{Kind: Put, Key: "color", Value: []byte("blue\nDELETE shape")}}})
		for i := range frame {
			client.Write(frame[i : i+1])
		}
		c := &Conn{nc: server}
		var r Request
		if !c.Ready() || !c.ReadRequest(&r) {
			t.Fatal(c.Err())
		}
		show(t, "with a length prefix: the value arrives unchanged, in any number of pieces",
			[]string{r.Ops[0].Kind.String(), r.Ops[0].Key, string(r.Ops[0].Value)}, []string{"put", "color", "blue\nDELETE shape"})
	})
}

// A plain gob stream describes a type only before its first value, so its messages depend
// on each other.
func TestSpecimenSkippedFrame(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		skip             int
		want             []string
	}{
		{"none", "all are decoded", -1, []string{"a", "b", "c"}},
		{"the second", "the others are decoded", 1, []string{"a", "c"}},
		{"the first", "none can be decoded: the first one held the description", 0,
			[]string{"gob: unknown type id or corrupted data", "gob: unknown type id or corrupted data"}},
	} {
		t.Run("skip "+c.name, func(t *testing.T) {
			var sent, received bytes.Buffer
			enc, dec := gob.NewEncoder(&sent), gob.NewDecoder(&received)
			var got []string
			for i, key := range []string{"a", "b", "c"} {
				enc.Encode(Op{Kind: Get, Key: key})
				frame := sent.Next(sent.Len())
				t.Logf("frame %d: %d bytes", i, len(frame))
				if i == c.skip {
					continue // refused unread, for example as too large
				}
				received.Write(frame)
				var op Op
				err := dec.Decode(&op)
				got = append(got, cmp.Or(op.Key, fmt.Sprint(err)))
			}
			show(t, c.prediction, got, c.want)
		})
	}
}

// Gob does not send zero fields, and Decode does not touch fields that were not sent.
func TestSpecimenReusedStruct(t *testing.T) {
	const getOp, putOp = 0, 1
	type request struct {
		Kind       int
		Key, Value string
	}
	var stream bytes.Buffer
	enc, dec := gob.NewEncoder(&stream), gob.NewDecoder(&stream)
	var got []string
	var r request // the mistake: reused
	for _, sent := range []request{{putOp, "color", "blue"}, {getOp, "shape", ""}} {
		if err := errors.Join(enc.Encode(sent), dec.Decode(&r)); err != nil {
			t.Fatal(err)
		}
		got = append(got, []string{"get ", "put "}[r.Kind]+r.Key+" "+r.Value)
	}
	show(t, "get shape arrives as put shape blue", got, []string{"put color blue", "put shape blue"})
}

// Decode reuses a byte slice that is long enough, so a value that was kept changes.
func TestSpecimenReusedSlice(t *testing.T) {
	var stream bytes.Buffer
	enc, dec := gob.NewEncoder(&stream), gob.NewDecoder(&stream)
	stored := make(map[string][]byte)
	var op Op // the mistake: reused
	for _, sent := range []Op{{Kind: Put, Key: "color", Value: []byte("blue")}, {Kind: Put, Key: "other", Value: []byte("grey")}} {
		if err := errors.Join(enc.Encode(sent), dec.Decode(&op)); err != nil {
			t.Fatal(err)
		}
		stored[op.Key] = op.Value
	}
	show(t, "the second put changes the first key, too",
		[]string{string(stored["color"]), string(stored["other"])}, []string{"grey", "grey"})
}
