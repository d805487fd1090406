package wire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	firstBuffer = 1 << 10  // bytes: room for a dozen small requests
	keptBuffer  = 16 << 10 // a larger one is freed when it is empty
	maxBuffer   = frameHeader + MaxFrame

	// MaxUnsent is the number of bytes of answers that a turn collects before it
	// sends them.
	MaxUnsent = 64 << 10

	// How long a stopping server waits for bytes that have already arrived, and how
	// long a closing one goes on reading, so that its last answers are not lost.
	sweepTime  = 20 * time.Millisecond
	lingerTime = time.Second

	forever = 1 << 62 * time.Nanosecond // no limit
)

var (
	// ErrSecret ends a connection if the client does not know the secret.
	ErrSecret = errors.New("the client does not know the secret")
	// ErrIdle ends a connection if no frame begins within Limits.Idle.
	ErrIdle = errors.New("idle for too long")
	// ErrSlow ends a connection if a frame takes longer than Limits.Frame.
	ErrSlow = errors.New("a frame took too long")
	// ErrMalformed ends a connection if the other end breaks the protocol.
	ErrMalformed = errors.New("malformed")
	// ErrStopped ends a connection after Stop.
	ErrStopped = errors.New("stopped")
)

// A Conn is one end of a connection. It belongs to one goroutine at a time; only Stop may
// be called by others at the same time. The first error sticks: after it, Ready and the methods
// that read or write return false, and Err says why.
type Conn struct {
	nc     net.Conn
	limits Limits
	server bool
	hello  Hello  // server: what a proof must be bound to
	nonce  []byte // server: the challenge, until a proof has answered it

	in     []byte // received; in[taken:] is not taken yet
	taken  int
	frames uint64    // taken: the number of the last request, or at a client's end of the last answer
	idle   time.Time // when waiting for a frame began; zero: not waiting
	since  time.Time // when waiting for the rest of a frame began; zero: not waiting
	out    []byte    // to be sent by Flush
	err    error
	dead   bool // nothing can be sent any more

	mu        sync.Mutex // guards what follows, so that none of it is set after Stop
	reading   deadline
	writing   deadline
	stopped   bool
	stoppedAt time.Time
	closing   bool // Close reads on to the end
	swept     bool // after Stop: all that had arrived is in the buffer
}

// A deadline is moved to a later time only when it fires: otherwise each request would set
// two timers. So it can fire early, and the caller that it wakes checks passed.
type deadline struct {
	at  time.Time // when what is under way is late
	set time.Time // what the connection was told: not after at
}

// move makes the deadline at. The function set tells the connection.
func (d *deadline) move(now, at time.Time, set func(time.Time) error) {
	d.at = at
	if at.Before(d.set) || !now.Before(d.set) {
		d.set = at
		set(at)
	}
}

func (d *deadline) passed() bool { return !time.Now().Before(d.at) }

// RemoteAddr is the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Err says what ended the connection: io.EOF if the other end closed it between two
// frames. It is nil if the connection has not ended.
func (c *Conn) Err() error { return c.err }

// Ready waits for a whole frame, and reports whether there is one.
func (c *Conn) Ready() bool {
	for c.Prove(); c.next() == nil && c.err == nil; {
		c.fill()
	}
	return c.err == nil
}

// next returns the next frame, part of the buffer, or nil if it has not been received whole.
func (c *Conn) next() []byte {
	have := c.in[c.taken:]
	if c.err != nil || len(have) < frameHeader {
		return nil
	}
	n, have := byteOrder.Uint32(have), have[frameHeader:]
	if n == 0 || n > MaxFrame {
		c.fail("reading a frame", fmt.Errorf("its length %d is not in 1..%d", n, MaxFrame))
	} else if len(have) >= int(n) {
		return have[:n]
	}
	return nil
}

// take removes the next frame from the buffer, if it is whole, and returns it, or nil. The
// frame is valid until the next Ready.
func (c *Conn) take() []byte {
	frame := c.next()
	if frame != nil {
		c.taken += frameHeader + len(frame)
		c.frames++
		c.idle, c.since = time.Time{}, time.Time{}
	}
	return frame
}

// fill reads once, into a buffer that grows with the bytes received, never with the bytes
// announced.
func (c *Conn) fill() {
	full := len(c.in) == cap(c.in) // the last read filled the buffer: there may be more
	c.in = c.in[:copy(c.in, c.in[c.taken:])]
	c.taken = 0
	switch size := cap(c.in); {
	case size == 0, len(c.in) == 0 && size > keptBuffer && !full:
		c.in = make([]byte, 0, firstBuffer)
	case full && size < maxBuffer:
		c.in = append(make([]byte, 0, min(4*size, maxBuffer)), c.in...)
	}
	late := c.readDeadline()
	if c.err != nil {
		return
	}
	n, err := c.nc.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	if late == nil && (len(c.in) < cap(c.in) || c.limits.Drain > 0 && time.Since(c.stoppedAt) > c.limits.Drain) {
		// A read that leaves room has emptied the socket: all that had arrived at
		// Stop is in the buffer.
		c.swept = true
	}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.mu.Lock()
		if !c.stopped && c.reading.passed() { // otherwise the next fill sets another deadline: after Stop, to read what has arrived
			c.err = late
		}
		c.mu.Unlock()
	case err == io.EOF && len(c.in) > 0:
		c.lost(io.ErrUnexpectedEOF)
	default:
		c.lost(err)
	}
}

