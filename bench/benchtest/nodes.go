package benchtest

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// ServeAll is a stage that serves each connection in its own goroutine. It calls turn when
// a request has arrived.
func ServeAll(ctx context.Context, ln net.Listener, n *node.Node, turn func(*node.Conn)) error {
	var conns sync.WaitGroup // each ends when its client leaves, or when ctx ends
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err
		}
		conns.Go(func() { serveConn(c, turn) })
	}
}

func serveConn(c *node.Conn, turn func(*node.Conn)) {
	defer c.Close()
	for c.Ready() {
		turn(c)
		c.Flush()
	}
}

// ServeLocked is a correct stage, with one lock around the table.
func ServeLocked(ctx context.Context, ln net.Listener, n *node.Node) error {
	apply := Locked(n)
	return ServeAll(ctx, ln, n, func(c *node.Conn) { n.Answer(c, apply) })
}

// ServeOne is a stage that serves one client at a time.
func ServeOne(ctx context.Context, ln net.Listener, n *node.Node) error {
	apply := Locked(n)
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err
		}
		serveConn(c, func(c *node.Conn) { n.Answer(c, apply) })
	}
}

// Locked returns the Apply method of a new table, made safe for concurrent use; it does not
// keep the values that it is passed. The table is n's, or a plain one if n is nil.
func Locked(n *node.Node) func([]wire.Op) []wire.Result {
	t := table.New(cluster.Work{}, nil)
	if n != nil {
		t = n.NewTable()
	}
	var mu sync.Mutex // guards t
	return func(ops []wire.Op) []wire.Result {
		ops = slices.Clone(ops)
		for i := range ops {
			ops[i].Value = bytes.Clone(ops[i].Value)
		}
		mu.Lock()
		defer mu.Unlock()
		return t.Apply(ops)
	}
}

// Here runs n nodes in this process until the end of the test. It returns their
// configuration and the nodes.
func Here(t *testing.T, n int, serve node.Serve) (cluster.Config, []*node.Node) {
	t.Helper()
	cfg, _, nodes := StartCluster(t, n, 0, serve)
	return cfg, nodes
}

// StartCluster is Here, with control addresses for clients that meet at the barrier. It
// also returns the file that holds the configuration.
func StartCluster(t *testing.T, nodes, clients int, serve node.Serve) (cfg cluster.Config, path string, serving []*node.Node) {
	t.Helper()
	os.Setenv("LOCKSTEP_SECRET", "") // and not t.Setenv, which parallel tests may not call
	cfg = cluster.Default()
	cfg.Nodes, cfg.Clients = nil, nil
	addrs, err := node.FreeAddrs(2*nodes + clients)
	if err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: addrs[2*i], Control: addrs[2*i+1]})
	}
	for _, addr := range addrs[2*nodes:] {
		cfg.Clients = append(cfg.Clients, cluster.Client{Control: addr})
	}
	path = filepath.Join(t.TempDir(), "cluster.json")
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	started := make(chan *node.Node, nodes)
	var running sync.WaitGroup // until the end of standard input
	stdin, end := io.Pipe()
	t.Cleanup(func() {
		end.Close()
		running.Wait()
	})
	for i := range nodes {
		running.Go(func() {
			args := []string{"here", "-child", "-config", path, "-node", strconv.Itoa(i)}
			code := node.Run(args, stdin, t.Output(), t.Output(), func(ctx context.Context, ln net.Listener, n *node.Node) error {
				started <- n
				return serve(ctx, ln, n)
			})
			if code != 0 {
				t.Errorf("node %d: exit code %d", i, code)
			}
		})
	}
	serving = make([]*node.Node, nodes)
	for range nodes {
		select {
		case n := <-started:
			serving[n.Self] = n
		case <-time.After(10 * time.Second):
			t.Fatal("a node is not serving after 10s")
		}
	}
	return cfg, path, serving
}
