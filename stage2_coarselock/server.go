package main

import (
	"context"
	"net"
	"sync"

	"lockstep/common/node"
)

// serve accepts clients, and answers each in a goroutine of its own.
func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	store := newStore(n)
	var conns sync.WaitGroup // each ends when its client leaves, or ctx does
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if c == nil {
			return err // nil at the end of ctx
		}
		conns.Go(func() { serveConn(n, c, store) })
	}
}

// serveConn answers the requests of one client, in order, until it leaves.
func serveConn(n *node.Node, c *node.Conn, store *store) {
	defer c.Close()
	for c.Ready() {
		n.Answer(c, store.apply)
		c.Flush()
	}
}
