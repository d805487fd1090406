package cluster_test

import (
	"flag"
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

// Flags override the file, and without a file at the default path, the defaults.
func ExampleConfig_ParseFlags() {
	cfg, path := cluster.Default(), ""
	fs := flag.NewFlagSet("server", flag.ContinueOnError)
	fs.StringVar(&path, "config", cluster.DefaultPath, "the configuration `file`")
	cfg.Flags(fs, "server")
	if err := cfg.ParseFlags(fs, []string{"-workers", "4"}, &path, ""); err != nil {
		fmt.Println(err)
	}
	fmt.Println(cfg.Server.Workers, "workers for a queue of", cfg.Server.Queue)
	// Output: 4 workers for a queue of 64
}
