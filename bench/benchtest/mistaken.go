package benchtest

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// A mistaken is the learner's stage in testdata, whose processes say what they do.
type mistaken struct {
	t     *testing.T
	ln    net.Listener
	Heard chan string // what they say
	ended chan bool   // true for each process that has ended
}

// mistake has the learner's stage make this mistake, in processes that are started
// from now on.
func Mistake(t *testing.T, name string) *mistaken {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mistaken{t: t, ln: ln, Heard: make(chan string, 100), ended: make(chan bool, 100)}
	t.Setenv("LOCKSTEP_MISTAKE", name)
	t.Setenv("LOCKSTEP_TELL", ln.Addr().String())
	t.Setenv("LOCKSTEP_SECRET", "")
	var readers sync.WaitGroup
	readers.Go(func() { // ends with ln
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			readers.Go(func() { // ends with the process
				defer nc.Close()
				for {
					var word string
					if _, err := fmt.Fscanln(nc, &word); err != nil {
						m.ended <- true
						return
					}
					m.Heard <- word
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		readers.Wait()
	})
	return m
}

// started waits until n processes have said that they are there, and one of them,
// if so, that it is busy.
func (m *mistaken) Started(n int, busy bool) {
	for n > 0 || busy {
		select {
		case word := <-m.Heard:
			if word == "started" {
				n--
			} else {
				busy = false
			}
		case <-time.After(30 * time.Second):
			m.t.Error("the stage is not started, or nobody asks it for anything")
			return
		}
	}
}

// gone waits until n processes have ended, and fails the test if they do not.
func (m *mistaken) Gone(n int) {
	m.t.Helper()
	for range n {
		select {
		case <-m.ended:
		case <-time.After(5 * time.Second):
			m.t.Error("a process of the stage is left")
			return
		}
	}
}
