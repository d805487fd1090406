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
	t.Parallel() // waits until the node is down, and 5 s for the silent one
	free, err := node.FreeAddrs(4)
	if err != nil {
		t.Fatal(err)
	}
	const start = `\n\(is the server running\? go run ./stage4_bucketlock -config \S+ -node NUMBER starts it\)`
	checkNoServer(t, "get color,run", free, 20*time.Second, "[^?]*refused[^?]*"+start)
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
	bench(t, "put", "-config", path, "color", "blue")
	owner := cfg.Owner("color")
	code, stdout, stderr := bench(t, "status", "-config", path)
	lines := strings.Split(stdout, "\n")
	if code != exitOK || stderr != "" || len(lines) != 5 {
		t.Fatalf("exit code %d, %q, want 0, a line for each of two nodes and two more:\n%s", code, stderr, stdout)
	}
	for i, line := range lines[1:3] {
		want := map[bool]string{true: "1", false: "0"}[i == owner]
		fields := strings.Fields(line) // number, address, stage, how long and since when, keys, clients, requests/s, refused
		if len(fields) != 8 || fields[1] != cfg.Nodes[i].Addr || fields[2] != "here" || fields[4] != want || !slices.Equal(fields[5:], []string{"0", "0", "0"}) {
			t.Errorf("node %d: %q, want its address, %s keys and no load", i, line, want)
		}
	}

	addrs, err := node.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: addrs[0], Control: addrs[1]})
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = bench(t, "status", "-config", path)
	lines = strings.Split(stdout, "\n")
	if code != exitFailure || len(lines) != 6 || !strings.HasPrefix(lines[3], "2 "+addrs[0]) || !strings.HasSuffix(lines[3], "does not answer") ||
		!strings.Contains(stderr, "refused (asking node 2, ") || !strings.Contains(stderr, "(is the server running?") {
		t.Errorf("without node 2: exit code %d, %q, want 1, and a line for it:\n%s", code, stderr, stdout)
	}
	benchtest.CheckWidth(t, stdout, 80)
}
