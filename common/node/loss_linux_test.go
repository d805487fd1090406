package node

import (
	"context"
	"io"
	"net"
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

// startServing starts a server, and returns when it says at its control port that it serves.
func startServing(t *testing.T, cmd *exec.Cmd, cfg cluster.Config) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		s, err := client.Stats(ctx, cfg, 0)
		if s.Serving {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("after 10 s the statistics are %+v (%v)", s, err)
		}
		<-time.After(time.Millisecond)
	}
}

// inShell returns a child that a shell becomes after a command.
func inShell(t *testing.T, command, server, file string) *exec.Cmd {
	cmd := child(t, server, file)
	sh := exec.CommandContext(t.Context(), "sh", append([]string{"-c", command + `; exec "$@"`, "sh"}, cmd.Args...)...)
	sh.Env = cmd.Env
	return sh
}

// exitCode sends a child a signal, waits for its end, and returns its exit code, or -1 if a
// signal killed it.
func exitCode(cmd *exec.Cmd, stop os.Signal) int {
	cmd.Process.Signal(stop)
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// A server that cannot write its log, to a closed pipe or a full disk, goes on serving and
// drains. Statistics that cannot be written are a failure, reported in one line.
func TestLogThatIsLost(t *testing.T) {
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
	var said strings.Builder
	for _, test := range []struct {
		name           string
		stdout, stderr io.Writer
		stop           syscall.Signal
		code           int
		says           string
	}{
		{"the terminal is closed", closed, closed, syscall.SIGHUP, 1, ""},
		{"the disk is full", full, full, syscall.SIGTERM, 1, ""},
		{"the log is closed", nil, closed, syscall.SIGTERM, 0, ""},
		{"the statistics have no reader", closed, &said, syscall.SIGTERM, 1, "printing the statistics: write /dev/stdout: broken pipe"},
		{"no space for the statistics", full, &said, syscall.SIGTERM, 1, "printing the statistics: write /dev/stdout: no space left on device"},
	} {
		said.Reset()
		cfg, file := config(t, 1)
		cmd := child(t, "drains", file)
		cmd.Stdout, cmd.Stderr = test.stdout, test.stderr
		startServing(t, cmd, cfg)
		nc := dial(t, cfg.Nodes[0].Addr)
		io.WriteString(nc, "garbage, which is worth a line in the log")
		io.Copy(io.Discard, nc)
		nc.Close()
		putKey(t, cfg).Close()
		stop := test.stop
		if signal.Ignored(stop) { // under nohup, which the server has inherited
			stop = syscall.SIGTERM
		}
		if code := exitCode(cmd, stop); code != test.code {
			t.Errorf("%s: exit code %d (%v), want %d", test.name, code, cmd.ProcessState, test.code)
		}
		if !strings.Contains(said.String(), test.says) || strings.Contains(said.String(), "panic") {
			t.Errorf("%s: said %q, want %q in it", test.name, &said, test.says)
		}
	}
}

// A server started with nohup outlives its terminal.
func TestNohup(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 1)
	cmd := inShell(t, `trap "" HUP`, "drains", file)
	var said strings.Builder
	cmd.Stderr = &said
	startServing(t, cmd, cfg)
	cmd.Process.Signal(syscall.SIGHUP)
	putKey(t, cfg).Close()
	if code := exitCode(cmd, syscall.SIGTERM); code != 0 || strings.Contains(said.String(), "hangup") {
		t.Errorf("exit code %d, and it said %q, want 0, and only the other signal in the log", code, &said)
	}
}

// A server that may have fewer files open than max_connections says so at the start and
// refuses the clients that there is no room for. It serves those that it has, and answers
// at its control port.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 1)
	var said strings.Builder
	cmd := inShell(t, "ulimit -n 40", "crowded", file) // a test could not raise its own limit again
	cmd.Stderr = &said
	startServing(t, cmd, cfg)
	cl, refused := putKey(t, cfg), 0
	var kept []net.Conn
	for range 60 {
		nc := dial(t, cfg.Nodes[0].Addr)
		if strings.Contains(readAll(t, nc, make([]byte, 64)), "all 6 places are taken") {
			refused++
		}
		kept = append(kept, nc)
	}
	if _, _, err := cl.Get(t.Context(), "k"); err != nil || refused != 55 {
		t.Errorf("refused %d of 60 connections and a client from before has %v, want 55 and no error", refused, err)
	}
	if s, err := client.Stats(t.Context(), cfg, 0); !s.Serving {
		t.Errorf("at the control port: %+v, %v, want that it serves", s, err)
	}
	cl.Close()
	for _, nc := range kept { // for which the server would wait
		nc.Close()
	}
	if code := exitCode(cmd, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if got := unwrap(said.String()); !containsAll(got, "max_connections: 40 open files have room for 6, not 10000", "ulimit -n") || strings.Contains(got, "cannot accept") {
		t.Errorf("said %q, want that 40 files are too few for max_connections, and no trouble", &said)
	}
}

// With few descriptors, strangers at both ports take none that a client or a question needs.
func TestStrangersTakeFewDescriptors(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 1)
	cfg.Secret = theSecret
	if err := cfg.Save(file); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := inShell(t, "ulimit -n 120", "crowded", file)
	cmd.Stderr = &said
	startServing(t, cmd, cfg)
	for range 200 {
		dial(t, cfg.Nodes[0].Addr)
		dial(t, cfg.Nodes[0].Control)
	}
	var clients []*client.Client
	for range 50 {
		cl, err := client.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, cl)
		if _, err := cl.Stats(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, cl := range clients {
		cl.Close()
	}
	if code := exitCode(cmd, syscall.SIGTERM); code == -1 {
		t.Errorf("exit code %d", code)
	}
	if got := unwrap(said.String()); !containsAll(got, "120 open files have room for 66", "gave way") || strings.Contains(got, "cannot accept") {
		t.Errorf("said %q, want that strangers gave way, and no trouble", got)
	}
}
