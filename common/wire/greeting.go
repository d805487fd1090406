package wire

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"lockstep/common/text"
)

// Version is that of the protocol. Ends of different versions part at the greeting.
const Version = 1

// A Purpose says what a port is for.
type Purpose uint8

const (
	Service     Purpose = iota + 1 // requests and responses
	ControlPort                    // barrier and stats
)

func (p Purpose) String() string {
	return nameOf(uint8(p), "Purpose", "Purpose(0)", "service", "control")
}

// A Hello is what the two ends of a connection must agree on: a server passes its own, a
// client the one it expects.
type Hello struct {
	Purpose     Purpose
	Group       string // "nodes" or "clients"
	Number      int    // the server's, in its group
	Fingerprint uint64 // of the cluster's configuration
	Secret      string // empty: no proof is required
}

// Limits bound how long one end waits for the other; 0 means no limit.
type Limits struct {
	Idle  time.Duration // for the first byte of a frame
	Frame time.Duration // from there to its last byte; and for a proof, which a server waits for 2 s at most
	Write time.Duration // for one Flush
	Drain time.Duration // server, after Stop: for reading what has arrived
}

// The server speaks first, 64 bytes:
//
//	 0  8  magic
//	 8  2  version
//	10  1  purpose
//	11  1  1 if a proof is required
//	12  4  the server's number
//	16  8  fingerprint of the cluster's configuration
//	24  8  digest of the types that travel
//	32 32  nonce
//
// or, if it has no room for the connection, 64 bytes of text that begin with
// "lockstep: ".
const (
	greetingSize = 64
	magic        = "lockstep"
	refusal      = magic + ": "
	nonceSize    = 32
	proofSize    = nonceSize + sha256.Size // the client's; the server answers with sha256.Size
	proofTime    = 2 * time.Second         // how long a client may take to send it
)

var byteOrder = binary.BigEndian

var (
	// ErrRefused is returned by Open if the server has no room for the connection.
	ErrRefused = errors.New("connection refused by the server")
	// ErrMismatch is returned by Open if the two ends disagree about who they are or
	// what they speak. Trying again does not help.
	ErrMismatch = errors.New("the two ends disagree")
)

// Refused is an ErrRefused with what the server says, made printable.
type Refused string

func (r Refused) Error() string { return ErrRefused.Error() + ": " + string(r) }

func (r Refused) Is(target error) bool { return target == ErrRefused }

// A mismatch is an ErrMismatch that begins with the server's address and says what differs.
type mismatch string

func (m mismatch) Error() string { return string(m) }

func (m mismatch) Is(target error) bool { return target == ErrMismatch }

// Greet writes the greeting of a server to nc, which then belongs to the Conn. It does not
// wait for the client: a greeting fits any socket's buffer, and the first Ready reads the
// client's proof.
func Greet(nc net.Conn, h Hello, l Limits) (*Conn, error) {
	g := make([]byte, greetingSize)
	copy(g, magic)
	byteOrder.PutUint16(g[8:], Version)
	g[10] = byte(h.Purpose)
	byteOrder.PutUint32(g[12:], uint32(h.Number))
	byteOrder.PutUint64(g[16:], h.Fingerprint)
	byteOrder.PutUint64(g[24:], digest)
	rand.Read(g[32:])
	c := &Conn{nc: nc, limits: l, server: true, hello: h, out: g}
	if h.Secret != "" {
		g[11] = 1
		c.nonce = bytes.Clone(g[32:])
	}
	if !c.Flush() {
		nc.Close()
		return nil, c.err
	}
	c.readDeadline()     // not by the goroutine that will wait: its stack would grow from 2 to 4 KiB for that
	c.idle = time.Time{} // which begins when that goroutine waits
	return c, nil
}

// Refuse writes the first 53 characters of why to nc instead of a greeting, and closes nc.
func Refuse(nc net.Conn, why string) {
	nc.SetWriteDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(nc, "%-*.*s\n", greetingSize-1, greetingSize-1, refusal+why)
	nc.Close()
}

