package main

import (
	"context"
	"net"
	"sync"

	"lockstep/common/node"
)

// serve accepts clients, and reads and writes for each in a goroutine of its own.
// A pool executes their requests.
func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	s := newStore(n)
	defer s.close()
	p := newPool(n.Config.Server.Workers, n.Config.Server.Queue)
	defer p.close()
	var conns sync.WaitGroup // each ends when its client leaves or ctx ends
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err // node.ErrStopped at the end of ctx
		}
		conns.Go(func() { serveConn(n, c, s, p) })
	}
}

// serveConn answers the requests of one client, in order, until it leaves or ctx
// ends: Accept has tied c to ctx, which makes Ready return false. While turn runs, c
// belongs to a worker, before and after that to this goroutine: one at a time, so c
// needs no lock.
func serveConn(n *node.Node, c *node.Conn, s *store, p *pool) {
	defer c.Close()
	turn := p.job(func() { n.Answer(c, s.apply) })
	for c.Ready() {
		if !turn() {
			n.Refuse(c)
		}
		c.Flush()
	}
}
