package node

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
)

// startServer starts a server of TestMain, which a shell becomes after a command, as a process. It returns
// when the server says at its control port that it serves.
func startServer(t *testing.T, command, secret string, stdout, stderr io.Writer) (*exec.Cmd, cluster.Config) {
	t.Helper()
	cfg, file := config(t, 1, func(c *cluster.Config) { c.Secret = secret })
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command+`; exec "$0" -config "$1"`, os.Args[0], file)
	cmd.Env = append(os.Environ(), "LOCKSTEP_TEST_SERVER=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; <-time.After(5 * time.Millisecond) {
		s, err := client.Stats(t.Context(), cfg, 0)
		if s.Serving {
			return cmd, cfg
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("after 10 s the statistics are %+v (%v)", s, err)
		}
	}
}

// A server as a process of its own, and the signals of a terminal. One that cannot write its log, to
// a closed pipe or a full disk, goes on serving and drains. Statistics that cannot be written are
// a failure, reported in one line. A server that was started with nohup outlives its terminal.
func TestSignals(t *testing.T) {
	t.Parallel()
	far, closed, err := os.Pipe()
	full, noDevice := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err := errors.Join(err, noDevice); err != nil {
		t.Skip(err)
	}
	far.Close()
	defer closed.Close()
	defer full.Close()
	var said bytes.Buffer
	const nohup = `trap "" HUP`
	for _, test := range []struct {
		name, command  string
		stdout, stderr io.Writer
		stop           syscall.Signal
		code           int
		says           string // a regular expression
	}{
		{"the terminal is closed", ":", &said, closed, syscall.SIGHUP, 0, `^(.*\n){6}$`},
		{"no space for the statistics", nohup, full, &said, syscall.SIGINT, 1,
			`then stopping\n(?s:.*\n)?node\.test: printing the statistics: write /dev/stdout: no space left on device\n$`},
	} {
		said.Reset()
		if signal.Ignored(syscall.SIGHUP) && test.stop == syscall.SIGHUP {
			continue // under nohup, which the server would inherit
		}
		cmd, cfg := startServer(t, test.command, "", test.stdout, test.stderr)
		if test.command == nohup {
			cmd.Process.Signal(syscall.SIGHUP)
		}
		nc := dial(t, cfg.Nodes[0].Addr)
		io.WriteString(nc, "garbage, which is worth a line in the log")
		io.Copy(io.Discard, nc)
		nc.Close()
		cl := client.New(cfg)
		_, err := cl.Put(t.Context(), "k", nil)
		cl.Close()
		cmd.Process.Signal(test.stop)
		cmd.Wait()
		code, got := cmd.ProcessState.ExitCode(), said.String()
		if err != nil || code != test.code || !regexp.MustCompile(test.says).MatchString(got) || strings.Contains(got, "hangup") {
			t.Errorf("%s: exit code %d (%v), said %q, want %d, %s, and no hangup; Put: %v",
				test.name, code, cmd.ProcessState, got, test.code, test.says, err)
		}
	}
}

// A server that may have fewer files open than max_connections says so at the start and refuses the
// clients that there is no room for. It serves those that it has, and answers at its control port:
// strangers at both ports take no descriptor that a client or a question needs.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	cmd, cfg := startServer(t, "ulimit -n 40", theSecret, nil, &stderr) // a test could not raise its own limit again
	for range 22 {
		dial(t, cfg.Nodes[0].Addr)
		dial(t, cfg.Nodes[0].Control)
	}
	var clients [6]*client.Client
	for i := range clients {
		clients[i] = client.New(cfg)
		_, _, got := clients[i].Get(t.Context(), "k")
		if _, err := clients[i].Stats(t.Context(), 0); got != nil || err != nil {
			t.Fatalf("client %d: %v, %v, want a place and an answer", i, got, err)
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
	err = cmd.Wait()
	got := unwrap(stderr.String())
	if err != nil || !containsAll(got, "max_connections: 40 open files have room for 6, not 10000", "ulimit -n", "gave way") ||
		strings.Contains(got, "cannot accept") {
		t.Errorf("ended with %v, said %q, want that 40 files are too few for max_connections, and that strangers gave way", err, got)
	}
}
