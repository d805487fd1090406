package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	service   = Hello{Service, "nodes", 2, 77, ""}
	secretive = Hello{Service, "nodes", 2, 77, "a secret of many bytes"}
)

// tcp returns the two ends of a connection over loopback.
func tcp(t *testing.T) (server, client net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	addr := listen(t, func(_ int, nc net.Conn) { accepted <- nc; <-t.Context().Done() })
	client, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return <-accepted, client
}

// serverEnd returns a server's end that has greeted.
func serverEnd(nc net.Conn, l Limits) *Conn {
	return &Conn{nc: nc, limits: l, server: true, hello: service}
}

// pair returns two ends that have agreed on a greeting.
func pair(t *testing.T) (server, client *Conn) {
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

func get(key string) *Request { return &Request{Ops: []Op{{Kind: Get, Key: key}}} }

// Garbage instead of a request is answered Invalid, and ends the connection.
func TestGarbageEndsTheConnection(t *testing.T) {
	for _, test := range []struct {
		name   string
		bytes  []byte
		answer []Code
	}{
		{"http", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), []Code{Goodbye}},
		{"garbage in a frame", framed([]byte("garbage")), []Code{Invalid, Goodbye}},
		{"no operation", framed(body(t, codecs.request, &Request{})), []Code{Invalid, Goodbye}},
	} {
		server, client := pair(t)
		ended := echo(server)
		client.out = append(client.out, test.bytes...)
		client.Flush()
		var got []Code
		for r := (Response{}); client.ReadResponse(&r); {
			got = append(got, r.Code)
		}
		if !slices.Equal(got, test.answer) || client.Err() != io.EOF {
			t.Errorf("%s: answers %v, then %v; want %v, then EOF", test.name, got, client.Err(), test.answer)
		}
		client.Close()
		if err := ended(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: the server's end says %v, want %v", test.name, err, ErrMalformed)
		}
	}
}

func TestBufferGrowsWithBytesReceived(t *testing.T) {
	server := serverEnd(play(append([]byte{0, 1, 0, 0}, make([]byte, 10)...)), Limits{}) // announces MaxFrame bytes
	if server.Ready() || !errors.Is(server.Err(), io.ErrUnexpectedEOF) {
		t.Errorf("half a frame is ready, or %v, want an unexpected EOF", server.Err())
	}
	if got := cap(server.in); got > firstBuffer {
		t.Errorf("14 bytes took a buffer of %d, want %d", got, firstBuffer)
	}
}

func TestLargestFrame(t *testing.T) {
	put := Op{Kind: Put, Key: "k", Value: make([]byte, MaxValue)}
	r := &Request{Ops: []Op{put, put, put, put}}
	r.Ops[3].Value = make([]byte, MaxValue-30) // nearly small enough
	for r.Validate() == ErrTooLarge {
		r.Ops[3].Value = r.Ops[3].Value[1:]
	}
	var client Conn
	err := client.WriteRequest(r)
	size := client.Unsent() - frameHeader
	r.Ops[3].Key += "k"
	more := client.WriteRequest(r)
	client.WriteRequest(get("next"))
	if err != nil || size != MaxFrame || more != ErrTooLarge {
		t.Errorf("a request of %d bytes: %v, and one byte more: %v, want %d bytes, and ErrTooLarge", size, err, more, MaxFrame)
	}
	server := serverEnd(play(client.out), Limits{})
	for _, want := range []string{"k", "next"} {
		var got Request
		if !server.Ready() || !server.ReadRequest(&got) || got.Ops[0].Key != want {
			t.Errorf("read %.50v (%v), want the request for %s", got, server.Err(), want)
		}
	}
}

