package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
)

// The workload of properties.json, shortened, on servers that run already.
func TestRun(t *testing.T) {
	t.Parallel()
	_, path, _ := benchtest.StartCluster(t, 3, 1, benchtest.ServeLocked)
	stdout, s := measured(t, "run", "-config", path, "-ops", "300", "-keys", "100", "-rounds", "2")
	if !strings.Contains(stdout, "here: ") || !strings.Contains(stdout, "no errors, no misses, nothing unfinished, nobody starved") {
		t.Errorf("the report is\n%s", stdout)
	}
	if len(s.Runs) != 2 || s.Summary[0].Stage != "here" {
		t.Errorf("%d rounds, summary %v", len(s.Runs), s.Summary)
	}
	for i, r := range s.Runs {
		if r.Round != i+1 || r.OK != 300 || r.Connections != 8 || r.Misses != 0 || r.Wrong != 0 || len(r.Errors) != 0 {
			t.Errorf("a round is %+v, want 300 operations", r)
		}
	}
}

// A client waits for the others, says so, and can be interrupted. If it has finished a round, it
// keeps its own result.
func TestRunLeftAlone(t *testing.T) {
	t.Parallel() // waits a second for the lines
	cfg, path, _ := benchtest.StartCluster(t, 1, 2, benchtest.ServeLocked)
	out := filepath.Join(t.TempDir(), "out.json")
	args := []string{"run", "-config", path, "-ops", "100", "-keys", "10", "-o", out, "-client"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr, stdout := make(lines, 100), new(safeBuffer)
	done := make(chan int, 1)
	go func() { done <- run(ctx, append(args, "0"), stdout, stderr) }() // ends after cancel
	waits := "s; waiting for client 1 (" + cfg.Clients[1].Control + "): "
	if line := <-stderr; !strings.HasPrefix(line, "bench: 1/2 ready after ") || !strings.Contains(line, waits) {
		t.Errorf("client 0 says %q, want %q", line, waits)
	}
	leave := playClient(t, path, 1, 0, beforeRounds+load.Meetings, args[3:7]...) // it starts a round, and does not finish it
	defer leave()
	for range len(stderr) {
		<-stderr // what was said before the round
	}
	if line := <-stderr; !strings.HasPrefix(line, "bench: 1/2 ready after ") {
		t.Errorf("client 0 says %q in the round", line)
	}
	cancel()
	if code := <-done; code != exitInterrupted || !strings.HasPrefix(stdout.String(), "INTERRUPTED\n") {
		t.Errorf("exit code %d, want 130; printed was\n%s", code, stdout)
	}
	if s := readSaved(t, out); len(s.Runs) != 1 || s.Runs[0].OK != 50 {
		t.Errorf("the saved report is %+v, want one round with this client's 50 operations", s)
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
	t.Parallel()
	cfg, path, _ := benchtest.StartCluster(t, 1, 0, benchtest.ServeLocked)
	out := filepath.Join(t.TempDir(), "out.json")
	measuring := func() {
		for measured := false; !measured; control.Pause(t.Context(), 20*time.Millisecond) {
			stats, err := client.Stats(t.Context(), cfg, 0)
			measured = err != nil || stats.Connections > 100 // more than the one that stored the keys
		}
	}
	stdout := interrupted(t, measuring, benchUntil, "run", "-config", path, "-duration", "1h", "-keys", "100", "-conn", "per-request", "-o", out)
	if s := readSaved(t, out); s.Verdict != "interrupted" || len(s.Runs) != 1 || s.Runs[0].OK == 0 || !strings.HasPrefix(stdout, "INTERRUPTED\n") {
		t.Errorf("the saved report is %+v, want one round; printed was\n%s", s, stdout)
	}
}

// One of two nodes is killed in the middle of a run. The load goes on at the other to its
// end, what is printed names the node, and the saved result is a good one.
func TestRunLosesANode(t *testing.T) {
	t.Parallel() // waits
	bed, err := testbed.New(t.Context(), []string{"../stage4_bucketlock"}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer bed.Close()
	s, err := bed.Start(t.Context(), bed.Programs[0], cluster.Default(), 2)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, out := filepath.Join(dir, "cluster.json"), filepath.Join(dir, "out.json")
	if err := s.Config.Save(path); err != nil {
		t.Fatal(err)
	}
	const victim = 1
	var code int
	var stdout, stderr string
	began, done := time.Now(), make(chan struct{})
	go func() { // ends with the run
		defer close(done)
		code, stdout, stderr = bench(t, "run", "-config", path, "-keys", "20", "-c", "4", "-rate", "200", "-ops", "700", "-o", out)
	}()
	running := true
	for requests := int64(0); running && requests < 130; control.Pause(t.Context(), 100*time.Millisecond) { // with those of the keys
		stats, err := client.Stats(t.Context(), s.Config, victim)
		if err != nil {
			t.Fatal(err)
		}
		requests = stats.Requests
		select {
		case <-done:
			running = false // and says why
		default:
		}
	}
	s.Procs[victim].Kill()
	<-done
	if took := time.Since(began); code != exitFailure || took > 40*time.Second {
		t.Errorf("exit code %d after %v, want 1, soon", code, took)
	}
	if !strings.Contains(stderr, "a server has ended during the load: ") || !strings.Contains(stderr, "node 1, "+s.Config.Nodes[victim].Control) ||
		!strings.Contains(stdout, "node down") || !strings.Contains(stdout, "(node 1, ") {
		t.Errorf("it says %q, and prints\n%s\nwant that node 1 has ended", stderr, stdout)
	}
	if r := readSaved(t, out).Runs; len(r) != 1 || r[0].OK < 100 || r[0].Errors["node down"] == 0 || r[0].Wrong != 0 {
		t.Errorf("the saved rounds are %+v, want one, with answers from the other node and none wrong", r)
	}
}
