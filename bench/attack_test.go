package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// attacked builds stages, and starts each as a node of its own.
func attacked(t *testing.T, ctx context.Context, cfg cluster.Config, stages ...string) map[string]*servers {
	t.Helper()
	dirs, err := stageDirs(ctx, stages)
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHouse(ctx, dirs, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	all := make(map[string]*servers)
	for _, p := range h.programs {
		if all[p.name], err = h.start(ctx, p, cfg, 1); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// greeted is a connection on which the server has said its greeting.
func greeted(t *testing.T, s *servers) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 64)
	if _, err := io.ReadFull(nc, greeting); err != nil || !strings.HasPrefix(string(greeting), "lockstep\x00") {
		t.Fatalf("greeted with %q (%v)", greeting, err)
	}
	return nc
}

// requests is a stream of n requests with the same operations.
func requests(t *testing.T, n int, ops ...wire.Op) (stream []byte) {
	t.Helper()
	for range n {
		var err error
		if stream, err = wire.AppendRequest(stream, &wire.Request{Ops: ops}); err != nil {
			t.Fatal(err)
		}
	}
	return stream
}

// 300 connections, each of which holds as much of the server's memory as the limits
// let it.
func TestMemoryUnderAttack(t *testing.T) {
	const connections, limit = 300, 100 << 20
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for stage, s := range attacked(t, ctx, cluster.Default(), strings.Split(os.Getenv("STG"), "")...) {
		t.Run(stage, func(t *testing.T) {
			cl, err := client.Dial(ctx, s.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			if _, err := cl.Put(ctx, "big", make([]byte, wire.MaxValue)); err != nil {
				t.Fatal(err)
			}
			peak := func() int64 {
				snapshot, err := cl.Stats(ctx, 0)
				if err != nil {
					t.Fatal(err)
				}
				return snapshot.PeakMemory
			}
			before := peak()
			if before == 0 {
				t.Skip("the peak of a process's memory is not known on this system")
			}
			swaps, gets := make([]wire.Op, wire.MaxOps), make([]wire.Op, wire.MaxOps)
			for i := range swaps {
				swaps[i] = wire.Op{Kind: wire.CompareAndSwap, Key: fmt.Sprintf("swap%012d", i), Value: make([]byte, 16), Old: make([]byte, 16)}
				gets[i] = wire.Op{Kind: wire.Get, Key: "k"}
			}
			big := wire.Op{Kind: wire.Get, Key: "big"}
			put := wire.Op{Kind: wire.Put, Key: "put", Value: make([]byte, wire.MaxValue)}
			for _, attack := range []struct {
				name   string
				stream []byte
			}{
				{"1024 swaps a request", requests(t, 6, swaps...)},
				{"1024 gets a request", requests(t, 40, gets...)},
				{"the largest answers", requests(t, 5000, big, big, big)},
				{"the largest puts", requests(t, 6, put, put, put)},
				{"a frame but its last byte", append([]byte{0, 1, 0, 0}, make([]byte, wire.MaxFrame-1)...)},
			} {
				if a := os.Getenv("ATT"); a != "" && !strings.Contains(attack.name, a) {
					continue
				}
				start := time.Now()
				var attackers, sent sync.WaitGroup
				sent.Add(connections)
				for range connections {
					attackers.Go(func() { // ends when all have sent what the server takes
						nc := greeted(t, s)
						defer nc.Close()
						nc.(*net.TCPConn).SetLinger(0)
						nc.(*net.TCPConn).SetReadBuffer(4 << 10)
						nc.SetWriteDeadline(time.Now().Add(time.Second))
						for range 50 {
							if _, err := nc.Write(attack.stream); err != nil || len(attack.stream) < 1<<17 {
								break
							}
						}
						sent.Done()
						sent.Wait()
					})
				}
				attackers.Wait()
				for {
					if sn, _ := cl.Stats(ctx, 0); sn.Open <= 1 {
						break
					}
					pause(ctx, 5*time.Millisecond)
				}
				t.Logf("%s: %d MiB more (%v)", attack.name, (peak()-before)>>20, time.Since(start))
			}
			if _, err := cl.Put(ctx, "k", nil); err != nil {
				t.Error(err)
			}
			if more := peak() - before; more > limit {
				t.Errorf("the peak of the memory went up by %d MiB, want %d at most", more>>20, limit>>20)
			}
		})
	}
}