func TestValuesThatDoNotFit(t *testing.T) {
	value := bytes.Repeat([]byte("v"), MaxValue)
	results := []Result{{Found, value}, {Found, value}, {Found, value}, {Found, value}, {Found, []byte("small")}, {Status: Missing}}
	want := slices.Clone(results)
	want[3] = Result{Status: TooLarge}
	var server Conn
	server.WriteResponse(&Response{Code: OK, Results: results})
	var r Response
	if err := DecodeResponse(server.out[frameHeader:], &r); err != nil || !reflect.DeepEqual([]Result(r.Results), want) {
		t.Errorf("results %v (%v), want %v", r.Results, err, want)
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

// An end waits for a frame, and for a proof, as long as its limits say, even if bytes trickle in.
func TestDeadlines(t *testing.T) {
	limits := Limits{Idle: time.Minute, Frame: 10 * time.Second, Write: 5 * time.Second}
	serve := func(h Hello) func(net.Conn) error {
		return func(nc net.Conn) error {
			c, err := Greet(nc, h, limits)
			for err == nil && c.Ready() {
				c.SkipRequest()
			}
			return cmp.Or(err, c.Err())
		}
	}
	open := func(nc net.Conn) error {
		_, err := Open(context.Background(), nc, secretive, limits)
		return err
	}
	type pieces = [][]byte
	frame, greeting := framed(body(t, codecs.request, get("key"))), posing(secretive, make([]byte, nonceSize))
	drops := slices.Collect(slices.Chunk(frame, 1))
	for _, test := range []struct {
		name  string
		near  func(net.Conn) error
		says  pieces        // the other end
		pause time.Duration // before each piece
		want  error
		after time.Duration
	}{
		{"silence", serve(service), nil, 0, ErrIdle, limits.Idle},
		{"half a frame", serve(service), pieces{frame[:5]}, 0, ErrSlow, limits.Frame},
		{"a byte a second", serve(service), drops, time.Second, ErrSlow, time.Second + limits.Frame},
		{"a frame every 50 s, then silence", serve(service), pieces{frame, frame}, 50 * time.Second, ErrIdle,
			100*time.Second + limits.Idle},
		{"no proof", serve(secretive), nil, 0, ErrSlow, proofTime},
		{"a proof, a byte a second", serve(secretive), drops, time.Second, ErrSlow, proofTime},
		{"no proof of the server's", open, pieces{greeting}, 0, ErrSlow, limits.Frame},
		{"the server's proof, a byte a second", open, append(pieces{greeting}, drops...), time.Second, ErrSlow, time.Second + limits.Frame},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			var both sync.WaitGroup // end when near is closed
			both.Go(func() { io.Copy(io.Discard, far) })
			both.Go(func() {
				for _, piece := range test.says {
					<-time.After(test.pause) // the clock is synctest's
					far.Write(piece)
				}
			})
			start := time.Now()
			err := test.near(near)
			if took := time.Since(start); !errors.Is(err, test.want) || took != test.after {
				t.Errorf("%s: ended after %v with %v, want after %v with %v", test.name, took, err, test.after, test.want)
			}
			near.Close()
			both.Wait()
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
		for i, want := range []time.Duration{4 * time.Second, 4 * time.Second, 4 * time.Second, 5 * time.Second} {
			server.WriteResponse(&Response{Code: Busy})
			began := time.Now()
			sent := server.Flush()
			if took := time.Since(began); sent != (i < 3) || took != want {
				t.Errorf("write %d: %v after %v (%v), want %v after %v", i, sent, took, server.Err(), i < 3, want)
			}
		}
	})
}

// All that has arrived is answered, in order, however much it is: at Stop, and then comes a
// Goodbye, and when the client has closed its sending side.
func TestStopTakesWhatHasArrived(t *testing.T) {
	const requests = 200 // several buffers
	for stop, last := range map[bool]Code{true: Goodbye, false: OK} {
		server, client := pair(t)
		for i := range requests {
			client.WriteRequest(get(strings.Repeat("k", 1+i)))
		}
		client.Flush()       // on loopback, what is sent has arrived
		if !server.Ready() { // it has read, at most, its first buffer
			t.Fatal(server.Err())
		}
		if stop {
			server.Stop()
		} else {
			client.nc.(*net.TCPConn).CloseWrite()
		}
		echo(server)
		answers, r := 0, Response{}
		for client.ReadResponse(&r) && r.Code == OK && len(r.Results[0].Value) == 1+answers {
			answers++
		}
		if answers != requests || r.Code != last || client.ReadResponse(&r) || client.Err() != io.EOF {
			t.Errorf("%d requests answered, want %d; then %v (%v), want %v and EOF", answers, requests, r.Code, client.Err(), last)
		}
		client.Close()
	}
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
	for name, end := range map[string]func(far net.Conn){
		"a byte":  func(far net.Conn) { far.Write([]byte{1}) },
		"closed":  func(far net.Conn) { far.Close() },
		"a reset": func(far net.Conn) { far.(*net.TCPConn).SetLinger(0); far.Close() },
	} {
		far, near := tcp(t)
		c := &Conn{nc: near}
		near.SetReadDeadline(time.Unix(1, 0)) // left from a read
		const looks = 200
		begun := time.Now()
		for range looks {
			if !c.Quiet() {
				t.Fatalf("not quiet before there is %s", name)
			}
		}
		if each := time.Since(begun) / looks; each > time.Millisecond/2 {
			t.Errorf("a look takes %v, want no wait", each)
		}
		end(far)
		for late := time.Now().Add(5 * time.Second); c.Quiet(); runtime.Gosched() { // it is on its way
			if time.Now().After(late) {
				t.Fatalf("quiet after %s", name)
			}
		}
	}
}

// A script is a connection that plays back a stream, and records what is written, to which it
// may reply.
type script struct {
	net.Conn
	in     bytes.Buffer
	out    []byte
	reply  func([]byte) []byte // nil: does not
	closed bool
}

func play(stream []byte) *script { return &script{in: *bytes.NewBuffer(stream)} }

func (s *script) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *script) Write(p []byte) (int, error) {
	s.out = append(s.out, p...)
	if s.reply != nil {
		s.in.Write(s.reply(bytes.Clone(p)))
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
	frames := bytes.Repeat([]byte{0, 0, 0, 1, 77}, MaxFrame)
	nc := new(script)
	server := serverEnd(nc, Limits{Drain: 20 * time.Millisecond})
	server.Stop()
	for nc.in.Write(frames); server.Ready(); server.SkipRequest() { // ends, though every read fills the buffer
		if nc.in.Len() < maxBuffer {
			nc.in.Write(frames)
		}
	}
	if server.Err() != ErrStopped {
		t.Errorf("the server's end says %v, want %v", server.Err(), ErrStopped)
	}
}

// A client that does not read holds up a drain for what is left of Limits.Drain, whether
// the write began before Stop or after, and whether it sends answers or the Goodbye.
func TestClientThatDoesNotRead(t *testing.T) {
	for _, test := range []struct {
		begin  time.Duration // of the write; Stop is after a second
		answer bool
	}{{0, true}, {1500 * time.Millisecond, true}, {0, false}, {1500 * time.Millisecond, false}} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			server := serverEnd(halfPipe{near}, Limits{Write: time.Minute, Drain: time.Second})
			began := time.Now()
			time.AfterFunc(time.Second, server.Stop)
			<-time.After(test.begin)
			if test.answer {
				server.WriteResponse(&Response{Code: Busy})
				server.Flush()
			}
			server.Close()
			if took := time.Since(began); took != 2*time.Second || !server.dead {
				t.Errorf("%+v: ended after %v (%v), want 2s", test, took, server.Err())
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

// posing returns a greeting with the nonce of another server, as a relay would send it.
func posing(h Hello, nonce []byte) []byte {
	var nc script
	Greet(&nc, h, Limits{})
	return append(nc.out[:greetingSize-nonceSize], nonce...)
}

func TestGreetingMismatch(t *testing.T) {
	good := posing(service, make([]byte, nonceSize))
	edit := func(at int) []byte { b := bytes.Clone(good); b[at] ^= 1; return b }
	var full script
	Refuse(&full, "all 9 places are taken (max_connections)")
	for _, test := range []struct {
		name  string
		bytes []byte
		want  string
		is    error
	}{
		{"it alone has a secret", posing(secretive, make([]byte, nonceSize)), "asks for a secret", ErrMismatch},
		{"the client alone has a secret", good, "asks for no secret", ErrMismatch},
		{"version", edit(9), "version 0", ErrMismatch},
		{"another port", edit(10), "Purpose(0)", ErrMismatch},
		{"another number", edit(15), "is number 3, not 2", ErrMismatch},
		{"another cluster", edit(16), "other nodes", ErrMismatch},
		{"digest", edit(24), "message types that differ", ErrMismatch},
		{"no room", full.out, ": all 9 places are taken (max_connections)", ErrRefused},
		{"half", good[:40], "reading the greeting", io.ErrUnexpectedEOF},
	} {
		h, nc := service, play(test.bytes)
		if bytes.Equal(test.bytes, good) {
			h = secretive
		}
		_, err := Open(t.Context(), nc, h, Limits{})
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %v with %q", test.name, err, test.is, test.want)
		}
		if len(nc.out) > 0 || !nc.closed {
			t.Errorf("%s: the client has sent %x and closed %v, want nothing, and closed", test.name, nc.out, nc.closed)
		}
	}
}

// A proof is good for one end, one purpose, one server and two nonces: nobody can replay it,
// reflect it or relay it. Nodes dial each other, so an impostor of a node can ask for proofs.
// Nothing is decoded before the proof, and an end that refuses one proves nothing in return.
func TestSecret(t *testing.T) {
	mark := framed(body(t, codecs.request, &Request{Ops: []Op{{Kind: Put, Key: "stolen"}}}))
	type prover = func(role, other string, server, client []byte) []byte
	with := func(h Hello) prover {
		return func(role, _ string, server, client []byte) []byte { return mac(role, h, server, client) }
	}
	nonces := make(map[string]bool)
	for name, prove := range map[string]prover{
		"good":                with(secretive),
		"replayed":            func(role, _ string, server, client []byte) []byte { return mac(role, secretive, client, server) },
		"reflected":           func(_, other string, server, client []byte) []byte { return mac(other, secretive, server, client) },
		"another node's":      with(Hello{Service, "nodes", 1, 77, secretive.Secret}),
		"of the control port": with(Hello{ControlPort, "nodes", 2, 77, secretive.Secret}),
		"another group's":     with(Hello{Service, "clients", 2, 77, secretive.Secret}),
		"with another secret": with(Hello{Service, "nodes", 2, 77, "another secret, as long"}),
		"requests":            func(string, string, []byte, []byte) []byte { return bytes.Repeat(mark, 10) },
	} {
		nc, nonce, good := new(script), make([]byte, nonceSize), name == "good"
		server, _ := Greet(nc, secretive, Limits{})
		challenge := bytes.Clone(nc.out[greetingSize-nonceSize:])
		nc.in.Write(slices.Concat(nonce, prove("client", "server", challenge, nonce), mark))
		nc.out = nil
		served, answer := server.Ready(), make([]byte, sha256.Size) // zeros: silence would look like a lost connection
		if good {
			answer = mac("server", secretive, challenge, nonce)
		}
		server.Close() // with a Goodbye if the client is welcome
		if served != good || !bytes.HasPrefix(nc.out, answer) || !good && (len(nc.out) > len(answer) || server.Err() != ErrSecret) {
			t.Errorf("%s: a server's end serves: %v (%v), and answers %x; want %v, %x", name, served, server.Err(), nc.out, good, answer)
		}

		nc = play(posing(secretive, challenge))
		nc.reply = func(proof []byte) []byte {
			nonce = proof[:nonceSize]
			if !bytes.Equal(proof[nonceSize:], mac("client", secretive, challenge, nonce)) {
				t.Errorf("the client proves itself with %x", proof)
			}
			return prove("server", "client", challenge, nonce)
		}
		_, err := Open(t.Context(), nc, secretive, Limits{})
		if err == nil != good || !good && (!errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "not the same")) {
			t.Errorf("%s: a client's end says %v, want it to find a good proof alone good", name, err)
		}
		if nonces[string(challenge)] || nonces[string(nonce)] {
			t.Error("a nonce is used twice")
		}
		nonces[string(challenge)], nonces[string(nonce)] = true, true
	}
}

// listen accepts connections until the end of the test, and serves each in a goroutine of its
// own.
func listen(t *testing.T, serve func(nth int, nc net.Conn)) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() { // until ln is closed
		for nth := 1; ; nth++ {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { defer nc.Close(); serve(nth, nc) }) // until the client has left
		}
	})
	t.Cleanup(func() { ln.Close(); conns.Wait() })
	return ln.Addr().String()
}

