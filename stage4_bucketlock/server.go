package main

import (
	"context"
	"net"
	"sync"

	"lockstep/common/node"
)

// serve accepts clients, and reads and writes for each in a goroutine of its own.
// What they ask for is done by a pool.
func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	store := newStore(n)
	pool := newPool(n.Config.Server.Workers, n.Config.Server.Queue)
	defer pool.close()
	var conns sync.WaitGroup // each ends when its client leaves, or ctx does
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if c == nil {
			return err // nil at the end of ctx
		}
		conns.Go(func() { serveConn(n, c, store, pool) })
	}
}

// serveConn answers the requests of one client, in order, until it leaves. The
// connection is a worker's while its turn runs, and this goroutine's again after
// that: one at a time, so it needs no lock.
func serveConn(n *node.Node, c *node.Conn, store *store, pool *pool) {
	defer c.Close()
	for c.Ready() {
		if !pool.run(func() { n.Answer(c, store.apply) }) {
			n.Refuse(c)
		}
		c.Flush()
	}
}
