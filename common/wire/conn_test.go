package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var service = Hello{Purpose: Service, Group: "nodes", Number: 2, Fingerprint: 77}

// tcp returns the two ends of a connection over loopback.
func tcp(t testing.TB) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err == nil {
		server, err = ln.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

// serverEnd returns a server's end that has greeted.
func serverEnd(nc net.Conn, l Limits) *Conn {
	return &Conn{nc: nc, limits: l, server: true, hello: service}
}

// pair returns two ends that have agreed on a greeting.
func pair(t testing.TB) (server, client *Conn) {
	t.Helper()
	s, c := tcp(t)
	server, greeted := Greet(s, service, Limits{Idle: time.Hour})
	client, opened := Open(t.Context(), c, service, Limits{})
	if err := errors.Join(greeted, opened); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// echo answers each request with its first key. The function it returns waits for the end of
// the connection and says what it was.
func echo(c *Conn) (ended func() error) {
	done := make(chan struct{})
	go func() { // ends with the connection
		defer close(done)
		defer c.Close()
		for c.Ready() {
			for r := (Request{}); c.ReadRequest(&r); r = (Request{}) {
				c.WriteResponse(&Response{Code: OK, Results: []Result{{Status: Found, Value: []byte(r.Ops[0].Key)}}})
			}
			c.Flush()
		}
	}()
	return func() error { <-done; return c.Err() }
}

// echoing returns a client's end, and a function that closes it and returns what ended the
// server's end, which echoes.
func echoing(t *testing.T) (client *Conn, ended func() error) {
	server, client := pair(t)
	wait := echo(server)
	return client, func() error { client.Close(); return wait() }
}

func get(key string) *Request { return &Request{Ops: []Op{{Kind: Get, Key: key}}} }

// All that a client has sent is answered, even if it has closed its sending side since.
func TestConnAnswersInOrder(t *testing.T) {
	client, ended := echoing(t)
	for _, n := range []int{1, 3, 200} { // 200: more than one buffer, and more than one turn
		keys := make([]string, n)
		for i := range keys {
			keys[i] = strings.Repeat("k", 1+i%MaxKey)
			client.WriteRequest(get(keys[i]))
		}
		client.Flush()
		if n == 200 {
			client.nc.(*net.TCPConn).CloseWrite()
		}
		for i, key := range keys {
			var r Response
			if !client.ReadResponse(&r) || string(r.Results[0].Value) != key {
				t.Fatalf("answer %d of %d is %v (%v), want %q", i, n, r, client.Err(), key)
			}
		}
	}
	if err := ended(); err != io.EOF {
		t.Errorf("the server's end says %v, want EOF", err)
	}
}

// Garbage instead of a request is answered Invalid, and ends the connection.
func TestGarbageEndsTheConnection(t *testing.T) {
	long := &Request{Ops: []Op{{Kind: Get, Key: strings.Repeat("k", MaxKey+1)}}}
	for _, test := range []struct {
		name   string
		bytes  []byte
		answer []Code
		want   string
	}{
		{"http", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), []Code{Goodbye}, "length 1195725856 is not in 1..65536"},
		{"garbage in a frame", framed([]byte("garbage")), []Code{Invalid, Goodbye}, "not a message of the expected kind"},
		{"no operation", framed(body(t, codecs.request, &Request{})), []Code{Invalid, Goodbye}, "0 operations are not in 1..1024"},
		{"long key", framed(body(t, codecs.request, long)), []Code{Invalid, Goodbye}, "a key of 251 bytes is not in 1..250"},
	} {
		client, ended := echoing(t)
		client.out = append(client.out, test.bytes...)
		client.Flush()
		var got []Code
		for r := (Response{}); client.ReadResponse(&r); {
			got = append(got, r.Code)
		}
		if !slices.Equal(got, test.answer) || client.Err() != io.EOF {
			t.Errorf("%s: answers %v, then %v; want %v, then EOF", test.name, got, client.Err(), test.answer)
		}
		if err := ended(); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the server's end says %v, want %q", test.name, err, test.want)
		}
	}
}

