package cluster_test

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"lockstep/common/cluster"
)

// Every process computes the same owner, without asking anybody.
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

// A file that is not there at the default path is no error, and a flag overrides
// the file: so the flags are parsed before it is read, to find it, and again after.
func ExampleLoad() {
	args := []string{"-config", "no-such-file.json", "-workers", "4"}

	cfg := cluster.Default()
	fs := flag.NewFlagSet("server", flag.ExitOnError)
	path := fs.String("config", cluster.DefaultPath, "the properties file")
	cfg.ServerFlags(fs)
	fs.Parse(args)

	var err error
	if cfg, err = cluster.Load(*path); errors.Is(err, os.ErrNotExist) {
		fmt.Println("going on with the defaults")
	} else if err != nil {
		fmt.Println(err) // properties.json:3: server.workers: 0 is not in 1..4096
		return
	}
	fs.Parse(args)
	fmt.Println(cfg.Server.Workers, "workers for a queue of", cfg.Server.Queue)
	// Output:
	// going on with the defaults
	// 4 workers for a queue of 64
}
