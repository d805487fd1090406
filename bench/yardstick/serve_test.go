package yardstick

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/iotest"

	"lockstep/bench/benchtest"
)

// serveHere serves connections in this process until stop or the end of the test.
func serveHere(t *testing.T, serve func(net.Conn)) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup // until stop
	served.Go(func() { serveConns(ctx, ln, serve) })
	stop = func() {
		cancel()
		served.Wait()
	}
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

// serveUnbuffered answers requests of two commands each. It reads a request only after the
// client has read the answer to the one before.
func serveUnbuffered(nc net.Conn) {
	redis := benchtest.NewFakeRedis("")
	in := bufio.NewReader(iotest.OneByteReader(nc))
	for {
		answer := ""
		for range 2 {
			words, err := benchtest.ReadWords(in)
			if err != nil {
				return
			}
			answer += redis.Answer(words)
		}
		if _, err := io.WriteString(nc, answer); err != nil {
			return
		}
	}
}