func TestBufferGrowsWithBytesReceived(t *testing.T) {
	server, client := pair(t)
	client.out = append([]byte{0, 1, 0, 0}, make([]byte, 10)...) // announces MaxFrame bytes, and sends 10
	client.Flush()
	client.Close()
	if server.Ready() || !errors.Is(server.Err(), io.ErrUnexpectedEOF) {
		t.Errorf("half a frame is ready, or %v, want an unexpected EOF", server.Err())
	}
	if got := cap(server.in); got > firstBuffer {
		t.Errorf("14 bytes took a buffer of %d, want %d", got, firstBuffer)
	}
}

func TestLargestFrame(t *testing.T) {
	client, ended := echoing(t)
	put := Op{Kind: Put, Key: "k", Value: make([]byte, MaxValue)}
	r := &Request{Ops: []Op{put, put, put, put}}
	r.Ops[3].Value = make([]byte, MaxValue-30) // nearly small enough
	for r.Validate() == ErrTooLarge {
		r.Ops[3].Value = r.Ops[3].Value[1:]
	}
	err := client.WriteRequest(r)
	size := client.Unsent() - frameHeader
	var answer Response
	if client.Flush(); size != MaxFrame || !client.ReadResponse(&answer) {
		t.Errorf("a request of %d bytes: %v, %v, want %d and an answer", size, err, client.Err(), MaxFrame)
	}
	client.WriteRequest(get("k"))
	before := bytes.Clone(client.out)
	r.Ops[3].Key += "k"
	if err := client.WriteRequest(r); err != ErrTooLarge || !bytes.Equal(client.out, before) {
		t.Errorf("a request of one byte more: %v, and %d bytes to send, want ErrTooLarge and %d", err, client.Unsent(), len(before))
	}
	if client.Flush(); !client.ReadResponse(&answer) {
		t.Errorf("after a request that was too large to send: %v", client.Err())
	}
	ended()
}

func TestValuesThatDoNotFit(t *testing.T) {
	server, client := pair(t)
	value := bytes.Repeat([]byte("v"), MaxValue)
	results := []Result{{Found, value}, {Found, value}, {Found, value}, {Found, value}, {Found, []byte("small")}, {Status: Missing}}
	want := slices.Clone(results)
	want[3] = Result{Status: TooLarge}
	server.frames = 1 // as if a request had come
	server.WriteResponse(&Response{Code: OK, Results: results})
	server.Flush()
	var r Response
	if !client.ReadResponse(&r) || !reflect.DeepEqual([]Result(r.Results), want) {
		t.Errorf("results %v (%v, %v), want %v", r.Results, server.Err(), client.Err(), want)
	}
}

// Both ends count, refused requests too. A second answer to a request is not taken for the
// answer to the next one.
func TestSurplusAnswer(t *testing.T) {
	server, client := pair(t)
	for range 3 {
		client.WriteRequest(get("k"))
	}
	client.Flush()
	var r Response
	for i, code := range []Code{OK, Busy, OK} {
		var request Request
		if !server.Ready() || !(i == 1 && server.SkipRequest() || server.ReadRequest(&request)) {
			t.Fatal(server.Err())
		}
		server.WriteResponse(&Response{Code: code})
		if server.Flush(); !client.ReadResponse(&r) || r.Code != code || r.Number != uint64(i+1) {
			t.Fatalf("answer %d is %+v (%v), want %v", i+1, r, client.Err(), code)
		}
	}
	server.WriteResponse(&Response{Code: OK}) // the third again
	server.Flush()
	client.WriteRequest(get("k"))
	if client.ReadResponse(&r) || !errors.Is(client.Err(), ErrMalformed) || r.Code == OK {
		t.Errorf("read %+v (%v), want malformed, as it answers request 3", r, client.Err())
	}
}

