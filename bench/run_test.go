package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/common/cluster"
)

// The workload of properties.json, shortened, on servers that run already.
func TestRun(t *testing.T) {
	t.Parallel()
	_, path, _ := benchtest.StartCluster(t, 3, 1, benchtest.ServeLocked)
	stdout, s := measured(t, "run", "-config", path, "-ops", "900", "-rounds", "2")
	if !strings.Contains(stdout, "here: ") || !strings.Contains(stdout, "no errors, no misses, nothing unfinished, nobody starved") {
		t.Errorf("the report is\n%s", stdout)
	}
	if len(s.Runs) != 2 || s.Summary[0].Stage != "here" {
		t.Errorf("%d rounds, summary %v", len(s.Runs), s.Summary)
	}
	for i, r := range s.Runs {
		if r.Round != i+1 || r.OK != 900 || r.Connections != 8 || r.Misses != 0 || r.Wrong != 0 || len(r.Errors) != 0 {
			t.Errorf("a round is %+v, want 900 operations", r)
		}
	}
}

// A client waits for the others, says so, and can be interrupted.
func TestRunWaits(t *testing.T) {
	t.Parallel() // waits a second for the line
	cfg, path, _ := benchtest.StartCluster(t, 1, 2, benchtest.ServeLocked)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := make(lines, 100)
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"run", "-config", path, "-client", "1"}, io.Discard, stderr) }() // ends after cancel
	want := "s; waiting for client 0 (" + cfg.Clients[0].Control + "): "
	if got := <-stderr; !strings.HasPrefix(got, "bench: 1/2 ready after ") || !strings.Contains(got, want) {
		t.Errorf("it says %q, want %q", got, want)
	}
	cancel()
	if code := <-done; code != exitInterrupted || <-stderr != "bench: interrupted\n" {
		t.Errorf("exit code %d, want 130", code)
	}
}

// A client that has finished a round keeps its own result when the others do not finish theirs.
func TestRunLeftAlone(t *testing.T) {
	t.Parallel() // waits a second for the line
	_, path, _ := benchtest.StartCluster(t, 1, 2, benchtest.ServeLocked)
	out := filepath.Join(t.TempDir(), "out.json")
	args := []string{"run", "-config", path, "-ops", "1000", "-o", out, "-client"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr, stdout := make(lines, 100), new(safeBuffer)
	done := make(chan int, 1)
	go func() { done <- run(ctx, append(args, "0"), stdout, stderr) }()          // ends after cancel
	leave := playClient(t, path, 1, 0, beforeRounds+load.Meetings, args[3:5]...) // it starts a round, and does not finish it
	defer leave()
	for range len(stderr) {
		<-stderr // what was said before the round
	}
	if line := <-stderr; !strings.HasPrefix(line, "bench: 1/2 ready") {
		t.Errorf("client 0 says %q", line)
	}
	cancel()
	if code := <-done; code != exitInterrupted || !strings.HasPrefix(stdout.String(), "INTERRUPTED\n") {
		t.Errorf("exit code %d, want 130; printed was\n%s", code, stdout)
	}
	if s := readSaved(t, out); len(s.Runs) != 1 || s.Runs[0].OK != 500 {
		t.Errorf("the saved report is %+v, want one round with this client's 500 operations", s)
	}
}

// lines is a writer that sends what is written to it.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// Interrupted in its only round, run keeps what it has measured.
func TestRunInterrupted(t *testing.T) {
	cfg, path, _ := benchtest.StartCluster(t, 1, 0, benchtest.ServeLocked)
	out := filepath.Join(t.TempDir(), "out.json")
	measuring := func() {
		for { // until more than the connection that stored the keys
			if stats, err := load.NewLockstep(cfg).Stats(t.Context()); err != nil || stats[0].Connections > 100 {
				return
			}
		}
	}
	stdout := interrupted(t, measuring, "run", "-config", path, "-duration", "1h", "-conn", "per-request", "-o", out)
	if s := readSaved(t, out); s.Verdict != "interrupted" || len(s.Runs) != 1 || s.Runs[0].OK == 0 || !strings.HasPrefix(stdout, "INTERRUPTED\n") {
		t.Errorf("the saved report is %+v, want one round; printed was\n%s", s, stdout)
	}
}

// Clients that meet off loopback need a secret.
func TestRunExposed(t *testing.T) {
	cfg := cluster.Default()
	cfg.Clients = []cluster.Client{{Control: "127.0.0.1:7201"}, {Control: "0.0.0.0:7202"}}
	o := &options{cfg: cfg, client: 1, given: map[string]bool{"client": true}}
	if err := o.findSelf(); err == nil || !strings.Contains(err.Error(), "-insecure") {
		t.Errorf("off loopback without a secret: error %v, want one that says what to do", err)
	}
}
