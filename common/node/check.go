package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/text"
	"lockstep/common/wire"
)

const checkTime = 2 * time.Second // for a connection to a service port and its greeting

var errNotGreeted = errors.New("it does not greet: it serves another client (stage 1 takes one at a time), or is stuck")

// check dials both ports of each node, and writes a line for each: that it serves this
// configuration, or what is wrong and what to do. It reports whether all is well.
func check(w io.Writer, stage string, cfg cluster.Config) (well bool) {
	said, right := make([]string, len(cfg.Nodes)), make([]bool, len(cfg.Nodes))
	var checking sync.WaitGroup
	for i := range cfg.Nodes {
		checking.Go(func() { said[i], right[i] = checkNode(stage, cfg, i) }) // 3 s at most at each port
	}
	checking.Wait()
	well = true
	for i, n := range cfg.Nodes {
		fmt.Fprintf(w, "node %d (%s): %s\n", i, n.Addr, text.Printable(said[i]))
		well = well && right[i]
	}
	return well
}

func checkNode(stage string, cfg cluster.Config, i int) (says string, well bool) {
	var wrong []string
	served := greeted(cfg, i)
	s, asked := stats(cfg, i)
	if refused(served) && refused(asked) {
		return fmt.Sprintf("refuses connections, so it does not run: start it, on its machine, with -node %d", i), false
	}
	if asked == nil && !s.Serving {
		wrong = append(wrong, "is up and does not serve: it waits for other nodes, which its log names, or stops")
		if errors.Is(served, errNotGreeted) {
			served = nil
		}
	}
	if asked == nil && s.Stage != stage {
		wrong = append(wrong, fmt.Sprintf("runs %s, and this is %s: start the same stage everywhere", text.Quote(s.Stage, 60), stage))
	}
	for _, port := range []struct {
		name, addr string
		err        error
	}{{"addr", cfg.Nodes[i].Addr, served}, {"control", cfg.Nodes[i].Control, asked}} {
		if port.err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %s", port.name, advice(port.addr, port.err)))
		}
	}
	if wrong != nil {
		return strings.Join(wrong, "; "), false
	}
	says = fmt.Sprintf("serves; %s for %s, with %s", s.Stage, text.Duration(s.Uptime), text.Plural(s.Keys, "key"))
	if differ := cluster.Differences(cfg.DescribeServer(), s.Server); differ != "" {
		says += "; note that " + differ
	}
	return says, true
}

// greeted connects to a node's service port, and leaves once it is greeted.
func greeted(cfg cluster.Config, i int) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), checkTime, errNotGreeted)
	defer cancel()
	nc, err := control.DialTCP(ctx, cfg.Nodes[i].Addr)
	if err != nil {
		return err
	}
	c, err := wire.Open(ctx, nc, hello(cfg, i), wire.Limits{})
	if err == nil {
		c.Close()
	}
	return err
}

// stats asks a node for its statistics.
func stats(cfg cluster.Config, i int) (s metrics.Snapshot, err error) {
	answer, err := control.AskStats(context.Background(), cfg.Nodes[i].Control, "nodes", i, cfg.Secret)
	if err == nil {
		err = json.Unmarshal(answer, &s)
	}
	return s, err
}

// refused reports whether nothing listens at the address that was dialled.
func refused(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && (errno == syscall.ECONNREFUSED || errno == 10061) // the latter on Windows
}

// advice says why a port of a node cannot be used, and what to do.
func advice(addr string, err error) string {
	var unknown *net.DNSError
	var late net.Error
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("%v: correct the name, or make it known to this machine", unknown)
	case refused(err):
		return fmt.Sprintf("%s refuses connections: correct the port, or the node's listen", addr)
	case errors.As(err, &late) && late.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer from %s: is the machine on, the address right, and the port open in the firewalls?", addr)
	}
	return err.Error()
}
