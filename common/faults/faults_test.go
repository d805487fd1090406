package faults

import (
	"io"
	"net"
	"testing"
	"time"
)

// A client sends "world" through a proxy to a server that sends a greeting and what it reads.
func TestProxy(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() { // ends with the test
		for nc, err := echo.Accept(); err == nil; nc, err = echo.Accept() {
			go func() { // ends with the connection
				io.WriteString(nc, "hello ")
				io.Copy(nc, nc)
				nc.Close()
			}()
		}
	}()
	const late = 20 * time.Millisecond
	for _, test := range []struct {
		fault   Fault
		want    string
		atLeast time.Duration
	}{
		{Fault{}, "hello world", 0},
		{Fault{Kind: Cut, Way: Answers, After: 8}, "hello wo", 0},
		{Fault{Kind: Hole, Way: Requests, After: 2}, "hello wo", 0},
		{Fault{Kind: Hole, Way: Answers, After: 7}, "hello w", 0},
		{Fault{Kind: Delay, Way: Answers, After: 6, Late: late}, "hello world", late},
	} {
		start, called := time.Now(), 0
		p, err := NewProxy(echo.Addr().String(), func() Fault { called++; return test.fault })
		if err != nil {
			t.Fatal(err)
		}
		nc, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, "world")
		nc.(*net.TCPConn).CloseWrite()
		data, _ := io.ReadAll(nc) // a cut may be a reset
		nc.Close()
		p.Close()
		took := time.Since(start)
		if string(data) != test.want || took < test.atLeast || called != 1 {
			t.Errorf("%+v, called %d times: read %q after %v, want once, %q after at least %v", test.fault, called, data, took,
				test.want, test.atLeast)
		}
	}
}
