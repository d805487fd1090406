package testbed

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
)

// Three processes meet at the barrier. One of them is killed while clients use all three,
// and is started again. The others go on serving, calls to the dead node fail after a second and
// then at once, and the clients find the node, which is empty, again by themselves. (The bounds
// leave room for a busy machine; package client has the exact times.)
func TestKilledNodeComesBack(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, own, _ := ownBed(t, "one")
	s, err := b.Start(ctx, own, cluster.Default(), 3)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.Dial(ctx, s.Config) // one for all goroutines, since a node serves only one client at a time
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	put := func(node, n int) error {
		_, err := cl.Put(ctx, keyOf(s.Config, node, n), []byte("v"))
		return err
	}
	over, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	var longest [3]time.Duration // by node: a put
	const victim = 1
	for _, node := range []int{0, 2} {
		others.Go(func() { // ends with over
			for n := 0; over.Err() == nil; n++ {
				control.Pause(over, time.Millisecond) // processes start beside it
				began := time.Now()
				err := put(node, n)
				longest[node] = max(longest[node], time.Since(began))
				if err != nil {
					t.Errorf("node %d is up: put: %v", node, err)
					return
				}
			}
		})
	}
	until := func(want error) { // puts to the victim until that is the outcome
		t.Helper()
		for n := 0; ; n++ {
			switch err := put(victim, n); {
			case errors.Is(err, want):
				return
			case ctx.Err() != nil:
				t.Fatalf("put: %v, want %v", err, want)
			case err != nil && !errors.Is(err, client.ErrDown) && !errors.Is(err, client.ErrUnknown):
				t.Errorf("the node was killed: put: %v, want unknown or down", err)
			}
			control.Pause(ctx, time.Millisecond)
		}
	}
	until(nil)
	cmd := s.Procs[victim].Cmd
	began := time.Now()
	cmd.Process.Kill()
	until(client.ErrDown)
	if took := time.Since(began); took < time.Second || took > 2*time.Second {
		t.Errorf("a node is taken for down %v after it was killed, want that after a second", took)
	}
	began = time.Now()
	if err := put(victim, 0); !errors.Is(err, client.ErrDown) || time.Since(began) > 100*time.Millisecond {
		t.Errorf("a call to a node that is down: %v after %v, want %v at once", err, time.Since(began), client.ErrDown)
	}
	s.Procs[victim].Kill() // and waits for its end
	if s.Procs[victim], err = StartProc(exec.Command(cmd.Path, cmd.Args[1:]...)); err != nil {
		t.Fatal(err)
	}
	for { // until it serves
		if stats, err := cl.Stats(ctx, victim); stats.Serving {
			if stats.Keys != 0 {
				t.Errorf("it comes back with %d keys, want none", stats.Keys)
			}
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
		control.Pause(ctx, time.Millisecond)
	}
	began = time.Now()
	until(nil)
	if took := time.Since(began); took > time.Second {
		t.Errorf("clients are back %v after the node, want within a second", took)
	}
	stop()
	others.Wait()
	if longest[0] > time.Second || longest[2] > time.Second {
		t.Errorf("the longest puts to the other nodes took %v, want none of a second", longest)
	}
}

// keyOf returns the n-th of many keys of a node.
func keyOf(cfg cluster.Config, node, n int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint(n, ".", i); cfg.Owner(key) == node {
			return key
		}
	}
}
