package testbed

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
)

// Three processes meet at the barrier. One of them is killed while clients use all three,
// and is started again. The others go on serving, calls to the dead node fail fast, and the
// clients find the node again by themselves.
func TestKilledNodeComesBack(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, own, _ := ownBed(t, "one")
	const victim = 1
	s, err := b.Start(ctx, own, cluster.Default(), 3)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.Config

	// The goroutines share one client, since a node serves only one at a time.
	cl, err := client.Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	over, stop := context.WithCancel(ctx)
	var puts [3]atomic.Int64 // answered, by node
	down := make(chan error, 1)
	var clients sync.WaitGroup
	for i := range cfg.Nodes {
		clients.Go(func() { // ends with over
			for n := 0; over.Err() == nil; n++ {
				control.Pause(over, time.Millisecond) // processes start beside it
				_, err := cl.Put(ctx, keyOf(cfg, i, n), []byte("v"))
				switch {
				case err == nil:
					puts[i].Add(1)
				case i != victim:
					t.Errorf("node %d is up: put: %v", i, err)
					return
				case errors.Is(err, client.ErrDown):
					select {
					case down <- err:
					default:
					}
				case !errors.Is(err, client.ErrUnknown):
					t.Errorf("the node was killed: put: %v, want unknown or down", err)
				}
			}
		})
	}
	served := func(nodes ...int) { // waits until each has answered some more puts
		t.Helper()
		for _, i := range nodes {
			for want := puts[i].Load() + 20; puts[i].Load() < want; control.Pause(ctx, time.Millisecond) {
				if ctx.Err() != nil {
					t.Fatalf("node %d does not answer", i)
				}
			}
		}
	}
	served(0, 1, 2)
	s.Procs[victim].Kill()
	served(0, 2)
	select {
	case <-down:
	case <-ctx.Done():
		t.Fatal("no call learned that the node is down")
	}
	began := time.Now()
	if _, err := cl.Put(ctx, keyOf(cfg, victim, 0), []byte("v")); !errors.Is(err, client.ErrDown) || time.Since(began) > 100*time.Millisecond {
		t.Errorf("a call to a node that is down: %v after %v, want %v at once", err, time.Since(began), client.ErrDown)
	}
	cmd := s.Procs[victim].Cmd
	if s.Procs[victim], err = StartProc(exec.Command(cmd.Path, cmd.Args[1:]...)); err != nil {
		t.Fatal(err)
	}
	served(0, 1, 2)
	stop()
	clients.Wait()
}

// keyOf returns the n-th of many keys of a node.
func keyOf(cfg cluster.Config, node, n int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint(n, ".", i); cfg.Owner(key) == node {
			return key
		}
	}
}
