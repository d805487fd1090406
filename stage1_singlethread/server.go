package main

import (
	"context"
	"net"

	"lockstep/common/node"
)

// serve accepts a client, answers it until it leaves, and accepts the next.
func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	s := newStore(n)
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err // node.ErrStopped at the end of ctx
		}
		serveConn(n, c, s)
	}
}

// serveConn answers the requests of one client, in order, until it leaves or ctx
// ends: Accept has tied c to ctx, which makes Ready return false.
func serveConn(n *node.Node, c *node.Conn, s *store) {
	defer c.Close()
	for c.Ready() {
		n.Answer(c, s.apply)
		c.Flush()
	}
}
