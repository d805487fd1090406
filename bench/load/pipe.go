package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"lockstep/common/client"
	"lockstep/common/wire"
)

var errNotApplied = errors.New("not applied") // so the request may be sent again

// A Codec speaks the protocol of one connection. Append may be called while Read waits.
type Codec interface {
	// Append appends a request to dst. Requests are numbered from 1. On an error dst is
	// unchanged.
	Append(dst []byte, number uint64, ops []wire.Op) ([]byte, error)
	// Read waits for the next answer and returns the number of the request that it
	// answers, or 0 for the oldest one without an answer, whose operations are ops. An
	// error other than a Refusal ends the connection; neither comes with results.
	Read(ops []wire.Op) (number uint64, results []wire.Result, err error)
	// Buffered returns how many bytes have been received and not been read.
	Buffered() int
}

// An Opener makes the codec of a connection to a node, when the server has greeted it.
type Opener func(ctx context.Context, node int, nc net.Conn) (Codec, error)

// A Refusal is an error that the server gave as its answer. The connection remains good.
type Refusal struct{ Reason error }

func (r Refusal) Error() string { return r.Reason.Error() }
func (r Refusal) Unwrap() error { return r.Reason }

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
	sent          int        // bytes of requests that have been sent or are in a write
	inFlight      []*call    // the oldest first
	writing       bool       // by one of the calls
	reading       bool       // by one of the calls
	idleSince     time.Time  // when the last call stopped reading
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
	wake    chan bool // of size 1: done, or there is something to write or read
}

func (c *call) finish(results []wire.Result, err error) {
	c.results, c.err, c.done = results, err, true
	c.unpark()
}

// unpark wakes the call, and reports whether it was waiting.
func (c *call) unpark() (parked bool) {
	if parked, c.parked = c.parked, false; parked {
		c.wake <- true
	}
	return parked
}

// do sends a request and returns the answer. The end of ctx ends the connection. An error
// is a Refusal, client.ErrUnknown, errNotApplied, or says which rule the request breaks.
func (s *stream) do(ctx context.Context, ops []wire.Op) (results []wire.Result, err error) {
	defer context.AfterFunc(ctx, func() { s.nc.Close() })() // as the call that reads will see
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost != nil {
		return nil, fmt.Errorf("%w: %w", errNotApplied, s.lost)
	}
	s.count++
	if s.unsent, err = s.codec.Append(s.unsent, s.count, ops); err != nil {
		return nil, err
	}
	c := &call{number: s.count, ops: ops, end: s.sent + len(s.unsent), wake: make(chan bool, 1)}
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
			<-c.wake
			s.mu.Lock()
		}
	}
	for !s.writing && len(s.unsent) > 0 && !s.pass() {
		s.write() // all others are done, or busy reading
	}
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
	if err != nil && s.lost == nil {
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
			s.inFlight[i].finish(results, err)
			s.inFlight = slices.Delete(s.inFlight, i, i+1)
		}
	}
	s.reading, s.idleSince = false, time.Now()
	s.pass()
}

// pass wakes a call to go on writing or reading, and reports whether there is one.
func (s *stream) pass() bool { return slices.ContainsFunc(s.inFlight, (*call).unpark) }

// lose ends the connection and the calls in flight. Their requests were certainly not
// applied if the server said Goodbye, or if they were not sent whole, or only read. It is called
// with mu held.
func (s *stream) lose(why error) {
	s.nc.Close()
	s.lost = fmt.Errorf("lost the connection to %v: %w", s.nc.RemoteAddr(), why)
	for _, c := range s.inFlight {
		fate := client.ErrUnknown
		if errors.Is(why, errNotApplied) || c.end > s.sent || !wire.Writes(c.ops) {
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
	if s.lost == nil && len(s.inFlight) == 0 && !s.reading && time.Since(s.idleSince) >= time.Second {
		if s.idleSince = time.Now(); !wire.Quiet(s.nc) {
			s.lose(errors.New("closed while it was idle"))
		}
	}
	return s.lost == nil
}