// The deadlines of a server's end.
func TestDeadlines(t *testing.T) {
	limits := Limits{Idle: time.Minute, Frame: 10 * time.Second, Write: 5 * time.Second}
	frame := framed(body(t, codecs.request, get("key")))
	for _, test := range []struct {
		name  string
		act   func(peer net.Conn)
		want  error
		after time.Duration
	}{
		{"silence", func(net.Conn) {}, ErrIdle, limits.Idle},
		{"half a frame", func(c net.Conn) { c.Write(frame[:5]) }, ErrSlow, limits.Frame},
		{"a byte a second", func(c net.Conn) {
			for i := range frame {
				if _, err := c.Write(frame[i : i+1]); err != nil {
					return
				}
				<-time.After(time.Second) // the clock is synctest's
			}
		}, ErrSlow, limits.Frame},
		{"a frame every 40 s, then silence", func(c net.Conn) {
			for range 3 {
				<-time.After(40 * time.Second)
				c.Write(frame)
			}
		}, ErrIdle, 120*time.Second + limits.Idle},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			server := serverEnd(a, limits)
			acted := make(chan struct{})
			go func() { defer close(acted); test.act(b) }()
			start := time.Now()
			for server.Ready() {
				server.SkipRequest()
			}
			if got := time.Since(start); server.Err() != test.want || got != test.after {
				t.Errorf("%s: ended after %v with %v, want after %v with %v", test.name, got, server.Err(), test.after, test.want)
			}
			a.Close()
			<-acted
		})
	}
}

// Each write has all of Limits.Write, although the deadline of one before it may fire.
func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		server := serverEnd(near, Limits{Write: 5 * time.Second})
		go func() {
			for range 3 {
				<-time.After(4 * time.Second)
				far.Read(make([]byte, 1<<10))
			}
		}()
		for i := range 4 {
			server.WriteResponse(&Response{Code: Busy})
			began := time.Now()
			sent, want := server.Flush(), 4*time.Second
			if i == 3 {
				want = 5 * time.Second
			}
			if took := time.Since(began); sent != (i < 3) || took != want {
				t.Errorf("write %d: %v after %v (%v), want %v after %v", i, sent, took, server.Err(), i < 3, want)
			}
		}
	})
}

// All that has arrived at Stop is answered, however much it is, and then comes a Goodbye.
func TestStopTakesWhatHasArrived(t *testing.T) {
	const requests = 200 // several buffers
	server, client := pair(t)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range requests {
			client.WriteRequest(get(strings.Repeat("k", MaxKey)))
		}
		client.Flush()
	}()
	if !server.Ready() { // it has read, at most, its first buffer
		t.Fatal(server.Err())
	}
	<-sent // on loopback, what is sent has arrived
	server.Stop()
	echo(server)
	answers, r := 0, Response{}
	for client.ReadResponse(&r) && r.Code == OK {
		answers++
	}
	if answers != requests {
		t.Errorf("%d requests answered, want %d", answers, requests)
	}
	if client.ReadResponse(&r) || client.Err() != io.EOF {
		t.Errorf("after the Goodbye: %v, want EOF", client.Err())
	}
	client.Close()
}

func TestStopEndsAnIdleServer(t *testing.T) {
	server, client := pair(t)
	ended := echo(server)
	server.Stop()
	var r Response
	if !client.ReadResponse(&r) || r.Code != Goodbye {
		t.Errorf("an idle client is told %v (%v), want goodbye", r.Code, client.Err())
	}
	client.Close()
	if got := ended(); got != ErrStopped {
		t.Errorf("the server's end says %v, want %v", got, ErrStopped)
	}
}

