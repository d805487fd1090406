package main

import (
	"context"
	"net"

	"lockstep/common/node"
)

// serve accepts a client, answers it until it leaves, and accepts the next.
func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	store := newStore(n)
	for {
		c, err := n.Accept(ctx, ln)
		if c == nil {
			return err // nil at the end of ctx
		}
		serveConn(n, c, store)
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
