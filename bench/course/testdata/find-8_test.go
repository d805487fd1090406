package main

import (
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
		cfg := cluster.Default()
		cfg.Server.Workers, cfg.Server.Queue = 1, 1
		n := node.New(cfg, 0, slog.New(slog.DiscardHandler))
		ln := pipes(make(chan net.Conn))
		go serve(t.Context(), ln, n) // ends with the test, which waits for it
		var r wire.Response
		start := time.Now() // by the clock of the bubble, which moves when all wait
		hello := wire.Hello{Purpose: wire.Service, Group: "nodes", Fingerprint: cfg.Fingerprint()}
		for i := range 3 {
			here, there := net.Pipe()
			ln <- there
			c, err := wire.Open(t.Context(), here, hello, wire.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			c.WriteRequest(&wire.Request{Ops: []wire.Op{{Kind: wire.Get, Key: "k"}}})
			c.Flush()
			synctest.Wait()
			if i == 2 && (!c.ReadResponse(&r) || r.Code != wire.OK) {
				t.Errorf("two clients do not read, and the third is answered %v, %v", r.Code, c.Err())
			}
			defer c.Close()
		}
		if waited := time.Since(start); waited > 0 {
			t.Errorf("two clients do not read, and others wait %v", waited)
		}
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
