package wire

// What comes before the first frame: greetings and proofs, those of strangers too.

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
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var secretive = Hello{Purpose: Service, Group: "nodes", Number: 2, Fingerprint: 77, Secret: "a secret of many bytes"}

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
		{"http", []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"), "says HTTP/1.1", ErrMismatch},
		{"version", edit(9), "version 0", ErrMismatch},
		{"another port", edit(10), "Purpose(0)", ErrMismatch},
		{"another number", edit(15), "is number 3, not 2", ErrMismatch},
		{"another cluster", edit(16), "other nodes", ErrMismatch},
		{"digest", edit(24), "message types that differ", ErrMismatch},
		{"no room", full.out, ": all 9 places are taken (max_connections)", ErrRefused},
		{"half", good[:40], "reading the greeting", io.ErrUnexpectedEOF},
		{"nothing", nil, "reading the greeting", io.EOF},
	} {
		h, nc := service, &script{in: test.bytes}
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
	mark, err := AppendRequest(nil, &Request{Ops: []Op{{Kind: Put, Key: "stolen"}}})
	if err != nil {
		t.Fatal(err)
	}
	another := func(edit func(*Hello)) func(role string, server, client []byte) []byte {
		h := secretive
		edit(&h)
		return func(role string, server, client []byte) []byte { return mac(role, h, server, client) }
	}
	nonces := make(map[string]bool)
	for name, prove := range map[string]func(role string, server, client []byte) []byte{
		"good":     another(func(*Hello) {}),
		"replayed": func(role string, server, client []byte) []byte { return mac(role, secretive, client, server) },
		"reflected": func(role string, server, client []byte) []byte {
			return mac(map[string]string{"client": "server", "server": "client"}[role], secretive, server, client)
		},
		"another node's":      another(func(h *Hello) { h.Number = 1 }),
		"of the control port": another(func(h *Hello) { h.Purpose = ControlPort }),
		"another group's":     another(func(h *Hello) { h.Group = "clients" }),
		"with another secret": another(func(h *Hello) { h.Secret = "another secret, as long" }),
		"requests":            func(string, []byte, []byte) []byte { return bytes.Repeat(mark, 10) },
		"zeros":               func(string, []byte, []byte) []byte { return make([]byte, sha256.Size) },
	} {
		nc, nonce, good := new(script), make([]byte, nonceSize), name == "good"
		server, _ := Greet(nc, secretive, Limits{})
		challenge := bytes.Clone(nc.out[greetingSize-nonceSize:])
		nc.in, nc.out = slices.Concat(nonce, prove("client", challenge, nonce), mark), nil
		served, answer := server.Ready(), make([]byte, sha256.Size) // zeros: silence would look like a lost connection
		if good {
			answer = mac("server", secretive, challenge, nonce)
		}
		server.Close() // with a Goodbye if the client is welcome
		if served != good || !bytes.HasPrefix(nc.out, answer) || !good && (len(nc.out) > len(answer) || server.Err() != ErrSecret) {
			t.Errorf("%s: a server's end serves: %v (%v), and answers %x; want %v, %x", name, served, server.Err(), nc.out, good, answer)
		}

		nc = &script{in: posing(secretive, challenge), reply: func(proof []byte) []byte {
			nonce = proof[:nonceSize]
			if !bytes.Equal(proof[nonceSize:], mac("client", secretive, challenge, nonce)) {
				t.Errorf("the client proves itself with %x", proof)
			}
			return prove("server", challenge, nonce)
		}}
		_, err := Open(t.Context(), nc, secretive, Limits{})
		if err == nil != good || !good && (!errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "not the same")) {
			t.Errorf("%s: a client's end says %v, want it to find a good proof alone good", name, err)
		}
		if nonces[string(challenge)] || nonces[string(nonce)] {
			t.Error("a nonce is used twice")
		}
		nonces[string(challenge)], nonces[string(nonce)] = true, true
	}
	// The end of the connection says nothing about the secret.
	_, err = Open(t.Context(), &script{in: posing(secretive, make([]byte, nonceSize))}, secretive, Limits{})
	if err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("a client that hears nothing in place of a proof: %v, want an error, and not %v", err, ErrMismatch)
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
		heard := make(chan int, 2)
		addr := listen(t, func(nth int, nc net.Conn) {
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
		})
	}
}
