package testbed

import (
	"context"
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
func stats(ctx context.Context, t *testing.T, s *Servers) metrics.Snapshot {
	t.Helper()
	snapshot, err := client.Stats(ctx, s.Config, 0)
	if err != nil {
		t.Fatalf("%v\nlast output:\n%s", err, s.Procs[0].Output)
	}
	return snapshot
}

// greeted returns a connection that the server has greeted.
func greeted(t *testing.T, s *Servers) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Config.Nodes[0].Addr)
	if errors.Is(err, syscall.EMFILE) {
		t.Skipf("%v: more file descriptors are needed (ulimit -n)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 64)
	if _, err := io.ReadFull(nc, greeting); err != nil || !strings.HasPrefix(string(greeting), "lockstep\x00") {
		t.Fatalf("greeted with %q (%v)", greeting, err)
	}
	return nc
}

// neverRead sends a stream, once or again and again, and reads nothing. It returns when
// the server has taken nothing for a while.
func neverRead(nc net.Conn, stream []byte, once bool) {
	nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	nc.(*net.TCPConn).SetLinger(0) // Close drops what is unsent
	nc.SetWriteDeadline(time.Now().Add(time.Second / 2))
	for {
		if _, err := nc.Write(stream); err != nil || once {
			return
		}
	}
}

// requests returns n encoded requests with the same operations.
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

const attackers = 300 // connections, each of which takes as much memory as it can

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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg := cluster.Default()
	cfg.Server.Work.Time = time.Millisecond
	b, own, _ := ownBed(t, "")
	s, err := b.Start(ctx, own, cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	stream := requests(t, 2, mostSwaps()...)
	for range attackers {
		nc := greeted(t, s)
		defer nc.Close()
		nc.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := nc.Write(stream); err != nil {
			t.Fatal(err)
		}
	}
	for stats(ctx, t, s).QueueWait.Count < attackers { // until a worker has taken each request
		control.Pause(ctx, 10*time.Millisecond)
	}
	heap := int64(0)
	for still, polls := 0, 0; still < 10 && polls < 50; still, polls = still+1, polls+1 { // and none is being decoded
		control.Pause(ctx, 10*time.Millisecond)
		if now := stats(ctx, t, s).Heap; now < heap || now > heap+1<<20 {
			still, heap = 0, now
		}
	}
	if heap > 50<<20 {
		t.Errorf("the heap has %d MiB while requests wait, want at most 50", heap>>20)
	}
	b.Running = nil // answering all requests would take minutes
	s.Procs[0].Kill()
}

// Runs one attack after the other, on each stage that serves more than one client:
//
//	LOCKSTEP_SLOW=1 go test ./bench/testbed -run MemoryUnderAttack -v
func TestMemoryUnderAttack(t *testing.T) {
	benchtest.Slow(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	big := wire.Op{Kind: wire.Get, Key: "big"}
	put := wire.Op{Kind: wire.Put, Key: "put", Value: make([]byte, wire.MaxValue)}
	b := newBed(ctx, t, "2", "3", "4")
	for _, p := range b.Programs {
		s, err := b.Start(ctx, p, cluster.Default(), 1)
		if err != nil {
			t.Fatal(err)
		}
		cl, err := client.Dial(ctx, s.Config)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if _, err := cl.Put(ctx, "big", make([]byte, 16_000)); err != nil { // four of these fill an answer
			t.Fatal(err)
		}
		before := stats(ctx, t, s).PeakMemory
		if before == 0 {
			t.Skip("this system does not tell the peak memory of a process")
		}
		for _, a := range []struct {
			name   string
			once   bool
			stream []byte // sent again and again, until the server takes no more, or once
		}{
			{"the most swaps", false, requests(t, 2, mostSwaps()...)},
			{"the most gets", false, requests(t, 12, slices.Repeat([]wire.Op{{Kind: wire.Get, Key: "k"}}, wire.MaxOps)...)},
			{"the largest answers", false, requests(t, 2000, big, big, big, big)},
			{"the largest puts", false, requests(t, 2, put, put, put)},
			{"a frame without its last byte", true, append([]byte{0, 1, 0, 0}, make([]byte, wire.MaxFrame-1)...)},
		} {
			t.Run(s.Name+"/"+a.name, func(t *testing.T) {
				var conns []net.Conn
				for range attackers {
					conns = append(conns, greeted(t, s))
				}
				var sent sync.WaitGroup
				for _, nc := range conns {
					sent.Go(func() { neverRead(nc, a.stream, a.once) })
				}
				sent.Wait()
				for _, nc := range conns { // all have taken what they could, at the same time
					nc.Close()
				}
				for stats(ctx, t, s).Open > 1 {
					control.Pause(ctx, 5*time.Millisecond)
				}
				if more := (stats(ctx, t, s).PeakMemory - before) >> 20; more > 100 {
					t.Errorf("the peak memory grew by %d MiB, want at most 100", more)
				}
			})
		}
		if _, found, err := cl.Get(ctx, "big"); !found || err != nil {
			t.Errorf("%s after the attacks: %v, %v", s.Name, found, err)
		}
	}
}
