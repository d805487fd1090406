package wire

// Foreign servers, and attacks without the secret: replay, reflection, relay and silence.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var secretive = Hello{Purpose: Service, Group: "nodes", Number: 2, Fingerprint: 77, Secret: "a secret of many bytes"}

// mark is a request that a server must not decode.
var mark, _ = AppendRequest(nil, &Request{Ops: []Op{{Kind: Put, Key: "stolen"}}})

// serve runs a server's end of h, which echoes. It returns the other end and the greeting read
// from it; ended waits for what ended the server's end.
func serve(t *testing.T, h Hello) (nc net.Conn, greeting []byte, ended func() error) {
	t.Helper()
	s, nc := tcp(t)
	server, err := Greet(s, h, Limits{Idle: 10 * time.Second, Frame: 10 * time.Second})
	greeting = make([]byte, greetingSize)
	if _, failed := io.ReadFull(nc, greeting); errors.Join(err, failed) != nil {
		t.Fatal(err, failed)
	}
	return nc, greeting, echo(server)
}

// refused sends a proof and a request. The server must refuse both: it answers nothing, and
// proves nothing in return.
func refused(t *testing.T, nc net.Conn, ended func() error, proof []byte) {
	t.Helper()
	nc.Write(slices.Concat(proof, mark))
	nc.(*net.TCPConn).CloseWrite()
	if answer, _ := io.ReadAll(nc); len(bytes.Trim(answer, "\x00")) > 0 {
		t.Errorf("the server answers %x, want no proof", answer)
	}
	if err := ended(); err != ErrSecret {
		t.Errorf("the server's end says %v, want %v", err, ErrSecret)
	}
}

// prover returns the proof with which a client that knows the secret answers a greeting.
// The client then hears what the answer makes of that, and must find that it proves nothing.
func prover(t *testing.T, h Hello, greeting []byte, answer func(proof []byte) []byte) []byte {
	t.Helper()
	s, c := tcp(t)
	opened := make(chan error, 1)
	go func() { // ends with s
		_, err := Open(t.Context(), c, h, Limits{})
		opened <- err
	}()
	s.Write(greeting)
	proof := make([]byte, proofSize)
	if _, err := io.ReadFull(s, proof); err != nil {
		t.Fatalf("the client sends no proof: %v, %v", err, <-opened)
	}
	lie := answer(proof)
	s.Write(lie)
	s.Close()
	if err := <-opened; err == nil || errors.Is(err, ErrMismatch) != (len(lie) > 0) {
		t.Errorf("a client that hears %x in place of a proof: %v, want %v, if it hears anything", lie, err, ErrMismatch)
	}
	return proof
}

// silence answers a proof with the end of the connection, which says nothing about the secret.
func silence([]byte) []byte { return nil }

// posing returns a greeting with the nonce of another server, as a relay would send it.
func posing(h Hello, nonce []byte) []byte {
	var nc script
	Greet(&nc, h, Limits{})
	return append(nc.out[:greetingSize-nonceSize], nonce...)
}

func TestReplayedProofIsRefused(t *testing.T) {
	nc, greeting, ended := serve(t, secretive)
	good := prover(t, secretive, greeting, silence)
	nc.Write(good)
	answer := make([]byte, sha256.Size)
	if _, err := io.ReadFull(nc, answer); err != nil || bytes.Equal(answer, make([]byte, sha256.Size)) {
		t.Fatalf("a good proof is answered %x, %v", answer, err)
	}
	nc.Close()
	ended()

	nc, again, ended := serve(t, secretive)
	if bytes.Equal(again[32:], greeting[32:]) {
		t.Error("two greetings have the same nonce")
	}
	refused(t, nc, ended, good)

	// The server's half, played to another client, which has another nonce.
	prover(t, secretive, greeting, func([]byte) []byte { return answer })
}

func TestReflectedProofIsRefused(t *testing.T) {
	// To a client, its own nonce and proof.
	prover(t, secretive, posing(secretive, make([]byte, nonceSize)), func(proof []byte) []byte { return proof[nonceSize:] })

	// To a server, its own nonce, and its answer to that on a second connection.
	first, greeting, ended := serve(t, secretive)
	second, _, secondEnded := serve(t, secretive)
	nonce := greeting[32:]
	second.Write(slices.Concat(nonce, nonce))
	oracle := make([]byte, sha256.Size)
	io.ReadFull(second, oracle)
	second.Close()
	secondEnded()
	refused(t, first, ended, slices.Concat(nonce, oracle))
}

// A proof that a client made for one server is useless to another, even with the nonce of
// that one. Nodes dial each other, so an impostor of a node can ask for proofs.
func TestRelayedProofIsRefused(t *testing.T) {
	for name, edit := range map[string]func(*Hello){
		"another node's":      func(h *Hello) { h.Number = 1 },
		"of the control port": func(h *Hello) { h.Purpose = ControlPort },
		"another group's":     func(h *Hello) { h.Group = "clients" },
		"with another secret": func(h *Hello) { h.Secret = "another secret, as long" },
	} {
		other := secretive
		edit(&other)
		for _, way := range [][2]Hello{{secretive, other}, {other, secretive}} {
			t.Run(name, func(t *testing.T) {
				nc, greeting, ended := serve(t, way[0])
				refused(t, nc, ended, prover(t, way[1], posing(way[1], greeting[32:]), silence))
			})
		}
	}
}

