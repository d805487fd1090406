package main

import (
	"context"
	"net"
	"sync"

	"lockstep/common/node"
)

// serve accepts clients and answers each in a goroutine of its own.
func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	s := newStore(n)
	var conns sync.WaitGroup // each ends when its client leaves or ctx ends
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err // node.ErrStopped at the end of ctx
		}
		conns.Go(func() { serveConn(n, c, s) })
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
