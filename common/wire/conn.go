package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	firstBuffer = 1 << 10  // bytes: holds a dozen small requests
	keptBuffer  = 16 << 10 // a larger one is let go once it is empty
	maxBuffer   = frameHeader + MaxFrame

	// MaxUnsent is how many bytes of answers a turn collects before it sends them.
	MaxUnsent = 64 << 10

	// How long a stopping server waits for bytes that have arrived already, and
	// how long a closing one reads on so that its last answers are not lost.
	sweepTime  = 20 * time.Millisecond
	lingerTime = time.Second
)

var (
	// ErrSecret ends a connection whose client does not know the secret.
	ErrSecret = errors.New("the client does not know the secret")
	// ErrIdle ends a connection on which no frame began for Limits.Idle.
	ErrIdle = errors.New("idle for too long")
	// ErrSlow ends a connection on which a frame took longer than Limits.Frame.
	ErrSlow = errors.New("a frame took too long")
	// ErrMalformed ends a connection whose other end breaks the protocol.
	ErrMalformed = errors.New("malformed")
	// ErrStopped ends a connection after Stop.
	ErrStopped = errors.New("stopped")
)

// A Conn is one end of a connection. It belongs to one goroutine at a time; only
// Stop may be called by others meanwhile. The first error sticks: after it, Ready
// and all that reads or writes say false, and Err says why.
type Conn struct {
	nc     net.Conn
	limits Limits
	server bool
	hello  Hello  // server: what a proof must be made for
	nonce  []byte // server: what a proof must answer; nil once it has
	talks  bool   // server: a Goodbye is understood

	in    []byte    // received: in[taken:] is not yet taken
	taken int       //
	full  bool      // the last read filled the buffer: there may be more
	since time.Time // when the rest of a frame was first waited for; zero if it is not
	out   []byte    // to be sent by Flush
	err   error
	dead  bool // the connection is gone, not only ended

	mu        sync.Mutex // guards stopped, stoppedAt and closing, and the deadlines against being set after Stop
	stopped   bool
	stoppedAt time.Time
	closing   bool // Close reads on to the end
	swept     bool // after Stop: all that had arrived is in the buffer
}

func newConn(nc net.Conn, l Limits) *Conn { return &Conn{nc: nc, limits: l} }

// RemoteAddr is the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Err says what ended the connection: io.EOF if the other end closed it between
// two frames, nil if nothing did.
func (c *Conn) Err() error { return c.err }

// Ready waits until there is a whole frame to read, and reports whether there is.
func (c *Conn) Ready() bool {
	if c.nonce != nil && c.err == nil && !c.proved() {
		return false
	}
	for c.err == nil {
		if _, whole := c.peek(); whole {
			return true
		}
		if c.err == nil {
			c.fill()
		}
	}
	return false
}

// peek returns the next frame, if all of it has been received.
func (c *Conn) peek() (frame []byte, whole bool) {
	have := c.in[c.taken:]
	if len(have) < frameHeader {
		return nil, false
	}
	n := byteOrder.Uint32(have)
	if n == 0 || n > MaxFrame {
		c.fail("reading a frame", fmt.Errorf("its length %d is not in 1..%d", n, MaxFrame))
		return nil, false
	}
	have = have[frameHeader:]
	if len(have) < int(n) {
		return nil, false
	}
	return have[:n], true
}

// take removes the next frame from the buffer, if it is whole. The frame is good
// until the next Ready.
func (c *Conn) take() (frame []byte, ok bool) {
	if c.err != nil {
		return nil, false
	}
	if frame, ok = c.peek(); ok {
		c.taken += frameHeader + len(frame)
		c.since = time.Time{}
	}
	return frame, ok
}

// fill reads once, into a buffer that grows with the bytes received and never
// with the bytes announced.
func (c *Conn) fill() {
	c.in = c.in[:copy(c.in, c.in[c.taken:])]
	c.taken = 0
	switch size := cap(c.in); {
	case size == 0, len(c.in) == 0 && size > keptBuffer && !c.full:
		c.in = make([]byte, 0, firstBuffer)
	case c.full && size < maxBuffer:
		c.in = append(make([]byte, 0, min(4*size, maxBuffer)), c.in...)
	}
	sweep, ok := c.readDeadline()
	if !ok {
		c.err = ErrStopped
		return
	}
	n, err := c.nc.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	c.full = len(c.in) == cap(c.in)
	if sweep && (!c.full || c.limits.Drain > 0 && time.Since(c.stoppedAt) > c.limits.Drain) {
		// A read that leaves room has emptied the socket: whatever had arrived
		// when the server was stopped is here.
		c.swept = true
	}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.timedOut()
	case err == io.EOF && len(c.in) > 0:
		c.lost(io.ErrUnexpectedEOF)
	default:
		c.lost(err)
	}
}

