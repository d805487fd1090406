package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// stats returns what the one server of s has counted.
func stats(t *testing.T, s *Servers) metrics.Snapshot {
	t.Helper()
	snapshot, err := client.Stats(t.Context(), s.Config, 0)
	if err != nil {
		t.Fatalf("%v\nlast output:\n%s", err, s.Procs[0].Output)
	}
	return snapshot
}

// greeted returns connections that the server has greeted.
func greeted(t *testing.T, s *Servers, n int) (conns []*net.TCPConn) {
	t.Helper()
	for range n {
		nc, err := net.Dial("tcp", s.Config.Nodes[0].Addr)
		if errors.Is(err, syscall.EMFILE) {
			t.Skipf("%v: more file descriptors are needed (ulimit -n)", err)
		}
		greeting := make([]byte, 64)
		if err == nil {
			_, err = io.ReadFull(nc, greeting)
		}
		if err != nil || !strings.HasPrefix(string(greeting), "lockstep\x00") {
			t.Fatalf("greeted with %q (%v)", greeting, err)
		}
		conns = append(conns, nc.(*net.TCPConn))
	}
	return conns
}

// requests returns n encoded requests with the same operations.
func requests(t *testing.T, n int, ops ...wire.Op) []byte {
	t.Helper()
	request, err := wire.AppendRequest(nil, &wire.Request{Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(request, n)
}

// mostSwaps returns as many operations as a request can have, in the largest frame.
func mostSwaps() []wire.Op {
	swaps := make([]wire.Op, wire.MaxOps)
	for i := range swaps {
		swaps[i] = wire.Op{Kind: wire.CompareAndSwap, Key: fmt.Sprintf("swap%012d", i), Value: make([]byte, 16), Old: make([]byte, 16)}
	}
	return swaps
}

// All connections wait for one lock, which is held for a second at a time. They must not
// decode their requests before they wait.
func TestMemoryOfWaitingRequests(t *testing.T) {
	cfg := cluster.Default()
	cfg.Server.Work.Time = time.Millisecond
	b, own := ownBed(t)
	s, err := b.Start(t.Context(), own, cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	conns, attack := greeted(t, s, 100), requests(t, 2, mostSwaps()...)
	for _, nc := range conns {
		defer nc.Close()
		nc.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := nc.Write(attack); err != nil {
			t.Fatal(err)
		}
	}
	for stats(t, s).QueueWait.Count < int64(len(conns)) { // until a worker has taken each request
		control.Pause(t.Context(), 10*time.Millisecond)
	}
	heap := int64(0)
	for still, polls := 0, 0; still < 10 && polls < 50; still, polls = still+1, polls+1 { // and none is being decoded
		control.Pause(t.Context(), 10*time.Millisecond)
		if now := stats(t, s).Heap; now < heap || now > heap+1<<20 {
			still, heap = 0, now
		}
	}
	if heap > 17<<20 {
		t.Errorf("the heap has %d MiB while 100 requests wait, want at most 17", heap>>20)
	}
	b.Running = nil // answering all requests would take minutes
	s.Procs[0].Kill()
}

// Runs one attack after the other, on each stage that serves more than one client:
//
//	LOCKSTEP_SLOW=1 go test ./bench/testbed -run MemoryUnderAttack -v
func TestMemoryUnderAttack(t *testing.T) {
	benchtest.Slow(t)
	big := wire.Op{Kind: wire.Get, Key: "big"}
	put := wire.Op{Kind: wire.Put, Key: "put", Value: make([]byte, wire.MaxValue)}
	b := newBed(t, "2", "3", "4")
	for _, p := range b.Programs {
		s, err := b.Start(t.Context(), p, cluster.Default(), 1)
		if err != nil {
			t.Fatal(err)
		}
		cl := client.New(s.Config)
		defer cl.Close()
		if _, err := cl.Put(t.Context(), "big", make([]byte, 16_000)); err != nil { // four of these fill an answer
			t.Fatal(err)
		}
		before := stats(t, s).PeakMemory
		if before == 0 {
			t.Skip("this system does not tell the peak memory of a process")
		}
		for _, a := range []struct {
			name   string
			once   bool
			stream []byte // sent again and again, until the server has taken nothing for a while, or once
		}{
			{"the most swaps", false, requests(t, 2, mostSwaps()...)},
			{"the most gets", false, requests(t, 12, slices.Repeat([]wire.Op{{Kind: wire.Get, Key: "k"}}, wire.MaxOps)...)},
			{"the largest answers", false, requests(t, 2000, big, big, big, big)},
			{"the largest puts", false, requests(t, 2, put, put, put)},
			{"a frame without its last byte", true, append([]byte{0, 1, 0, 0}, make([]byte, wire.MaxFrame-1)...)},
		} {
			t.Run(s.Name+"/"+a.name, func(t *testing.T) {
				conns := greeted(t, s, 300)
				var sent sync.WaitGroup
				for _, nc := range conns {
					nc.SetReadBuffer(4 << 10)
					nc.SetLinger(0) // Close drops what is unsent
					nc.SetWriteDeadline(time.Now().Add(time.Second / 2))
					sent.Go(func() {
						for _, err := nc.Write(a.stream); err == nil && !a.once; {
							_, err = nc.Write(a.stream)
						}
					})
				}
				sent.Wait()
				for _, nc := range conns { // all have taken what they could, at the same time
					nc.Close()
				}
				for stats(t, s).Open > 1 {
					control.Pause(t.Context(), 5*time.Millisecond)
				}
				if more := (stats(t, s).PeakMemory - before) >> 20; more > 100 {
					t.Errorf("the peak memory grew by %d MiB, want at most 100", more)
				}
			})
		}
		if _, found, err := cl.Get(t.Context(), "big"); !found || err != nil {
			t.Errorf("%s after the attacks: %v, %v", s.Name, found, err)
		}
	}
}
