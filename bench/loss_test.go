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

// One of three nodes is killed in the middle of a run. The load goes on at the others to its end, and
// what is printed names the node. The saved result is a good one.
func TestRunLosesANode(t *testing.T) {
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
	const victim, keys = 1, 100
	var code int
	var stdout, stderr string
	began, done := time.Now(), make(chan struct{})
	go func() { // ends with the run
		defer close(done)
		code, stdout, stderr = bench(t, "run", "-config", path, "-keys", "100", "-duration", "2s", "-o", out)
	}()
	for stats := s.Config; ; control.Pause(t.Context(), time.Millisecond) { // until the load has begun
		now, err := client.Stats(t.Context(), stats, victim)
		if err != nil {
			t.Fatal(err)
		}
		if now.Requests > 10*keys {
			break
		}
	}
	s.Procs[victim].Kill()
	<-done
	if took := time.Since(began); code != exitFailure || took > 20*time.Second {
		t.Errorf("exit code %d after %v, want 1, soon", code, took)
	}
	if !strings.Contains(stderr, "a server has ended during the load: ") || !strings.Contains(stderr, "node 1, "+s.Config.Nodes[victim].Control) ||
		!strings.Contains(stdout, "node down") || !strings.Contains(stdout, "(node 1)") {
		t.Errorf("it says %q, and prints\n%s\nwant that node 1 has ended", stderr, stdout)
	}
	if code, _, stderr := bench(t, "report", out); code != exitOK {
		t.Errorf("bench report: exit code %d, %s", code, stderr)
	}
	if r := readSaved(t, out).Runs; len(r) != 1 || r[0].OK < 10*keys || r[0].Errors["node down"] == 0 || r[0].Wrong != 0 {
		t.Errorf("the saved rounds are %+v, want one, with answers from the other nodes and none wrong", r)
	}
}
