package testbed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
)

// Three processes of each stage, started in random order, meet at the barrier. One is
// killed in the middle of a run, and started again: the others' keys are served all the
// time, calls for the dead one fail fast, and the clients find it again by themselves.
func TestNodeIsKilledAndComesBack(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dirs, err := StageDirs(ctx, []string{"1", "4"})
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(ctx, dirs, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, p := range h.Programs {
		t.Run(p.Name, func(t *testing.T) { killOne(ctx, t, p) })
	}
}

func killOne(ctx context.Context, t *testing.T, p Program) {
	const victim = 1
	addrs, err := FreeAddrs(6)
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Default()
	cfg.Nodes = nil
	for i := 0; i < len(addrs); i += 2 {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: addrs[i], Control: addrs[i+1]})
	}
	file := p.path + ".three.json"
	if err := cfg.Save(file); err != nil {
		t.Fatal(err)
	}
	procs := make([]*Proc, len(cfg.Nodes))
	startNode := func(i int) {
		if procs[i], err = StartProc(exec.Command(p.path, "-child", "-config", file, "-node", strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		for _, p := range procs {
			if p != nil {
				p.Kill()
			}
		}
	}()
	for _, i := range rand.Perm(len(procs)) {
		startNode(i)
	}
	for i := range procs {
		if err := waitServing(ctx, cfg, i); err != nil {
			t.Fatalf("node %d does not serve: %v; its last words:\n%s", i, err, procs[i].Said)
		}
	}

	// One client, shared by a goroutine for each node: a stage that serves one client at
	// a time is enough for it.
	cl, err := client.Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	over, stop := context.WithCancel(ctx)
	var done [3]atomic.Int64 // puts answered, by node
	down := make(chan error, 1)
	var clients sync.WaitGroup
	for i := range procs {
		clients.Go(func() { // ends with over
			for n := 0; over.Err() == nil; n++ {
				began := time.Now()
				key := keyOf(cfg, i, n)
				_, err := cl.Put(ctx, key, []byte("v"))
				switch took := time.Since(began); {
				case err == nil:
					done[i].Add(1)
				case i != victim:
					t.Errorf("node %d is up, and a put says %v", i, err)
					return
				case errors.Is(err, client.ErrDown):
					if took > 100*time.Millisecond {
						t.Logf("a call learned after %v that the node is down", took) // the first one may
					}
					select {
					case down <- err:
					default:
					}
					load.Pause(over, time.Millisecond)
				case !errors.Is(err, client.ErrUnknown):
					t.Errorf("the node was killed, and a put says %v, want unknown or down", err)
				}
			}
		})
	}
	more := func(i int) { // waits until node i has answered a hundred puts more
		t.Helper()
		for want := done[i].Load() + 100; done[i].Load() < want; load.Pause(ctx, time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("node %d answers nothing any more", i)
			}
		}
	}
	for i := range procs {
		more(i)
	}
	procs[victim].Kill()
	for i := range procs {
		if i != victim {
			more(i)
		}
	}
	select {
	case <-down:
	case <-ctx.Done():
		t.Fatal("nobody was told that the node is down")
	}
	began := time.Now()
	if _, err := cl.Put(ctx, keyOf(cfg, victim, 0), []byte("v")); !errors.Is(err, client.ErrDown) || time.Since(began) > 100*time.Millisecond {
		t.Errorf("a call for a node that is down: %v after %v, want %v at once", err, time.Since(began), client.ErrDown)
	}
	startNode(victim)
	for i := range procs {
		more(i)
	}
	stop()
	clients.Wait()
}

// keyOf is the n-th of many keys of a node.
func keyOf(cfg cluster.Config, node, n int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint(n, ".", i); cfg.Owner(key) == node {
			return key
		}
	}
}
