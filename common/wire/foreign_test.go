package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

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
		asked, heard := make(chan bool, 2), make(chan int, 2)
		addr := listen(t, func(nth int, nc net.Conn) {
			if nth == 1 {
				<-asked
				Greet(nc, service, Limits{})
				nc.Read(make([]byte, 1))
				return
			}
			other(nc)
			n, _ := nc.Read(make([]byte, 1))
			heard <- n
			asked <- true
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
			if n := <-heard; n > 0 {
				t.Errorf("a server that %s was told something", name)
			}
		})
	}
}
