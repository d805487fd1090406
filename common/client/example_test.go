package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A server of one goroutine, in this process, and a client that talks to it.
func Example() {
	ctx := context.Background()
	cfg, stop := serve()
	cl, err := client.Dial(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	created, err := cl.Put(ctx, "color", []byte("blue"))
	fmt.Println("created:", created, err)

	value, ok, err := cl.Get(ctx, "color")
	fmt.Printf("color: %s %v %v\n", value, ok, err)

	swapped, err := cl.CompareAndSwap(ctx, "color", []byte("red"), []byte("green"))
	fmt.Println("red to green:", swapped, err)

	// One atomic step. Whether a write that was never answered is to be sent
	// again is for the caller to say: the client does not.
	results, err := cl.Do(ctx,
		wire.Op{Kind: wire.Put, Key: "shape", Value: []byte("round")},
		wire.Op{Kind: wire.Get, Key: "color"})
	if errors.Is(err, client.ErrUnknown) {
		log.Fatal("perhaps it is stored, perhaps not: ", err)
	}
	fmt.Println("shape and color:", results[0].Status, results[1].Status, err)

	cl.Close()
	fmt.Println("served:", stop())
	// Output:
	// created: true <nil>
	// color: blue true <nil>
	// red to green: false <nil>
	// shape and color: created found <nil>
	// served: node: stopped
}

// Every CompareAndSwap of a batch is checked against the state before the batch. So two of
// one key both swap, although the first one changes what the second one expects.
func ExampleClient_Do() {
	ctx := context.Background()
	cfg, stop := serve()
	cl := client.New(cfg) // it connects when it is first needed
	cl.Put(ctx, "color", []byte("blue"))
	results, err := cl.Do(ctx,
		wire.Op{Kind: wire.CompareAndSwap, Key: "color", Old: []byte("blue"), Value: []byte("red")},
		wire.Op{Kind: wire.CompareAndSwap, Key: "color", Old: []byte("blue"), Value: []byte("green")},
		wire.Op{Kind: wire.Get, Key: "color"})
	fmt.Printf("%v, %v, %v: %s, %v\n", results[0].Status, results[1].Status, results[2].Status, results[2].Value, err)

	cl.Close()
	stop()
	// Output: swapped, swapped, found: green, <nil>
}

// serve runs a server until stop, which returns why it ended.
func serve() (cfg cluster.Config, stop func() error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	cfg = cluster.Default()
	cfg.Nodes[0].Addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- accept(ctx, ln, node.New(cfg, 0, slog.New(slog.DiscardHandler))) }()
	return cfg, func() error { cancel(); return <-served }
}

func accept(ctx context.Context, ln net.Listener, n *node.Node) error {
	table := n.NewTable()
	for {
		c, err := n.Accept(ctx, ln)
		if c == nil {
			return err
		}
		for c.Ready() {
			n.Answer(c, table.Apply)
			c.Flush()
		}
		c.Close()
	}
}