// Open reads the greeting of a server from nc, which then belongs to the Conn, and checks
// it against the one expected. It waits until ctx ends, since a server that is not serving
// yet is silent. With a secret, both ends prove that they know it, the client first. On an
// error nc is closed, and nothing was sent that a server could take for a request.
func Open(ctx context.Context, nc net.Conn, h Hello, l Limits) (*Conn, error) {
	c := &Conn{nc: nc, limits: l}
	release := c.Bind(ctx)
	err := c.open(h)
	if !release() {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) open(h Hello) error {
	g, ok := c.readFull(greetingSize, quietTime)
	said := c.in
	if c.err == ErrSlow && len(said) == 0 {
		said = provoke(c.nc.RemoteAddr(), "")
	}
	if len(said) > 0 && !bytes.HasPrefix(said, []byte(magic)[:min(len(said), len(magic))]) {
		line, _, _ := strings.Cut(string(said[:min(len(said), greetingSize)]), "\r")
		return mismatch(fmt.Sprintf("%v is not a Lockstep server: it says %s", c.nc.RemoteAddr(), text.Quote(line, greetingSize)))
	}
	if c.err == ErrSlow { // it is a busy one, or its nodes are not all there
		c.err = nil
		g, ok = c.readFull(greetingSize, 0)
	}
	if !ok {
		return fmt.Errorf("reading the greeting: %w", c.err)
	}
	g = bytes.Clone(g) // the server's proof takes its place
	if bytes.HasPrefix(g, []byte(refusal)) {
		return Refused(text.Quote(string(bytes.TrimSpace(g[len(refusal):])), greetingSize))
	}
	if err := h.check(g); err != nil {
		return mismatch(fmt.Sprintf("%v %v", c.nc.RemoteAddr(), err))
	}
	if h.Secret == "" {
		return nil
	}
	return c.prove(h, g[32:])
}

// quietTime is how long a client waits for a greeting before it asks whether there will be one.
const quietTime = 250 * time.Millisecond

// provoke returns the first bytes, at most a greeting's length, from a server that waits for its
// clients to speak, as those of HTTP and Redis do. On a connection of its own it sends words, at
// first none, and closes the sending side. A Lockstep server that does not greet has not accepted
// the connection, so it does not end one whose client has stopped sending. Words are sent only to
// a server that does: in the log of another they would be noise.
func provoke(addr net.Addr, words string) []byte {
	nc, err := net.DialTimeout(addr.Network(), addr.String(), quietTime)
	if err != nil {
		return nil
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(quietTime))
	io.WriteString(nc, words)
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	answer, err := io.ReadAll(io.LimitReader(nc, greetingSize))
	if ended := err == nil; ended && len(answer) == 0 && words == "" {
		return provoke(addr, "x\r\n")
	}
	return answer
}

// check compares a greeting with the one expected. The error begins with a verb: its subject is
// the server.
func (h Hello) check(g []byte) error {
	version, purpose, asked := byteOrder.Uint16(g[8:]), Purpose(g[10]), g[11] != 0
	number, fingerprint := int(byteOrder.Uint32(g[12:])), byteOrder.Uint64(g[16:])
	switch {
	case version != Version:
		return fmt.Errorf("speaks version %d, this program version %d: build both from one source", version, Version)
	case byteOrder.Uint64(g[24:]) != digest:
		return errors.New("has message types that differ from this program's: build both from one source")
	case purpose != h.Purpose:
		return fmt.Errorf("is a %v port, not a %v port: are addr and control mixed up?", purpose, h.Purpose)
	case number != h.Number:
		return fmt.Errorf("is number %d, not %d: are the addresses in the same order everywhere?", number, h.Number)
	case fingerprint != h.Fingerprint:
		return fmt.Errorf("has a configuration with other nodes (fingerprint %016x, here %016x): give both the same properties.json", fingerprint, h.Fingerprint)
	case asked && h.Secret == "":
		return errors.New("asks for a secret, and none is set here: set property secret or LOCKSTEP_SECRET")
	case !asked && h.Secret != "":
		return errors.New("asks for no secret, so it may be an impostor: give it the same secret")
	}
	return nil
}

// prove sends this client's proof and waits for the server's.
func (c *Conn) prove(h Hello, serverNonce []byte) error {
	clientNonce := make([]byte, nonceSize)
	rand.Read(clientNonce)
	c.out = append(append(c.out, clientNonce...), mac("client", h, serverNonce, clientNonce)...)
	if !c.Flush() {
		return c.err
	}
	answer, ok := c.readFull(sha256.Size, c.limits.Frame)
	if !ok {
		return fmt.Errorf("waiting for the server's proof: %w", c.err)
	}
	if !hmac.Equal(answer, mac("server", h, serverNonce, clientNonce)) {
		return mismatch(fmt.Sprintf("%v has another secret: it is not the same on both sides", c.nc.RemoteAddr()))
	}
	return nil
}

// Prove waits for the client's proof, if there is a secret, and answers it, before anything is
// decoded. It reports whether the client is welcome. A server need not call it before Ready.
func (c *Conn) Prove() bool {
	if c.nonce == nil || c.err != nil {
		return c.err == nil
	}
	proof, ok := c.readFull(proofSize, min(cmp.Or(c.limits.Frame, proofTime), proofTime))
	if !ok {
		return false
	}
	clientNonce := proof[:nonceSize]
	if !hmac.Equal(proof[nonceSize:], mac("client", c.hello, c.nonce, clientNonce)) {
		c.out = append(c.out, make([]byte, sha256.Size)...) // not a proof, but silence would look like a lost connection
		c.Flush()
		c.err = ErrSecret
		return false
	}
	c.out = append(c.out, mac("server", c.hello, c.nonce, clientNonce)...)
	c.nonce = nil
	return c.Flush()
}

// mac is the proof that the end with this role knows the secret. It is valid only for
// this purpose, this server and these two nonces, so a recorded one cannot be reused.
func mac(role string, h Hello, serverNonce, clientNonce []byte) []byte {
	m := hmac.New(sha256.New, []byte(h.Secret))
	// %q separates the fields, whatever they contain.
	fmt.Fprintf(m, "lockstep %q %d %d %q %d %s%s", role, Version, h.Purpose, h.Group, h.Number, serverNonce, clientNonce)
	return m.Sum(nil)
}
