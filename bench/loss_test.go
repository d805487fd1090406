package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/bench/testbed"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
)

// One of three nodes is killed in the middle of a run. The load goes on at the others to its
// end, what is printed names the node, and the saved result is a good one.
func TestRunLosesANode(t *testing.T) {
	t.Parallel() // waits
	bed, err := testbed.New(t.Context(), []string{"../stage4_bucketlock"}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer bed.Close()
	s, err := bed.Start(t.Context(), bed.Programs[0], cluster.Default(), 3)
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
		code, stdout, stderr = bench(t, "run", "-config", path, "-keys", "100", "-rate", "300", "-duration", "4s", "-o", out)
	}()
	for requests := int64(0); requests < 150; control.Pause(t.Context(), 10*time.Millisecond) { // about 110 are of the keys and the warm-up
		stats, err := client.Stats(t.Context(), s.Config, victim)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			t.Fatalf("the run has ended with exit code %d after %d requests: %s", code, stats.Requests, stderr)
		default:
			requests = stats.Requests
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
	if code, _, stderr := bench(t, "report", out); code != exitOK {
		t.Errorf("bench report: exit code %d, %s", code, stderr)
	}
	if r := readSaved(t, out).Runs; len(r) != 1 || r[0].OK < 100 || r[0].Errors["node down"] == 0 || r[0].Wrong != 0 {
		t.Errorf("the saved rounds are %+v, want one, with answers from the other nodes and none wrong", r)
	}
}