// readDeadline sets the deadline of the next read, and looks at stopped only
// then: Stop either finds this deadline in place and replaces it, or is seen
// here. After Stop a server reads on only to take what has arrived, a client
// not at all.
func (c *Conn) readDeadline() (sweep, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped && (c.swept || !c.server) {
		return false, false
	}
	from := time.Now()
	if len(c.in) > 0 && c.since.IsZero() {
		c.since = from
	}
	var bound time.Duration
	switch {
	case c.stopped:
		bound = sweepTime
	case c.since.IsZero():
		bound = c.limits.Idle
	default:
		from, bound = c.since, c.limits.Frame
	}
	var deadline time.Time
	if bound > 0 {
		deadline = from.Add(bound)
	}
	c.nc.SetReadDeadline(deadline)
	return c.stopped, true
}

// timedOut says what it means that a read ran into its deadline: Stop moved it,
// and what has arrived is still to be taken; or the other end was too slow.
func (c *Conn) timedOut() {
	c.mu.Lock()
	stopped := c.stopped
	c.mu.Unlock()
	switch {
	case stopped: // the next fill knows what to do
	case c.since.IsZero():
		c.err = ErrIdle
	default:
		c.err = ErrSlow
	}
}

// Stop asks a server's end to take what has arrived and no more, so that Ready
// soon says false. It ends whatever a client's end is waiting for.
func (c *Conn) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.stopped, c.stoppedAt = true, time.Now()
	past := time.Unix(1, 0)
	if !c.closing {
		c.nc.SetReadDeadline(past)
	}
	if !c.server {
		c.nc.SetWriteDeadline(past)
	} else if limit := c.writeLimit(); limit > 0 { // of a write that is under way
		c.nc.SetWriteDeadline(time.Now().Add(limit))
	}
}

// Bind makes the end of ctx a Stop. Release ends that, and reports whether ctx
// is still alive: if not, the Conn may have been stopped and is of no more use.
func (c *Conn) Bind(ctx context.Context) (release func() bool) {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, c.Stop)
}

// readFull reads n bytes that are no frame, within Limits.Frame in all.
func (c *Conn) readFull(n int) ([]byte, bool) {
	c.since = time.Now()
	for c.err == nil && len(c.in)-c.taken < n {
		c.fill()
	}
	c.since = time.Time{}
	if c.err != nil {
		return nil, false
	}
	c.taken += n
	return c.in[c.taken-n : c.taken], true
}

// Flush sends what has been written, in one write, and reports whether it could.
func (c *Conn) Flush() bool {
	if len(c.out) == 0 {
		return c.err == nil
	}
	n, err := c.send()
	if err != nil {
		c.lost(fmt.Errorf("sent %d of %d bytes: %w", n, len(c.out), err))
	}
	c.out = c.out[:0]
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	return err == nil
}

func (c *Conn) send() (int, error) {
	c.mu.Lock()
	if c.stopped && !c.server {
		c.mu.Unlock()
		return 0, ErrStopped
	}
	if limit := c.writeLimit(); limit > 0 {
		c.nc.SetWriteDeadline(time.Now().Add(limit))
	}
	c.mu.Unlock()
	return c.nc.Write(c.out)
}

// writeLimit returns how long a write may take; 0: there is no limit. In a drain it is at
// most what is left of Limits.Drain: a client that does not read must not hold up the
// end. The caller holds mu.
func (c *Conn) writeLimit() time.Duration {
	limit := c.limits.Write
	if c.stopped && c.limits.Drain > 0 {
		left := max(c.limits.Drain-time.Since(c.stoppedAt), time.Millisecond)
		if limit == 0 || left < limit {
			limit = left
		}
	}
	return limit
}

// lost notes an error after which nothing can be sent.
func (c *Conn) lost(err error) {
	c.dead = true
	if c.err == nil {
		c.err = err
	}
}

// Quiet reports whether nothing has come, and the other end is still there. It
// is for a client that has been idle: what comes unasked is a Goodbye.
func (c *Conn) Quiet() bool {
	c.nc.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, err := c.nc.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// Spare reports whether something has been received that nobody has taken yet. To a
// client that has its answer, it is one too many.
func (c *Conn) Spare() bool { return len(c.in) > c.taken }

// Unsent is how many bytes wait for Flush.
func (c *Conn) Unsent() int { return len(c.out) }

// Close ends the connection. A server that ends it says Goodbye, for which it has as
// long as for any answer, closes the sending side and reads on for a moment: a socket
// closed over unread bytes is reset, and the reset can overtake the last answers.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closing = true // a Stop from here on bounds the Goodbye, and does not end the reading
	c.mu.Unlock()
	if c.talks && !c.dead {
		c.WriteResponse(&Response{Code: Goodbye})
		if half, ok := c.nc.(interface{ CloseWrite() error }); c.Flush() && ok && half.CloseWrite() == nil {
			c.nc.SetReadDeadline(time.Now().Add(lingerTime))
			io.Copy(io.Discard, c.nc)
		}
	}
	return c.nc.Close()
}
