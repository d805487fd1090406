package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"lockstep/common/client"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A line is a connection to a yardstick whose answers come in the order of the
// requests. As many requests are in flight as there are calls. A line that is lost
// stays lost. Safe for concurrent use.
type line struct {
	Dialect
	nc      net.Conn
	in      *bufio.Reader // belongs to the call whose turn it is to read
	dialing time.Duration

	writers sync.WaitGroup

	mu            sync.Mutex    // guards what follows
	unsent, spare []byte        // requests, and room for more of them
	writing       bool          // somebody sends them, until there are none
	turn          chan struct{} // closed when all requests so far are answered
	lost          error
}

// A dialect is how requests are written, and answers read. An error of either loses the
// line, unless it is a refusal.
type Dialect interface {
	AppendRequest(dst []byte, ops []wire.Op) ([]byte, error)
	ReadAnswers(in *bufio.Reader, ops []wire.Op) ([]wire.Result, error)
}

// A refusal is an error that the server has answered: the next answer is in its place
// all the same.
type Refusal string

func (r Refusal) Error() string { return "the server says: " + string(r) }

const LineBuffer = 16 << 10 // bytes

// dialLine returns how to connect to an address in a dialect.
func DialLine(d Dialect) func(ctx context.Context, addr string) (Asker, error) {
	return func(ctx context.Context, addr string) (Asker, error) {
		start := metrics.Now()
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return NewLine(d, nc, metrics.Now()-start), nil
	}
}

func NewLine(d Dialect, nc net.Conn, dialing time.Duration) *line {
	l := &line{Dialect: d, nc: nc, in: bufio.NewReaderSize(nc, LineBuffer), dialing: dialing, turn: make(chan struct{})}
	close(l.turn)
	return l
}

// Do sends a request and reads the answer. When ctx ends the line is lost.
func (l *line) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	defer context.AfterFunc(ctx, func() { l.nc.Close() })()
	turn, answered, err := l.send(ops)
	if err != nil {
		return nil, err
	}
	defer close(answered)
	<-turn
	if err := l.lose(nil); err != nil {
		return nil, err
	}
	results, err := l.ReadAnswers(l.in, ops)
	if err != nil && !errors.As(err, new(Refusal)) {
		return nil, l.lose(fmt.Errorf("reading from %v: %w", l.nc.RemoteAddr(), err))
	}
	return results, err
}

// Once is Do: no yardstick says Busy.
func (l *line) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return l.Do(ctx, ops...)
}

func (l *line) Counts() client.Counts { return client.Counts{Dials: 1, Dialing: l.dialing} }

func (l *line) Close() error {
	defer l.writers.Wait()
	return l.nc.Close()
}

// send sends a request, unless somebody who is sending already will send it, too. The
// answer is to be read when turn is closed, and answered to be closed after that.
//
// A call sends its own request alone, and then reads: if it sent those of others first,
// a server that takes no more of them before its answers are read would wait for ever.
func (l *line) send(ops []wire.Op) (turn, answered chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return nil, nil, fmt.Errorf("%w: %w", client.ErrDown, l.lost)
	}
	if l.unsent, err = l.AppendRequest(l.unsent, ops); err != nil {
		return nil, nil, err
	}
	turn, answered = l.turn, make(chan struct{})
	l.turn = answered
	if l.writing {
		return turn, answered, nil
	}
	l.writing = true
	if l.write(); len(l.unsent) == 0 {
		l.writing = false
		return turn, answered, nil
	}
	l.writers.Go(func() { // ends when there are none, or with the line
		l.mu.Lock()
		defer l.mu.Unlock()
		for len(l.unsent) > 0 {
			l.write()
		}
		l.writing = false
	})
	return turn, answered, nil
}

// write sends the requests that are unsent now. It is called with mu held, which it
// gives up meanwhile.
func (l *line) write() {
	out := l.unsent
	l.unsent = l.spare[:0]
	l.mu.Unlock()
	if _, err := l.nc.Write(out); err != nil {
		l.nc.Close() // as whoever reads will see
	}
	l.mu.Lock()
	l.spare = out
}

// lose ends the line, if why is an error, and returns why it has ended, if it has.
func (l *line) lose(why error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil && why != nil {
		l.nc.Close()
		l.lost = why
	}
	if l.lost == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", client.ErrUnknown, l.lost)
}
