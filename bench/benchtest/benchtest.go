// Package benchtest is what the tests of several packages share: nodes that run inside the
// test, and control of processes with a known fault. It is not part of the program.
package benchtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// Slow skips a test that takes longer than a few seconds, unless LOCKSTEP_SLOW is set.
func Slow(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Getenv("LOCKSTEP_SLOW") == "" {
		t.Skip("slow; LOCKSTEP_SLOW=1 runs it")
	}
}

// RaceFlag is what the go command needs to compile as it did this test: packages that are
// compiled already are not compiled again without the race detector.
func RaceFlag() string {
	info, _ := debug.ReadBuildInfo()
	return fmt.Sprint("-race=", slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}))
}

// EmptyFolder gives the test its own directory for temporary files, and fails the test if
// a file is left in it at the end.
func EmptyFolder(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	t.Cleanup(func() {
		files, err := os.ReadDir(dir)
		if len(files) > 0 || err != nil {
			t.Errorf("left in the directory for temporary files: %v (%v)", files, err)
		}
	})
}

// CheckWidth fails the test if a line of text has more than limit columns.
func CheckWidth(t *testing.T, text string, limit int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > limit {
			t.Errorf("%d columns, want at most %d: %s", n, limit, line)
		}
	}
}

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
		conns.Go(func() {
			defer c.Close()
			for c.Ready() {
				turn(c)
				c.Flush()
			}
		})
	}
}

// ServeLocked is a correct stage, with one lock around the table.
func ServeLocked(ctx context.Context, ln net.Listener, n *node.Node) error {
	apply := Locked(n)
	return ServeAll(ctx, ln, n, func(c *node.Conn) { n.Answer(c, apply) })
}

// Locked returns the Apply method of a new table, made safe for concurrent use. The table is
// n's, or a plain one if n is nil.
func Locked(n *node.Node) func([]wire.Op) []wire.Result {
	t := table.New(cluster.Work{}, nil)
	if n != nil {
		t = n.NewTable()
	}
	var mu sync.Mutex // guards t
	return func(ops []wire.Op) []wire.Result {
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
	serving = make([]*node.Node, nodes)
	var starting, running sync.WaitGroup // running: until the end of standard input
	stdin, end := io.Pipe()
	t.Cleanup(func() {
		end.Close()
		running.Wait()
	})
	for i := range nodes {
		starting.Add(1)
		started := sync.OnceFunc(starting.Done)
		running.Go(func() {
			defer started() // if it cannot serve
			args := []string{"here", "-child", "-config", path, "-node", strconv.Itoa(i)}
			code := 1
			for try := 0; code != 0 && serving[i] == nil && try < 100; try++ { // a process that another test has just forked holds the port until its exec
				control.Pause(t.Context(), time.Duration(try)*time.Millisecond)
				code = node.Run(args, stdin, t.Output(), t.Output(), func(ctx context.Context, ln net.Listener, n *node.Node) error {
					serving[i] = n
					started()
					return serve(ctx, ln, n)
				})
			}
			if code != 0 {
				t.Errorf("node %d: exit code %d", i, code)
			}
		})
	}
	starting.Wait()
	return cfg, path, serving
}

// NewFaulty gives this fault, or none if it is "", to the processes of the stage in testdata/faulty,
// or of a program whose main function calls FaultyMain or StageMain, that start from now on until
// the end of the test, which waits until they have ended. Each of them that starts sends a value.
func NewFaulty(t *testing.T, fault string) (started <-chan bool) {
	t.Helper()
	env, started := WatchFaulty(t, fault)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	return started
}

// WatchFaulty gives this fault only to processes with env in their environment.
func WatchFaulty(t *testing.T, fault string) (env []string, started <-chan bool) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	starting := make(chan bool, 100)
	var watching sync.WaitGroup
	watching.Go(func() { // ends with ln
		for nc, err := ln.Accept(); err == nil; nc, err = ln.Accept() {
			starting <- true
			watching.Go(func() { // ends with the process
				io.Copy(io.Discard, nc)
				nc.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		watching.Wait()
	})
	return []string{"LOCKSTEP_FAULT=" + fault, "LOCKSTEP_TELL=" + ln.Addr().String(), "LOCKSTEP_SECRET="}, starting
}

// FaultyMain is the start of a program that NewFaulty watches. It returns the program's fault.
func FaultyMain() (fault string) {
	nc, err := net.Dial("tcp", os.Getenv("LOCKSTEP_TELL"))
	if err != nil {
		panic(err)
	}
	go nc.Read(make([]byte, 1)) // ends with the process; the garbage collector would close an unused connection
	return os.Getenv("LOCKSTEP_FAULT")
}

// StageMain is the TestMain of a package that starts its own test binary as a stage.
func StageMain(m *testing.M) {
	if slices.Contains(os.Args, "-child") {
		FaultyMain()
		node.Main(ServeLocked)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the stages: they end at once
	m.Run()
}

// OnlyInPath returns a directory in which this test's binary is the only program, under this
// name: a PATH. Its TestMain must call FaultyMain when it runs under that name.
func OnlyInPath(t *testing.T, name string) (dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, name)); err != nil || runtime.GOOS == "windows" {
		t.Skip("needs symbolic links to programs")
	}
	return dir
}