// readDeadline sets the deadline of the next read, or ends the connection. It returns what
// it means if the read is late: nil if it only sweeps up what arrived before Stop.
// It does both under the lock, so Stop either replaces this deadline, or is noticed here.
// After Stop, a server reads only what has arrived, and a client nothing.
func (c *Conn) readDeadline() (late error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped && (c.swept || !c.server) {
		c.err = ErrStopped
		return nil
	}
	now := time.Now()
	if len(c.in) > 0 && c.since.IsZero() {
		c.since = now
	}
	c.idle = cmp.Or(c.idle, now) // a deadline that fired early does not begin the wait anew
	from, bound, late := c.idle, c.limits.Idle, ErrIdle
	switch {
	case c.stopped:
		from, bound, late = now, sweepTime, nil
	case !c.since.IsZero():
		from, bound, late = c.since, c.limits.Frame, ErrSlow
	}
	c.reading.move(now, from.Add(cmp.Or(bound, forever)), c.nc.SetReadDeadline)
	return late
}

// Stop makes a server's end take only what has arrived, so that Ready soon returns false.
// At a client's end it interrupts any read or write.
func (c *Conn) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.stopped, c.stoppedAt = true, time.Now()
	if !c.closing {
		c.reading.move(c.stoppedAt, time.Unix(1, 0), c.nc.SetReadDeadline)
	}
	c.limitWrite() // one may be under way
}

// Bind calls Stop when ctx ends. Release undoes that, and reports whether ctx is still
// alive; if not, the Conn may have been stopped and is useless.
func (c *Conn) Bind(ctx context.Context) (release func() bool) { return context.AfterFunc(ctx, c.Stop) }

// readFull reads n bytes that are not a frame, within a time of its own; 0 means no limit.
func (c *Conn) readFull(n int, within time.Duration) ([]byte, bool) {
	frame := c.limits.Frame
	c.limits.Frame, c.since = within, time.Now()
	for c.err == nil && len(c.in)-c.taken < n {
		c.fill()
	}
	c.limits.Frame, c.idle, c.since = frame, time.Time{}, time.Time{}
	if c.err != nil {
		return nil, false
	}
	c.taken += n
	return c.in[c.taken-n : c.taken], true
}

// Flush sends what has been written, in one write, and reports whether that succeeded.
func (c *Conn) Flush() bool {
	if len(c.out) == 0 {
		return c.err == nil
	}
	c.mu.Lock()
	c.limitWrite()
	c.mu.Unlock()
	n, err := c.nc.Write(c.out)
	for errors.Is(err, os.ErrDeadlineExceeded) && c.writeOn() {
		var more int
		more, err = c.nc.Write(c.out[n:])
		n += more
	}
	if err != nil {
		c.lost(fmt.Errorf("sent %d of %d bytes: %w", n, len(c.out), err))
	}
	c.out = c.out[:0]
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	return err == nil
}

// limitWrite sets the deadline of a write. After Stop a client writes nothing, and a server
// has at most what is left of Limits.Drain, so that a client that does not read cannot hold
// up the end. The caller holds mu.
func (c *Conn) limitWrite() {
	now, limit := time.Now(), cmp.Or(c.limits.Write, forever)
	if c.stopped && !c.server {
		limit = -1 // in the past
	} else if c.stopped && c.limits.Drain > 0 {
		limit = min(limit, max(c.limits.Drain-now.Sub(c.stoppedAt), time.Millisecond))
	}
	c.writing.move(now, now.Add(limit), c.nc.SetWriteDeadline)
}

// writeOn reports whether a write that was interrupted still has time, and sets the deadline
// of the rest.
func (c *Conn) writeOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing.move(time.Now(), c.writing.at, c.nc.SetWriteDeadline)
	return !c.writing.passed()
}

// lost notes an error after which nothing can be sent any more.
func (c *Conn) lost(err error) {
	c.dead = true
	c.err = cmp.Or(c.err, err)
}

// Quiet reports whether nothing has arrived and the other end is still there. A client
// calls it when it has been idle: an unsolicited message is a Goodbye.
func (c *Conn) Quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading.set = time.Time{} // there will be none
	return Quiet(c.nc)
}

// Quiet is Conn.Quiet for any connection on which nothing is in flight. It leaves the
// connection without a deadline, and does not wait, unless the connection is not a socket.
func Quiet(nc net.Conn) bool {
	if socket, ok := nc.(syscall.Conn); ok {
		quiet := false
		nc.SetReadDeadline(time.Time{}) // with one in the past, Read would fail without a look
		if raw, err := socket.SyscallConn(); err == nil {
			raw.Read(func(fd uintptr) bool { quiet = !arrived(fd); return true })
		}
		return quiet
	}
	defer nc.SetReadDeadline(time.Time{})
	nc.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, err := nc.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// Buffered is the number of bytes that have been received and not taken. If there are any when a
// client has its answer, they are a surplus answer.
func (c *Conn) Buffered() int { return len(c.in) - c.taken }

// Unsent is the number of bytes that wait for Flush.
func (c *Conn) Unsent() int { return len(c.out) }

// Close ends the connection. A server first sends Goodbye, for which it has as long as
// for any answer, closes the sending side and goes on reading for a moment: closing a
// socket with unread bytes resets it, and the reset can overtake the last answers.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closing = true // a Stop from here on bounds the Goodbye, and does not end the reading
	c.mu.Unlock()
	if c.server && c.hello.Purpose == Service && c.nonce == nil && !c.dead { // a Goodbye is understood
		c.WriteResponse(&Response{Code: Goodbye})
		if half, ok := c.nc.(interface{ CloseWrite() error }); c.Flush() && ok && half.CloseWrite() == nil {
			c.nc.SetReadDeadline(time.Now().Add(lingerTime))
			io.Copy(io.Discard, c.nc)
		}
	}
	return c.nc.Close()
}
