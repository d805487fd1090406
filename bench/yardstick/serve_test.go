package yardstick

import (
	"context"
	"net"
	"sync"
	"testing"
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
