package node_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
)

// serve is a whole stage, which serves one client after the other.
func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	table := n.NewTable()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err
		}
		for c.Ready() {
			n.Answer(c, table.Apply)
			c.Flush()
		}
		c.Close()
	}
}

// A stage serves in this process. As a program of its own, it is node.Main(serve).
func Example() {
	cfg := cluster.Default()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	cfg.Nodes[0].Addr = ln.Addr().String()
	n := node.New(cfg, 0, slog.Default())
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- serve(ctx, ln, n) }() // until stop

	cl := client.New(cfg)
	fmt.Println(cl.Put(ctx, "color", []byte("blue")))
	cl.Close()
	stop()
	fmt.Println(<-served, n.Stats.Snapshot().Requests)
	// Output:
	// true <nil>
	// node: stopped 1
}
