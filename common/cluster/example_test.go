package cluster_test

import (
	"fmt"

	"lockstep/common/cluster"
)

// Every process computes the same owner, without asking another one.
func ExampleConfig_Owner() {
	cfg := cluster.Default()
	cfg.Nodes = []cluster.Node{
		{Addr: "127.0.0.1:7001", Control: "127.0.0.1:7101"},
		{Addr: "127.0.0.1:7002", Control: "127.0.0.1:7102"},
		{Addr: "127.0.0.1:7003", Control: "127.0.0.1:7103"},
	}
	for _, key := range []string{"color", "apple", "size"} {
		fmt.Println(key, "belongs to node", cfg.Owner(key))
	}
	// Output:
	// color belongs to node 2
	// apple belongs to node 0
	// size belongs to node 1
}
