package node

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// spoolTime is how long a process that ends waits for those who read what it says.
const spoolTime = time.Second

// A spool writes the lines of those who must not wait: a log that nobody takes, of a
// terminal that was stopped or a pipe that is full, must not stop the server. What does
// not fit is lost, and counted. It is safe for concurrent use.
type spool struct {
	w     io.Writer
	lines chan []byte
	lost  atomic.Int64
	over  chan struct{}
	done  chan struct{}
}

func newSpool(w io.Writer) *spool {
	s := &spool{w: w, lines: make(chan []byte, 64), over: make(chan struct{}), done: make(chan struct{})}
	go s.copy() // until close, or for as long as a write takes
	return s
}

// Write takes a line, and never waits.
func (s *spool) Write(line []byte) (int, error) {
	select {
	case s.lines <- bytes.Clone(line):
	default:
		s.lost.Add(1)
	}
	return len(line), nil
}

func (s *spool) copy() {
	defer close(s.done)
	for {
		select {
		case line := <-s.lines:
			s.write(line)
		case <-s.over:
			for len(s.lines) > 0 {
				s.write(<-s.lines)
			}
			return
		}
	}
}

func (s *spool) write(line []byte) {
	s.w.Write(line)
	if n := s.lost.Swap(0); n > 0 {
		fmt.Fprintf(s.w, "(%d lines were lost here: nobody read them in time)\n", n)
	}
}

// close waits until all is written, but not for long.
func (s *spool) close() {
	close(s.over)
	within(spoolTime, func() { <-s.done })
}

// within runs f, and reports whether it ended in time. If it did not, it runs on.
func within(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}
