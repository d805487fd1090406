package node

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
)

// startServer starts a server of TestMain, which a shell becomes after a command, as a process. It returns
// when the server says at its control port that it serves.
func startServer(t *testing.T, command, file string, cfg cluster.Config, stdout, stderr io.Writer) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command+`; exec "$0" -config "$1"`, os.Args[0], file)
	cmd.Env = append(os.Environ(), "LOCKSTEP_TEST_SERVER=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		s, err := client.Stats(ctx, cfg, 0)
		if s.Serving {
			return cmd
		}
		if ctx.Err() != nil {
			t.Fatalf("after 10 s the statistics are %+v (%v)", s, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// A server as a process of its own, and the signals of a terminal. One that cannot write its log, to
// a closed pipe or a full disk, goes on serving and drains. Statistics that cannot be written are
// a failure, reported in one line. A server that was started with nohup outlives its terminal.
func TestSignals(t *testing.T) {
	t.Parallel()
	far, closed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	defer closed.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	var stdout, stderr bytes.Buffer
	const nohup = `trap "" HUP`
	for _, test := range []struct {
		name, command  string
		stdout, stderr io.Writer
		stop           syscall.Signal
		code, lines    int
		says           string
	}{
		{"the terminal is closed", ":", &stdout, closed, syscall.SIGHUP, 0, 6, ""},
		{"no space for the statistics", nohup, full, &stderr, syscall.SIGINT, 1, 0,
			"then stopping node.test: printing the statistics: write /dev/stdout: no space left on device"},
	} {
		stdout.Reset()
		stderr.Reset()
		if signal.Ignored(syscall.SIGHUP) && test.stop == syscall.SIGHUP {
			continue // under nohup, which the server would inherit
		}
		cfg, file := config(t, 1)
		cmd := startServer(t, test.command, file, cfg, test.stdout, test.stderr)
		if test.command == nohup {
			cmd.Process.Signal(syscall.SIGHUP)
		}
		nc := dial(t, cfg.Nodes[0].Addr)
		io.WriteString(nc, "garbage, which is worth a line in the log")
		io.Copy(io.Discard, nc)
		nc.Close()
		cl := client.New(cfg)
		put(t, cl, "k")
		cl.Close()
		cmd.Process.Signal(test.stop)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != test.code || strings.Count(stdout.String(), "\n") != test.lines {
			t.Errorf("%s: exit code %d (%v), stdout %q, want %d, %d lines", test.name, code, cmd.ProcessState, &stdout, test.code, test.lines)
		}
		if got := unwrap(stderr.String()); !strings.Contains(got, test.says) || strings.Contains(got, "hangup") {
			t.Errorf("%s: said %q, want %q in it, and no hangup", test.name, got, test.says)
		}
	}
}

// A server that may have fewer files open than max_connections says so at the start and refuses the
// clients that there is no room for. It serves those that it has, and answers at its control port:
// strangers at both ports take no descriptor that a client or a question needs.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 1, func(c *cluster.Config) { c.Secret = theSecret })
	var stderr bytes.Buffer
	cmd := startServer(t, "ulimit -n 40", file, cfg, nil, &stderr) // a test could not raise its own limit again
	for range 22 {
		dial(t, cfg.Nodes[0].Addr)
		dial(t, cfg.Nodes[0].Control)
	}
	var clients []*client.Client
	for range 6 {
		cl, err := client.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, cl)
		_, _, got := cl.Get(t.Context(), "k")
		if _, err := cl.Stats(t.Context(), 0); got != nil || err != nil {
			t.Fatalf("client %d: %v, %v, want a place and an answer", len(clients), got, err)
		}
	}
	refused, err := io.ReadAll(dial(t, cfg.Nodes[0].Addr))
	if !strings.Contains(string(refused), "all 6 places are taken") || err != nil {
		t.Errorf("one client too many is told %q, %v, want that all places are taken", refused, err)
	}
	for _, cl := range clients { // for which the server would wait
		cl.Close()
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v, want no error", err)
	}
	got := unwrap(stderr.String())
	if !containsAll(got, "max_connections: 40 open files have room for 6, not 10000", "ulimit -n", "gave way") ||
		strings.Contains(got, "cannot accept") {
		t.Errorf("said %q, want that 40 files are too few for max_connections, that strangers gave way, and no trouble", got)
	}
}