// Nothing is decoded before the proof.
func TestRequestInPlaceOfAProof(t *testing.T) {
	anOldWay := append(make([]byte, nonceSize), mac("client", Hello{}, nil, nil)...)
	for _, first := range [][]byte{bytes.Repeat(mark, 10), make([]byte, proofSize), anOldWay} {
		nc, _, ended := serve(t, secretive)
		refused(t, nc, ended, first)
	}
}

// A client's proof must arrive within 2 s, a server's within Limits.Frame, even if bytes trickle in.
func TestSilenceInPlaceOfAProof(t *testing.T) {
	limits := Limits{Idle: time.Hour, Frame: 10 * time.Second, Write: time.Second}
	for _, every := range []time.Duration{0, time.Second} {
		for role, limit := range map[string]time.Duration{"server": proofTime, "client": limits.Frame} {
			t.Run(fmt.Sprint(role, " waits, a byte every ", every), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					var dripping sync.WaitGroup
					dripping.Go(func() { // ends when the other end is closed
						if role == "client" {
							far.Write(posing(secretive, make([]byte, nonceSize)))
							io.ReadFull(far, make([]byte, proofSize))
						} else {
							io.ReadFull(far, make([]byte, greetingSize))
						}
						for failed := every == 0; !failed; <-time.After(every) {
							_, err := far.Write([]byte{1})
							failed = err != nil
						}
					})
					start := time.Now()
					var err error
					if role == "client" {
						_, err = Open(context.Background(), near, secretive, limits)
					} else if c, greeted := Greet(near, secretive, limits); greeted == nil {
						c.Ready()
						err = c.Err()
					}
					if took := time.Since(start); !errors.Is(err, ErrSlow) || took != limit {
						t.Errorf("ended after %v with %v, want %v after %v", took, err, ErrSlow, limit)
					}
					near.Close()
					dripping.Wait()
				})
			})
		}
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

// A server that waits for its client to speak, or says something else, is found out at once.
func TestForeignServers(t *testing.T) {
	t.Parallel()
	afterLine := func(answer string) func(int, net.Conn) {
		return func(_ int, nc net.Conn) {
			if _, err := bufio.NewReader(nc).ReadString('\n'); err == nil {
				fmt.Fprint(nc, answer)
			}
		}
	}
	var all sync.WaitGroup // each waits for a greeting
	defer all.Wait()
	for says, serve := range map[string]func(int, net.Conn){
		"HTTP/1.1 400 Bad Request": afterLine("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request"),
		`-ERR unknown command 'x'`: afterLine("-ERR unknown command 'x'\r\n"),
		"at the end": func(_ int, nc net.Conn) {
			if n, err := nc.Read(make([]byte, 1)); n == 0 && err == io.EOF {
				fmt.Fprint(nc, "at the end")
			}
		},
		"220 a mail": func(_ int, nc net.Conn) { // which is shorter than a greeting
			fmt.Fprint(nc, "220 a mail")
			nc.Read(make([]byte, 1))
		},
	} {
		addr := listen(t, serve)
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*quietTime)
			defer cancel()
			_, err := Open(ctx, nc, service, Limits{})
			if want := addr + " is not a Lockstep server: it says " + says; !errors.Is(err, ErrMismatch) || fmt.Sprint(err) != want {
				t.Errorf("Open: %v, want %q", err, want)
			}
		})
	}
}

// A Lockstep server that does not greet yet hears nothing, and its greeting is waited for.
func TestUnservedIsNotForeign(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	defer all.Wait()
	for name, other := range map[string]func(net.Conn){
		"is silent":       func(net.Conn) {},
		"greets the next": func(nc net.Conn) { Greet(nc, service, Limits{}) },
		"hangs up":        func(nc net.Conn) { nc.Close() }, // as a proxy may
	} {
		asked, heard := make(chan bool, 2), make(chan int, 2)
		addr := listen(t, func(nth int, nc net.Conn) {
			if nth == 1 {
				<-asked
				Greet(nc, service, Limits{})
				nc.Read(make([]byte, 1))
				return
			}
			other(nc)
			n, _ := nc.Read(make([]byte, 1))
			heard <- n
			asked <- true
			<-t.Context().Done()
		})
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			c, err := Open(t.Context(), nc, service, Limits{Frame: time.Second})
			if err != nil || c.limits.Frame != time.Second {
				t.Errorf("a server that %s: %v, want its greeting, and the limits as before", name, err)
				return
			}
			c.Close()
			if n := <-heard; n > 0 {
				t.Errorf("a server that %s was told something", name)
			}
		})
	}
}
