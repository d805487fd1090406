package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"lockstep/common/client"
	"lockstep/common/wire"
)

// A Codec speaks the protocol of one connection. Append may be called while Read waits.
type Codec interface {
	// Append appends a request to dst. Requests are numbered from 1. On an error dst is
	// unchanged.
	Append(dst []byte, number uint64, ops []wire.Op) ([]byte, error)
	// Read waits for the next answer and returns the number of the request that it
	// answers, or 0 for the oldest one without an answer, whose operations are ops. An
	// error other than a Refusal ends the connection.
	Read(ops []wire.Op) (number uint64, results []wire.Result, err error)
	// Buffered returns how many bytes have been received and not been read.
	Buffered() int
}

// A Refusal is an error that the server gave as its answer. The connection remains good.
type Refusal struct{ Reason error }

func (r Refusal) Error() string { return r.Reason.Error() }
func (r Refusal) Unwrap() error { return r.Reason }

var (
	errNotApplied = errors.New("not applied") // so the request may be sent again
	errGoodbye    = errors.New("the server is stopping")
)

// A stream is a connection with as many requests in flight as there are calls. The
// calls do the work themselves: one of them writes the requests of all that wait for it
// at once, and one reads and hands out the answers, until each has its own. So at a depth
// of 1 a request costs no switch of goroutines. Safe for concurrent use.
type stream struct {
	codec Codec
	nc    net.Conn

	mu            sync.Mutex // guards what follows
	unsent, spare []byte     // requests, and a buffer for more of them
	count         uint64     // of requests
	appended      int        // bytes of requests so far
	sent          int        // of these, bytes that have been sent or are in a write
	inFlight      []*call    // the oldest first
	writing       bool       // by one of the calls
	reading       bool       // by one of the calls
	idleSince     time.Time  // when the last call ended
	lost          error      // why the connection has ended; nil while it is good
}

// A call is one request.
type call struct {
	number  uint64
	ops     []wire.Op
	end     int // of the request, in the bytes of all requests
	results []wire.Result
	err     error
	done    bool      // results and err are set
	parked  bool      // waits on wake
	wake    chan bool // of size 1: true if done, false if there is something to write or read
}

func (c *call) finish(results []wire.Result, err error) {
	c.results, c.err, c.done = results, err, true
	if c.parked {
		c.parked = false
		c.wake <- true
	}
}

// do sends a request and returns the answer. The end of ctx ends the connection. An error
// is a Refusal, client.ErrUnknown, errNotApplied, or says which rule the request breaks.
func (s *stream) do(ctx context.Context, ops []wire.Op) ([]wire.Result, error) {
	defer context.AfterFunc(ctx, func() { s.nc.Close() })() // as the call that reads will see
	s.mu.Lock()
	if s.lost != nil {
		defer s.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", errNotApplied, s.lost)
	}
	s.count++
	c := &call{number: s.count, ops: ops, wake: make(chan bool, 1)}
	before := len(s.unsent)
	var err error
	if s.unsent, err = s.codec.Append(s.unsent, c.number, ops); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	s.appended += len(s.unsent) - before
	c.end = s.appended
	s.inFlight = append(s.inFlight, c)
	for !c.done {
		switch {
		case !s.writing && len(s.unsent) > 0:
			s.write()
		case !s.reading:
			s.read(c)
		default:
			c.parked = true
			s.mu.Unlock()
			if <-c.wake {
				return c.results, c.err
			}
			s.mu.Lock()
		}
	}
	for !s.writing && len(s.unsent) > 0 && !s.pass() {
		s.write() // all others are done, or busy reading
	}
	s.mu.Unlock()
	return c.results, c.err
}

// write sends what is unsent. It is called with mu held, which it releases meanwhile.
func (s *stream) write() {
	out := s.unsent
	s.unsent, s.writing = s.spare[:0], true
	s.sent += len(out)
	s.mu.Unlock()
	n, err := s.nc.Write(out)
	s.mu.Lock()
	s.spare, s.writing = out, false
	if err != nil {
		s.sent -= len(out) - n
		s.lose(err)
	}
}

// read hands out answers until c has its own and no more are buffered; then another call
// reads. It is called with mu held, which it releases while it waits.
func (s *stream) read(c *call) {
	s.reading = true
	for len(s.inFlight) > 0 && (!c.done || s.codec.Buffered() > 0) {
		oldest := s.inFlight[0]
		s.mu.Unlock()
		number, results, err := s.codec.Read(oldest.ops)
		s.mu.Lock()
		i := slices.IndexFunc(s.inFlight, func(c *call) bool { return number == 0 || c.number == number })
		switch {
		case s.lost != nil: // its calls have been told
		case err != nil && !errors.As(err, new(Refusal)):
			s.lose(err)
		case i < 0:
			s.lose(fmt.Errorf("answer to request %d, which is not in flight", number))
		case err == nil && len(results) != len(s.inFlight[i].ops):
			s.lose(fmt.Errorf("%d results for %d operations", len(results), len(s.inFlight[i].ops)))
		default:
			if err != nil {
				results = nil // some commands of a batch may have been refused, and others not
			}
			s.inFlight[i].finish(results, err)
			s.inFlight = slices.Delete(s.inFlight, i, i+1)
		}
	}
	s.reading = false
	if len(s.inFlight) > 0 {
		s.pass()
	} else {
		s.idleSince = time.Now()
	}
}

// pass wakes a call to go on writing or reading, and reports whether there is one.
func (s *stream) pass() bool {
	i := slices.IndexFunc(s.inFlight, func(c *call) bool { return c.parked })
	if i >= 0 {
		s.inFlight[i].parked = false
		s.inFlight[i].wake <- false
	}
	return i >= 0
}

// lose ends the connection and the calls in flight. Their requests were certainly not
// applied if the server said Goodbye, or if they were not sent whole. It is called with mu
// held.
func (s *stream) lose(why error) {
	if s.lost != nil {
		return
	}
	s.nc.Close()
	s.lost = fmt.Errorf("lost the connection to %v: %w", s.nc.RemoteAddr(), why)
	for _, c := range s.inFlight {
		fate := client.ErrUnknown
		if why == errGoodbye || c.end > s.sent {
			fate = errNotApplied
		}
		c.finish(nil, fmt.Errorf("%w: %w", fate, s.lost))
	}
	s.inFlight, s.unsent = nil, nil
}

// good reports whether requests can be sent. It looks whether the server has closed a
// connection that was idle for a while.
func (s *stream) good() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == nil && len(s.inFlight) == 0 && !s.reading && time.Since(s.idleSince) >= listenAfter {
		s.nc.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := s.nc.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			s.lose(errors.New("closed while it was idle"))
		}
		s.nc.SetReadDeadline(time.Time{})
		s.idleSince = time.Now()
	}
	return s.lost == nil
}
