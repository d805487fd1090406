package faults

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// echo starts a server that sends a greeting and then what it reads.
func echo(t *testing.T) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the test
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				io.WriteString(nc, "hello ")
				io.Copy(nc, nc)
			}()
		}
	}()
	return ln
}

// through sends "world" through a proxy with a fault to an echo, and returns what comes back.
func through(t *testing.T, fault Fault) string {
	t.Helper()
	called := 0
	p, err := NewProxy(echo(t).Addr().String(), func() Fault { called++; return fault })
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "world")
	nc.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(nc) // a cut may be a reset
	nc.Close()
	p.Close()
	if called != 1 {
		t.Errorf("fault was called %d times for a connection", called)
	}
	return string(got)
}

func TestProxy(t *testing.T) {
	const late = 20 * time.Millisecond
	for _, test := range []struct {
		name    string
		fault   Fault
		want    string
		atLeast time.Duration
	}{
		{"none", Fault{}, "hello world", 0},
		{"cut at once", Fault{Kind: Cut, Way: Answers}, "", 0},
		{"cut the greeting", Fault{Kind: Cut, Way: Answers, After: 3}, "hel", 0},
		{"cut the answer", Fault{Kind: Cut, Way: Answers, After: 8}, "hello wo", 0},
		{"lose a request", Fault{Kind: Hole, Way: Requests, After: 2}, "hello wo", 0},
		{"lose an answer", Fault{Kind: Hole, Way: Answers, After: 7}, "hello w", 0},
		{"cut a request", Fault{Kind: Cut, Way: Requests, After: 3}, "hello wor", 0},
		{"delay", Fault{Kind: Delay, Way: Answers, After: 6, Late: late}, "hello world", late},
	} {
		start := time.Now()
		got := through(t, test.fault)
		if test.fault.Kind == Cut && test.fault.Way == Requests && strings.HasPrefix(test.want, got) {
			got = test.want // the cut may overtake the answer
		}
		if took := time.Since(start); got != test.want || took < test.atLeast {
			t.Errorf("%s: read %q after %v, want %q after at least %v", test.name, got, took, test.want, test.atLeast)
		}
	}
}
