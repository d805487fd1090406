package main

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

func TestMain(m *testing.M) { stagetest.Main(m, serve) }

// A client that does not read its answer holds no worker: a pipe has no buffer, so the server's
// write waits for it.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cfg := cluster.Default()
		cfg.Server.Workers, cfg.Server.Queue = 1, 1
		n := node.New(cfg, 0, slog.New(slog.DiscardHandler))
		ln := pipes(make(chan net.Conn))
		over := make(chan error)
		go func() { over <- serve(ctx, ln, n) }()
		var r wire.Response
		start := time.Now() // by the clock of the bubble, which moves when all wait
		for i := range 3 {
			here, there := net.Pipe()
			ln <- there
			c, err := wire.Open(ctx, here, wire.Hello{Purpose: wire.Service, Group: "nodes", Fingerprint: cfg.Fingerprint()}, wire.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			c.WriteRequest(&wire.Request{Ops: []wire.Op{{Kind: wire.Get, Key: "k"}}})
			c.Flush()
			synctest.Wait()
			if i == 2 && (!c.ReadResponse(&r) || r.Code != wire.OK) {
				t.Errorf("two clients do not read, and the third is answered %v, %v", r.Code, c.Err())
			}
			defer here.Close()
		}
		if waited := time.Since(start); waited > 0 {
			t.Errorf("two clients do not read, and others wait %v", waited)
		}
		cancel()
		go func() { <-over }()
	})
}

// Pipes is a listener for connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, open := <-p; open {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }
