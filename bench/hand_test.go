package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

func TestByHand(t *testing.T) {
	cfg, path, _ := benchtest.StartCluster(t, 3, 0, benchtest.ServeLocked)
	owner := func(key string) string {
		return fmt.Sprintf("node %d (%s), ", cfg.Owner(key), cfg.Nodes[cfg.Owner(key)].Addr)
	}
	took := regexp.MustCompile(`[0-9.]+(µs|ms) with the connection\n$`)
	for _, test := range []struct {
		args []string
		want string // but for the time
	}{
		{[]string{"get", "color"}, "color: missing, " + owner("color")},
		{[]string{"put", "color", "blue"}, "color: created, " + owner("color")},
		{[]string{"put", "color", "-5"}, "color: replaced, " + owner("color")},
		{[]string{"get", "color"}, "-5\ncolor: found, " + owner("color")},
		{[]string{"put", "a key", "\x1b[2J"}, "a key: created, " + owner("a key")},
		{[]string{"get", "a key"}, `"\x1b[2J"` + "\na key: found, " + owner("a key")},
		{[]string{"put", "size", ""}, "size: created, " + owner("size")},
		{[]string{"get", "size"}, `""` + "\nsize: found, " + owner("size")},
		{[]string{"delete", "color"}, "color: deleted, " + owner("color")},
		{[]string{"delete", "color"}, "color: missing, " + owner("color")},
	} {
		args := append([]string{test.args[0], "-config", path}, test.args[1:]...)
		code, stdout, stderr := bench(t, args...)
		if got := took.ReplaceAllString(stdout, ""); code != exitOK || got != test.want || got == stdout || stderr != "" {
			t.Errorf("bench %q: exit code %d, stderr %q, stdout %q, want %q and a time", test.args, code, stderr, stdout, test.want)
		}
	}
}

// Without a server, the error comes soon and says what to do.
func TestNoServer(t *testing.T) {
	t.Parallel() // waits until the node is down
	addrs, err := node.FreeAddrs(4)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/two.json"
	cfg := cluster.Default()
	cfg.Nodes = []cluster.Node{{Addr: addrs[0], Control: addrs[1]}, {Addr: addrs[2], Control: addrs[3]}}
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"get", "-config", path, "color"}, {"run", "-config", path}} {
		began := time.Now()
		code, stdout, stderr := bench(t, args...)
		want := "\n(is the server running? go run ./stage4_bucketlock -config " + path + " -node NUMBER starts it)\n"
		if code != exitFailure || stdout != "" || !strings.HasSuffix(stderr, want) || !strings.Contains(stderr, "refused") {
			t.Errorf("bench %q: exit code %d, stdout %q, stderr %q, want 1 and %q", args, code, stdout, stderr, want)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("bench %q took %v to find out that nobody listens", args, took)
		}
	}
}

func TestAdvise(t *testing.T) {
	o := &options{config: cluster.DefaultPath, cfg: cluster.Default()}
	dial := fmt.Errorf("asking: %w", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")})
	if got := o.advise(dial); !errors.Is(got, dial) || !strings.HasSuffix(got.Error(), "\n(is the server running? go run ./stage4_bucketlock starts it)") {
		t.Errorf("the advice is %q", got)
	}
	for _, err := range []error{errors.New("the two ends disagree"), &net.OpError{Op: "read", Err: errors.New("reset")}} {
		if got := o.advise(err); got != err {
			t.Errorf("the advice on %q is %q, want none", err, got)
		}
	}
}

// Wrong answers of servers have an exit code of their own.
func TestCheckWrong(t *testing.T) {
	_, path, _ := benchtest.StartCluster(t, 1, 0, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			n.Answer(c, func(ops []wire.Op) []wire.Result { return benchtest.Locked(nil)(ops) }) // of an empty table each time
		})
	})
	code, stdout, stderr := bench(t, "check", "-running", "-config", path, "-duration", "30s")
	if want := "bench: the running servers gave answers that are not linearizable\n"; code != exitWrongData || stderr != want {
		t.Errorf("exit code %d, stdout %q, stderr %q, want 3 and %q", code, stdout, stderr, want)
	}
}
