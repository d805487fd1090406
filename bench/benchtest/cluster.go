package benchtest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// serveAll serves as a stage does that takes all that come: each in a goroutine of
// its own. turn answers what a connection has ready.
func ServeAll(ctx context.Context, ln net.Listener, n *node.Node, turn func(*node.Conn)) error {
	var conns sync.WaitGroup // each ends when its client leaves, or ctx does
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if c == nil {
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

// serveLocked is a right stage: one lock around the table.
func ServeLocked(ctx context.Context, ln net.Listener, n *node.Node) error {
	apply := Locked(n)
	return ServeAll(ctx, ln, n, func(c *node.Conn) { n.Answer(c, apply) })
}

// locked is an empty table behind a lock.
func Locked(n *node.Node) func([]wire.Op) []wire.Result {
	var mu sync.Mutex // guards table
	table := n.NewTable()
	return func(ops []wire.Op) []wire.Result {
		mu.Lock()
		defer mu.Unlock()
		return table.Apply(ops)
	}
}

// serveOne takes one client after the other.
func ServeOne(ctx context.Context, ln net.Listener, n *node.Node) error {
	table := n.NewTable()
	for {
		c, err := n.Accept(ctx, ln)
		if c == nil {
			return err
		}
		serveConn(c, func(c *node.Conn) { n.Answer(c, table.Apply) })
	}
}

// here serves, in this process, as so many nodes without a control port, until the
// end of the test.
func Here(t *testing.T, nodes int, serve node.Serve) (cluster.Config, []*node.Node) {
	t.Helper()
	cfg := cluster.Default()
	cfg.Clients, cfg.Nodes = nil, nil
	var listeners []net.Listener
	for i := range nodes {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, ln)
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: ln.Addr().String(), Control: "127.0.0.1:" + strconv.Itoa(1+i)})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all []*node.Node
	var served sync.WaitGroup // until cancel
	for i, ln := range listeners {
		n := node.New(cfg, i, slog.New(slog.DiscardHandler))
		all = append(all, n)
		served.Go(func() {
			if err := serve(ctx, ln, n); !errors.Is(err, node.ErrStopped) {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		served.Wait()
	})
	return cfg, all
}

// cluster runs whole nodes in this process, with control ports, until the end of the
// test, and returns their configuration and the file that holds it.
func StartCluster(t *testing.T, nodes, clients int, serve node.Serve) (cfg cluster.Config, path string) {
	t.Helper()
	t.Setenv("LOCKSTEP_SECRET", "")
	path = filepath.Join(t.TempDir(), "cluster.json")
	cfg = cluster.Default()
	addrs := FreeAddrs(t, 2*nodes+clients)
	cfg.Nodes, cfg.Clients = nil, nil
	for i := range nodes {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: addrs[2*i], Control: addrs[2*i+1]})
	}
	for _, addr := range addrs[2*nodes:] {
		cfg.Clients = append(cfg.Clients, cluster.Client{Control: addr})
	}
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup // until the end of standard input
	stdin, end := io.Pipe()
	t.Cleanup(func() {
		end.Close()
		running.Wait()
	})
	for i := range nodes {
		running.Go(func() {
			var said Buffer
			args := []string{"here", "-child", "-config", path, "-node", strconv.Itoa(i)}
			if code := node.Run(args, stdin, &said, &said, serve); code != 0 {
				t.Errorf("node %d ended with %d:\n%s", i, code, said.String())
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := range nodes {
		for serving := false; !serving; {
			s, err := client.Stats(ctx, cfg, i)
			if ctx.Err() != nil {
				t.Fatalf("node %d does not serve: %v", i, err)
			}
			serving = err == nil && s.Serving
		}
	}
	return cfg, path
}

// FreeAddrs returns n different loopback addresses whose ports are free now, and below
// the ephemeral range, from which a client's socket could take one before a server does.
func FreeAddrs(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for len(addrs) < n {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(10_000)))
		ln, err := net.Listen("tcp", addr)
		if err == nil && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
		if err == nil {
			ln.Close()
		}
	}
	return addrs
}
