package yardstick

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lockstep/bench/benchtest"
)

// The program that starts a yardstick is also the yardstick: here, the test binary.
// Under another name it is a redis-server that a test has put into PATH.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that tests start
	switch {
	case strings.HasPrefix(filepath.Base(os.Args[0]), "redis-server"):
		for fault := benchtest.FaultyMain(); fault == "busy"; {
		}
		select {} // does not serve
	case len(os.Args) > 1 && os.Args[1] == Command:
		if err := Serve(context.Background(), os.Args[2:], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveHere serves connections in this process until stop or the end of the test.
func serveHere(t *testing.T, serve func(net.Conn)) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup // until stop
	served.Go(func() {
		for nc, err := ln.Accept(); err == nil; nc, err = ln.Accept() {
			served.Go(func() {
				defer nc.Close()
				defer context.AfterFunc(ctx, func() { nc.Close() })()
				serve(nc)
			})
		}
	})
	stop = func() {
		ln.Close()
		cancel()
		served.Wait()
	}
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}