// A server that waits for its client to speak, or says something else, is found out at once. A
// Lockstep server that does not greet yet hears nothing, and its greeting is waited for.
func TestServersThatDoNotGreet(t *testing.T) {
	t.Parallel()
	late := func(name string, other func(net.Conn)) func(int, net.Conn) {
		heard := make(chan int, 2)
		return func(nth int, nc net.Conn) {
			if nth == 1 {
				if n := <-heard; n > 0 {
					t.Errorf("a server that %s was told something", name)
				}
				Greet(nc, service, Limits{})
				nc.Read(make([]byte, 1))
				return
			}
			other(nc)
			n, _ := nc.Read(make([]byte, 1))
			heard <- n
			<-t.Context().Done()
		}
	}
	var all sync.WaitGroup // each waits for a greeting
	defer all.Wait()
	for _, test := range []struct {
		says  string // "": a greeting, late
		serve func(nth int, nc net.Conn)
	}{
		{"HTTP/1.1 400 Bad Request", func(_ int, nc net.Conn) {
			if _, err := bufio.NewReader(nc).ReadString('\n'); err == nil {
				fmt.Fprint(nc, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")
			}
		}},
		{"220 a mail", func(_ int, nc net.Conn) { // which is shorter than a greeting
			fmt.Fprint(nc, "220 a mail")
			nc.Read(make([]byte, 1))
		}},
		{"", late("is silent", func(net.Conn) {})},
		{"", late("greets the next", func(nc net.Conn) { Greet(nc, service, Limits{}) })},
		{"", late("hangs up", func(nc net.Conn) { nc.Close() })}, // as a proxy may
	} {
		addr := listen(t, test.serve)
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer nc.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*quietTime)
			defer cancel()
			c, err := Open(ctx, nc, service, Limits{Frame: time.Second})
			want := addr + " is not a Lockstep server: it says " + test.says
			if test.says != "" && (!errors.Is(err, ErrMismatch) || err.Error() != want) {
				t.Errorf("Open: %v, want %q", err, want)
			} else if test.says == "" && (err != nil || c.limits.Frame != time.Second) {
				t.Errorf("a server that greets late: %v, want its greeting, and the limits as before", err)
			}
		})
	}
}
