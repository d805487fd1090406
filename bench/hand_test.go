package main

import (
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

func TestByHand(t *testing.T) {
	cfg, path, _ := benchtest.StartCluster(t, 3, 0, benchtest.ServeLocked)
	took := regexp.MustCompile(`[0-9.]+(µs|ms) with the connection\n$`)
	const binary = "\x00\xff\x1b[2J\r\n"
	for _, test := range []struct {
		args, piped    string // piped: standard input
		code           int
		stdout, stderr string // but for node and time
	}{
		{"get|color", "", exitFailure, "", "bench: color: missing, "},
		{"put|color|blue", "", exitOK, "color: created, ", ""},
		{"put|color|-5", "", exitOK, "color: replaced, ", ""},
		{"get|color", "", exitOK, "-5", "color: found, "},
		{"put|a key", binary, exitOK, "a key: created, ", ""},
		{"get|a key", "", exitOK, binary, "a key: found, "},
		{"put|size|", "unread", exitOK, "size: created, ", ""},
		{"get|size", "", exitOK, "", "size: found, "},
		{"delete|color", "", exitOK, "color: deleted, ", ""},
		{"delete|color", "", exitOK, "color: missing, ", ""},
	} {
		if test.piped != "" {
			pipeIn(t, test.piped)
		}
		args := strings.Split(test.args, "|")
		owner := cfg.Owner(args[1])
		code, stdout, stderr := bench(t, slices.Insert(args, 1, "-config", path)...)
		end := fmt.Sprintf("node %d (%s), TIME", owner, cfg.Nodes[owner].Addr)
		got := took.ReplaceAllString(stdout, "TIME") + "; " + took.ReplaceAllString(stderr, "TIME")
		want := test.stdout + "; " + test.stderr + end
		if test.stderr == "" {
			want = test.stdout + end + "; "
		}
		if code != test.code || got != want {
			t.Errorf("bench %q: exit code %d, %q, want %d, %q", args, code, got, test.code, want)
		}
	}
	pipeIn(t, strings.Repeat("v", wire.MaxValue+1))
	if code, _, stderr := bench(t, "put", "-config", path, "k"); code != exitUsage || !strings.Contains(stderr, "longer than 16384 bytes") {
		t.Errorf("a value that is too large: exit code %d, %s", code, stderr)
	}
	os.Stdin.Close()
	if code, _, stderr := bench(t, "put", "-config", path, "k"); code != exitFailure || !strings.Contains(stderr, "closed") {
		t.Errorf("standard input that cannot be read: exit code %d, %s, want 1 and why", code, stderr)
	}
}

// pipeIn makes text the standard input of the rest of the test.
func pipeIn(t *testing.T, text string) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = in
	t.Cleanup(func() { os.Stdin = before; in.Close() })
	out.WriteString(text) // fits into the pipe
	out.Close()
}

// What listens at a node's addresses is not Lockstep's: that is said at once, and first.
func TestForeignServer(t *testing.T) {
	var addrs [2]string
	for i := range addrs {
		web := httptest.NewServer(nil)
		defer web.Close()
		addrs[i] = web.Listener.Addr().String()
	}
	checkNoServer(t, "get color,delete color,run,check -running", addrs[:], 4*time.Second,
		`127.0.0.1:\d+ is not a Lockstep server: it says HTTP/1.1 400 Bad Request \(.*node 0[^?]*`)
}

// Without a server, the error comes soon and says what to do. One that accepts and then says
// nothing is waited for, but not for long.
func TestNoServer(t *testing.T) {
	t.Parallel() // waits 5 s for the silent one
	free, err := node.FreeAddrs(4)
	if err != nil {
		t.Fatal(err)
	}
	const start = `\n\(is the server running\? go run ./stage4_bucketlock -config \S+ -node NUMBER starts it\)`
	var refused sync.WaitGroup
	defer refused.Wait()
	refused.Go(func() { checkNoServer(t, "get color,run", free, 20*time.Second, "[^?]*refused[^?]*"+start) })
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	checkNoServer(t, "get color", []string{silent.Addr().String(), free[1]}, 20*time.Second, "no answer in 5s: not greeted: [^?]*")
}

// checkNoServer runs these commands with nodes at these addresses. Each of them has to fail, and
// to say only what is wanted.
func checkNoServer(t *testing.T, commands string, addrs []string, limit time.Duration, want string) {
	t.Helper()
	cfg, path := cluster.Default(), filepath.Join(t.TempDir(), "cluster.json")
	cfg.Nodes = nil
	for pair := range slices.Chunk(addrs, 2) {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: pair[0], Control: pair[1]})
	}
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	for command := range strings.SplitSeq(commands, ",") {
		name, rest, _ := strings.Cut(command, " ")
		began := time.Now()
		code, stdout, stderr := bench(t, append([]string{name, "-config", path}, strings.Fields(rest)...)...)
		match, _ := regexp.MatchString("^bench: "+want+"\n$", stderr)
		if took := time.Since(began); code != exitFailure || stdout != "" || !match || took > limit {
			t.Errorf("bench %s: exit code %d after %v, stdout %q, stderr %q, want 1 and %s", command, code, took, stdout, stderr, want)
		}
	}
}

// Where the file is in its usual place, and has one node, the advice names neither.
func TestAdvise(t *testing.T) {
	o := &options{config: cluster.DefaultPath, cfg: cluster.Default()}
	dial := fmt.Errorf("asking: %w", &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")})
	if got := o.advise(dial); !errors.Is(got, dial) || !strings.HasSuffix(got.Error(), "go run ./stage4_bucketlock starts it)") {
		t.Errorf("the advice is %q, want the error and how to start a stage", got)
	}
	if reset := (&net.OpError{Op: "read", Err: errors.New("reset")}); o.advise(reset) != reset {
		t.Errorf("the advice on %q is %q, want none", reset, o.advise(reset))
	}
}

// Each node has its line, one that does not answer too; then the exit code is 1.
func TestStatus(t *testing.T) {
	t.Parallel() // waits a second for the second answer
	cfg, path, _ := benchtest.StartCluster(t, 2, 0, benchtest.ServeLocked)
	addrs, err := node.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	bench(t, "put", "-config", path, "color", "blue")
	owner := cfg.Owner("color")
	for _, dead := range []bool{false, true} {
		if dead {
			cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: addrs[0], Control: addrs[1]})
			cfg.Save(path)
		}
		code, stdout, stderr := bench(t, "status", "-config", path)
		benchtest.CheckWidth(t, stdout, 80)
		want := `node .*\n`
		for i := range 2 { // its address, stage, how long and since when, keys, clients, requests/s, refused
			keys := map[bool]int{true: 1, false: 0}[i == owner]
			want += fmt.Sprintf(`%d %s +here +[0-9.]+m?s +%d +0 +0 +0\n`, i, cfg.Nodes[i].Addr, keys)
		}
		if dead {
			want += "2 " + addrs[0] + " +does not answer\n"
		}
		match, _ := regexp.MatchString("^"+want+`Requests/s are .*\n$`, stdout)
		if !match || (code == exitFailure) != dead || strings.Contains(stderr, "refused (asking node 2, ") != dead || strings.Contains(stderr, "(is the server running?") != dead {
			t.Errorf("exit code %d, %q, want %v to be 1; want %s in\n%s", code, stderr, dead, want, stdout)
		}
	}
}
