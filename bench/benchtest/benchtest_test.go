package benchtest

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
)

// As a child, the test binary says its fault and waits for the end of its standard input.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-child") {
		fmt.Fprint(os.Stderr, FaultyMain())
		io.Copy(io.Discard, os.Stdin)
		return
	}
	StageMain(m)
}

// Nodes that run inside a test serve as a stage does, by the configuration in their file.
func TestNodes(t *testing.T) {
	EmptyFolder(t)
	cfg, path, nodes := StartCluster(t, 2, 1, ServeLocked)
	if read, err := cluster.Load(path); err != nil || len(read.Clients) != 1 || read.Nodes[1] != cfg.Nodes[1] || nodes[1].Self != 1 {
		t.Errorf("the file holds %v (%v), want the configuration of the nodes, %v", read.Nodes, err, cfg.Nodes)
	}
	cl := client.New(cfg)
	defer cl.Close()
	for _, key := range []string{"a", "b", "c", "d"} {
		_, err := cl.Put(t.Context(), key, []byte("of "+key))
		if value, _, failed := cl.Get(t.Context(), key); err != nil || failed != nil || string(value) != "of "+key {
			t.Errorf("%s is %q (%v, %v)", key, value, err, failed)
		}
	}
	Here(t, 1, ServeLocked)
}

// A process with a fault is noticed when it starts, and the test waits for its end.
func TestFaulty(t *testing.T) {
	t.Setenv("PATH", OnlyInPath(t, "stage"))
	cmd := exec.CommandContext(t.Context(), "stage", "-child")
	var said strings.Builder
	var asked atomic.Bool // to end
	cmd.Stderr = &said
	t.Run("test", func(t *testing.T) {
		started := NewFaulty(t, "slow")
		stdin, err := cmd.StdinPipe()
		if err = cmp.Or(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		<-started
		time.AfterFunc(50*time.Millisecond, func() {
			asked.Store(true)
			stdin.Close()
		})
	})
	if !asked.Load() {
		t.Error("the test did not wait for the end of the process")
	}
	if err := cmd.Wait(); err != nil || said.String() != "slow" {
		t.Errorf("the process ended with %v and said %q", err, said.String())
	}
}

func TestChecks(t *testing.T) {
	CheckWidth(t, "eleven with\naccents éé\n", 11)
	t.Setenv("LOCKSTEP_SLOW", "")
	t.Run("slow", func(t *testing.T) {
		Slow(t)
		t.Error("a slow test runs without LOCKSTEP_SLOW")
	})
}