// A look at an idle connection sees what has arrived, and takes no time on a socket: a
// wait would be charged to the next request.
func TestQuiet(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(far net.Conn)
		want bool
	}{
		"there":   {func(net.Conn) {}, true},
		"a byte":  {func(far net.Conn) { far.Write([]byte{1}) }, false},
		"closed":  {func(far net.Conn) { far.Close() }, false},
		"a reset": {func(far net.Conn) { far.(*net.TCPConn).SetLinger(0); far.Close() }, false},
	} {
		far, near := tcp(t)
		c := &Conn{nc: near}
		near.SetReadDeadline(time.Unix(1, 0)) // left from a read
		const looks = 200
		begun := time.Now()
		for range looks {
			if !c.Quiet() {
				t.Fatalf("%s: not quiet before anything has happened", name)
			}
		}
		if each := time.Since(begun) / looks; each > time.Millisecond/2 {
			t.Errorf("a look takes %v, want no wait", each)
		}
		test.end(far)
		for late := time.Now().Add(5 * time.Second); !test.want && c.Quiet() && time.Now().Before(late); {
			runtime.Gosched() // it is on its way
		}
		if got := c.Quiet(); got != test.want {
			t.Errorf("%s: quiet %v, want %v", name, got, test.want)
		}
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

// A script is a connection that plays back a stream, and records what is written, to which it
// may reply.
type script struct {
	net.Conn
	in, out []byte
	reply   func([]byte) []byte // nil: does not
	closed  bool
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.out = append(s.out, p...)
	if s.reply != nil {
		s.in = append(s.in, s.reply(bytes.Clone(p))...)
	}
	return len(p), nil
}
func (s *script) Close() error                     { s.closed = true; return nil }
func (s *script) RemoteAddr() net.Addr             { return new(net.UnixAddr) }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// A client that goes on sending cannot hold up a drain: after Limits.Drain nothing more is
// read.
func TestDrainIsBounded(t *testing.T) {
	server := serverEnd(new(endless), Limits{Drain: 20 * time.Millisecond})
	server.Stop()
	for server.Ready() { // ends, though every read fills the buffer
		server.SkipRequest()
	}
	if server.Err() != ErrStopped {
		t.Errorf("the server's end says %v, want %v", server.Err(), ErrStopped)
	}
}

// An endless connection fills every read, with frames of one byte.
type endless struct {
	script
	at int
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n = range p {
		p[n] = []byte{0, 0, 0, 1, 77}[e.at%5]
		e.at++
	}
	return len(p), nil
}

// A client that does not read holds up a drain for what is left of Limits.Drain, whether
// the write began before Stop or after, and whether it sends answers or the Goodbye.
func TestClientThatDoesNotRead(t *testing.T) {
	for _, test := range []struct {
		stop   time.Duration // when; 0: first
		answer bool
	}{{0, true}, {time.Second, true}, {0, false}, {time.Second, false}} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			server := serverEnd(halfPipe{near}, Limits{Write: time.Minute, Drain: time.Second})
			if test.stop == 0 {
				server.Stop()
			} else {
				time.AfterFunc(test.stop, server.Stop)
			}
			began := time.Now()
			if test.answer {
				server.WriteResponse(&Response{Code: Busy})
				server.Flush()
			}
			server.Close()
			if took := time.Since(began); took != test.stop+time.Second || !server.dead {
				t.Errorf("%+v: ended after %v (%v), want %v", test, took, server.Err(), test.stop+time.Second)
			}
		})
	}
}

// A halfPipe says that its sending side is closed, and goes on: a pipe has no half-close.
type halfPipe struct{ net.Conn }

func (halfPipe) CloseWrite() error { return nil }

// A server that ends a connection outside a drain gives the Goodbye the time of any answer,
// and then reads on for a moment, so that a slow reader gets all of it.
func TestGoodbyeReachesASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		server, client := serverEnd(halfPipe{near}, Limits{Write: time.Minute, Drain: time.Second}), &Conn{nc: far}
		ended := echo(server)
		client.WriteRequest(get("key"))
		client.out = append(client.out, 0, 0, 0, 0) // a frame of no bytes ends the connection
		client.Flush()
		for _, want := range []Code{OK, Goodbye} {
			<-time.After(10 * time.Second)
			var r Response
			if client.ReadResponse(&r); r.Code != want {
				t.Errorf("read %v (%v), want %v", r.Code, client.Err(), want)
			}
		}
		<-time.After(lingerTime / 2)
		server.Stop() // does not end the reading
		if n, err := far.Write(make([]byte, 1<<20)); err != nil {
			t.Errorf("after the Goodbye the server takes %d bytes (%v), want it to read on", n, err)
		}
		began := time.Now()
		if ended(); time.Since(began) != lingerTime/2 {
			t.Errorf("the connection is closed %v later, want the rest of %v", time.Since(began), lingerTime)
		}
	})
}
