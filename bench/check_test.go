package main

import (
	"context"
	"net"
	"strings"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// Wrong answers of servers have an exit code of their own.
func TestCheck(t *testing.T) {
	forgetful := func(ctx context.Context, ln net.Listener, n *node.Node) error {
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			n.Answer(c, func(ops []wire.Op) []wire.Result { return benchtest.Locked(nil)(ops) }) // of another table each time
		})
	}
	for _, test := range []struct {
		serve          node.Serve
		duration       string
		code           int
		stdout, stderr string
	}{
		{benchtest.ServeLocked, "100ms", exitOK, "the running servers: linearizable; ", ""},
		{forgetful, "30s", exitWrongData, "the running servers: violated; ", "bench: the running servers gave answers that are not linearizable\n"},
	} {
		_, path, _ := benchtest.StartCluster(t, 1, 0, test.serve)
		code, stdout, stderr := bench(t, "check", "-running", "-config", path, "-duration", test.duration)
		if code != test.code || !strings.HasPrefix(stdout, test.stdout) || stderr != test.stderr {
			t.Errorf("exit code %d, stdout %q, stderr %q, want %d, %q and %q", code, stdout, stderr, test.code, test.stdout, test.stderr)
		}
	}
}
