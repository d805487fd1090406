package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
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
	const binary = "\x00\xff\x1b[2J\r\n"
	for _, test := range []struct {
		args             []string
		piped, value     string // standard input, and output without the story
		story            string // but for the time
		storyToo, failed bool   // the story is on standard output
	}{
		{args: []string{"get", "color"}, story: "bench: color: missing, " + owner("color"), failed: true},
		{args: []string{"put", "color", "blue"}, story: "color: created, " + owner("color"), storyToo: true},
		{args: []string{"put", "color", "-5"}, story: "color: replaced, " + owner("color"), storyToo: true},
		{args: []string{"get", "color"}, value: "-5", story: "color: found, " + owner("color")},
		{args: []string{"put", "a key"}, piped: binary, story: "a key: created, " + owner("a key"), storyToo: true},
		{args: []string{"get", "a key"}, value: binary, story: "a key: found, " + owner("a key")},
		{args: []string{"put", "size", ""}, piped: "unread", story: "size: created, " + owner("size"), storyToo: true},
		{args: []string{"get", "size"}, story: "size: found, " + owner("size")},
		{args: []string{"delete", "color"}, story: "color: deleted, " + owner("color"), storyToo: true},
		{args: []string{"delete", "color"}, story: "color: missing, " + owner("color"), storyToo: true},
	} {
		if test.piped != "" {
			pipeIn(t, test.piped)
		}
		args := append([]string{test.args[0], "-config", path}, test.args[1:]...)
		code, stdout, stderr := bench(t, args...)
		story := stderr
		if test.storyToo {
			story, stdout = stdout, stderr
		}
		if got := took.ReplaceAllString(story, ""); (code != exitOK) != test.failed || code > 1 || stdout != test.value || got != test.story || got == story {
			t.Errorf("bench %q: exit code %d, story %q, else %q, want %q and a time, and %q", test.args, code, story, stdout, test.story, test.value)
		}
	}
	pipeIn(t, strings.Repeat("v", wire.MaxValue+1))
	if code, _, stderr := bench(t, "put", "-config", path, "k"); code != exitUsage || !strings.Contains(stderr, "longer than 16384 bytes") {
		t.Errorf("a value that is too large: exit code %d, %s", code, stderr)
	}
}

// pipeIn makes text the standard input of the rest of the test.
func pipeIn(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = f
	t.Cleanup(func() { os.Stdin = before; f.Close() })
}

// What listens at a node's addresses is not Lockstep's: that is said at once, and first.
func TestForeignServer(t *testing.T) {
	cfg, path := cluster.Default(), t.TempDir()+"/web.json"
	for _, addr := range []*string{&cfg.Nodes[0].Addr, &cfg.Nodes[0].Control} {
		web := httptest.NewServer(nil)
		defer web.Close()
		*addr = web.Listener.Addr().String()
	}
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"get -config % color", "delete -config % color", "run -config %", "check -running -config %"} {
		began := time.Now()
		code, stdout, stderr := bench(t, strings.Fields(strings.ReplaceAll(args, "%", path))...)
		want := regexp.MustCompile(`^bench: 127.0.0.1:\d+ is not a Lockstep server: it says HTTP/1.1 400 Bad Request \(.*node 0`)
		if took := time.Since(began); code != exitFailure || stdout != "" || !want.MatchString(stderr) || took > 4*time.Second {
			t.Errorf("bench %s: exit code %d after %v, stdout %q, stderr %q, want 1 and %v", args, code, took, stdout, stderr, want)
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
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("bench %q took %v to find out that nobody listens", args, took)
		}
	}
}

// A server that accepts and then says nothing is waited for, but not for long.
func TestSilentServer(t *testing.T) {
	t.Parallel() // waits 5 s
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cfg, path := cluster.Default(), t.TempDir()+"/silent.json"
	cfg.Nodes[0].Addr = silent.Addr().String()
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := bench(t, "get", "-config", path, "color"); code != exitFailure || !strings.HasPrefix(stderr, "bench: no answer in 5s: not greeted: ") {
		t.Errorf("a silent server: exit code %d, stderr %q", code, stderr)
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
