package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/text"
	"lockstep/common/wire"
)

// check dials both ports of each node, and writes a line for each: that it serves this
// configuration, or what is wrong with it and what to do. It returns the exit code.
func check(w io.Writer, stage string, cfg cluster.Config) (code int) {
	said, errs := make([]string, len(cfg.Nodes)), make([]error, len(cfg.Nodes))
	var checking sync.WaitGroup
	for i := range cfg.Nodes {
		checking.Go(func() { said[i], errs[i] = checkNode(stage, cfg, i) }) // 3 s at most at each port
	}
	checking.Wait()
	for i, n := range cfg.Nodes {
		if errs[i] != nil {
			said[i], code = errs[i].Error(), 1
		}
		fmt.Fprintf(w, "node %d (%s): %s\n", i, n.Addr, text.Printable(said[i]))
	}
	return code
}

// checkNode says what a node is that serves this configuration. The error is what keeps it from
// that, and what to do.
func checkNode(stage string, cfg cluster.Config, i int) (says string, err error) {
	ctx := context.Background()
	_, served := control.Ask(ctx, new(net.Dialer).DialContext, cfg.Nodes[i].Addr, cfg.Hello(i), wire.Control{})
	s, asked := control.AskNode[metrics.Snapshot](ctx, cfg, i, wire.Stats)
	var unreached control.DialError
	switch {
	case errors.As(served, &unreached), errors.As(asked, &unreached):
		return "", fmt.Errorf("%w: does it run (-node %d)? are addr and control right, and open in the firewalls?", unreached, i)
	case asked != nil:
		return "", asked
	case s.Stage != stage:
		return "", fmt.Errorf("runs %s, and this is %s: start the same stage everywhere", text.Quote(s.Stage, 60), stage)
	case !s.Serving:
		return "", errors.New("is up and does not serve: it waits for other nodes, which its log names, or stops")
	case errors.Is(served, context.DeadlineExceeded):
		return "", errors.New("does not greet: it serves another client (stage 1 takes one at a time), or is stuck")
	case served != nil:
		return "", served
	}
	says = fmt.Sprintf("serves; %s for %s, with %s", stage, text.Duration(s.Uptime), text.Plural(s.Keys, "key"))
	if differ := cluster.Differences(cfg.DescribeServer(), s.Server); differ != "" {
		says += "; note that " + differ
	}
	return says, nil
}

// FreeAddrs tries one port after another, so that two calls do not return the same one.
var (
	firstPort  = rand.Uint32N(22_000) // other processes begin elsewhere
	portsTried atomic.Uint32
)

// FreeAddrs returns n different loopback addresses whose ports are free now, for servers
// that are about to start. The ports are below the ephemeral range, so that no client's
// socket takes one before a server does.
func FreeAddrs(n int) ([]string, error) {
	var addrs []string
	for range 100 * n {
		if addr := fmt.Sprintf("127.0.0.1:%d", 10_000+(firstPort+portsTried.Add(1))%22_000); !Taken(addr) {
			addrs = append(addrs, addr)
		}
		if len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("fewer than %d free ports on 127.0.0.1 from 10000 to 31999: stop some servers", n)
}

// Taken reports whether an address cannot be listened on.
func Taken(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		ln.Close()
	}
	return err != nil
}
