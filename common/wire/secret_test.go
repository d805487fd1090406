package wire

// Attacks without the secret: replay, reflection, relay and silence.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var secretive = Hello{Purpose: Service, Group: "nodes", Number: 2, Fingerprint: 77, Secret: "a secret of many bytes"}

// mark is a request that a server must not decode.
var mark, _ = AppendRequest(nil, &Request{Ops: []Op{{Kind: Put, Key: "stolen"}}})

// serve runs a server's end of h. It returns the other end and the greeting read from it;
// the channel receives what ended the server's end. A decoded request fails the test.
func serve(t *testing.T, h Hello) (nc net.Conn, greeting []byte, ended <-chan error) {
	t.Helper()
	s, c := tcp(t)
	server, err := Greet(s, h, Limits{Idle: 10 * time.Second, Frame: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { // ends with the connection
		for server.Ready() {
			var r Request
			for server.ReadRequest(&r) {
				t.Errorf("the server decoded %v without a proof", r)
			}
		}
		err := server.Err()
		server.Close()
		done <- err
	}()
	greeting = make([]byte, greetingSize)
	if _, err := io.ReadFull(c, greeting); err != nil {
		t.Fatal(err)
	}
	return c, greeting, done
}

// refused sends a proof and a request. The server must refuse both, and prove nothing in
// return.
func refused(t *testing.T, nc net.Conn, ended <-chan error, proof []byte) {
	t.Helper()
	nc.Write(append(bytes.Clone(proof), mark...))
	nc.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(nc)
	if len(bytes.Trim(answer, "\x00")) > 0 {
		t.Errorf("the server answers %x, want no proof", answer)
	}
	if err := <-ended; !errors.Is(err, ErrSecret) {
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
	<-ended

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
	second.Write(append(bytes.Clone(greeting[32:]), greeting[32:]...))
	oracle := make([]byte, sha256.Size)
	io.ReadFull(second, oracle)
	second.Close()
	if err := <-secondEnded; !errors.Is(err, ErrSecret) {
		t.Errorf("the second connection: %v, want %v", err, ErrSecret)
	}
	refused(t, first, ended, append(bytes.Clone(greeting[32:]), oracle...))
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
		t.Run(name, func(t *testing.T) {
			other := secretive
			edit(&other)
			for _, way := range [][2]Hello{{secretive, other}, {other, secretive}} {
				nc, greeting, ended := serve(t, way[0])
				refused(t, nc, ended, prover(t, way[1], posing(way[1], greeting[32:]), silence))
			}
		})
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
	server := func(nc net.Conn) error {
		c, err := Greet(nc, secretive, limits)
		if err == nil {
			c.Ready()
			err = c.Err()
		}
		return err
	}
	client := func(nc net.Conn) error {
		_, err := Open(context.Background(), nc, secretive, limits)
		return err
	}
	for _, every := range []time.Duration{0, time.Second} {
		for role, wait := range map[string]func(net.Conn) error{"server": server, "client": client} {
			limit := map[string]time.Duration{"server": proofTime, "client": limits.Frame}[role]
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
						for every > 0 {
							if _, err := far.Write([]byte{1}); err != nil {
								return
							}
							<-time.After(every)
						}
					})
					start := time.Now()
					if err := wait(near); !errors.Is(err, ErrSlow) || time.Since(start) != limit {
						t.Errorf("ended after %v with %v, want %v after %v", time.Since(start), err, ErrSlow, limit)
					}
					near.Close()
					dripping.Wait()
				})
			})
		}
	}
}
