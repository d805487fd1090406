package main

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

// The tests run in bubbles of package synctest: Wait returns when no goroutine can go on,
// and the clock moves only then. So a test can see at once that a goroutine waits.

func TestPool(t *testing.T) {
	for _, size := range []struct{ workers, queue int32 }{{1, 0}, {1, 1}, {3, 5}, {8, 0}} {
		synctest.Test(t, func(t *testing.T) {
			workers, queue := size.workers, size.queue
			p, gate := newPool(int(workers), int(queue)), make(chan struct{})
			var begun, running, refused, returned atomic.Int32 // jobs; calls that returned false, true
			call := func(n int32) {
				for range n {
					go func() { // ends when run returns
						if p.job(func() { begun.Add(1); running.Add(1); <-gate; running.Add(-1) })() {
							returned.Add(1)
						} else {
							refused.Add(1)
						}
					}()
				}
			}
			check := func(when string, want ...int32) {
				synctest.Wait()
				if got := []int32{running.Load(), int32(len(p.jobs)), refused.Load(), returned.Load()}; !slices.Equal(got, want) {
					t.Errorf("%+v, %s: jobs running, waiting, refused, done are %v, want %v", size, when, got, want)
				}
			}
			call(workers)
			check("a job for each worker", workers, 0, 0, 0)
			call(queue)
			check("and as many as fit the queue", workers, queue, 0, 0)
			call(2)
			check("and two more", workers, queue, 2, 0)

			closed := false
			go func() { p.close(); closed = true }()
			synctest.Wait()
			if closed {
				t.Error("close returned before the jobs were done")
			}
			close(gate)
			check("after the gate was opened", 0, 0, 2, workers+queue)
			if !closed || begun.Load() != workers+queue {
				t.Errorf("close has returned: %v, and %d jobs were begun, want true, and %d: each once, and none that was refused",
					closed, begun.Load(), workers+queue)
			}
		})
	}
}

// A worker that is done with a job is free, though it may not wait for the next one yet.
func TestFreeWorkerIsNotRefused(t *testing.T) {
	p := newPool(1, 0)
	defer p.close()
	done := 0
	run := p.job(func() { done++ })
	for i := range 10_000 {
		if !run() {
			t.Fatalf("job %d was refused, and the worker had nothing to do", i)
		}
		if done != i+1 {
			t.Fatalf("%d jobs are done, want %d: each once, before run returns", done, i+1)
		}
	}
}

// What it costs to hand an empty job to a worker, and to wait for it.
func BenchmarkPool(b *testing.B) {
	b.Run("run=direct", func(b *testing.B) {
		for job := func() {}; b.Loop(); {
			job()
		}
	})
	b.Run("run=pool", func(b *testing.B) {
		p := newPool(8, 64)
		defer p.close()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for job := p.job(func() {}); pb.Next(); {
				job()
			}
		})
	})
}

func BenchmarkStore(b *testing.B) {
	stagetest.BenchmarkStore(b, func(n *node.Node) stagetest.Store { return newStore(n).apply })
}

// serveWhole is the pool as it is usually taught: a job is a whole connection.
func serveWhole(ctx context.Context, ln net.Listener, n *node.Node) error {
	s := newStore(n)
	p := newPool(n.Config.Server.Workers, n.Config.Server.Queue)
	defer p.close()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err
		}
		conns.Go(func() {
			p.job(func() {
				defer c.Close()
				for c.Ready() {
					n.Answer(c, s.apply)
					c.Flush()
				}
			})()
		})
	}
}

// Two clients have had an answer each and keep their connections, as clients do. With two
// workers, how long does the third client wait?
//
//	go test ./stage3_threadpool -run Specimen -v
func TestSpecimenConnectionAsJob(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		serve            node.Serve
		want             time.Duration
	}{
		{"a job is a connection", "until a client is disconnected for being idle, after 1m0s", serveWhole, cluster.Default().Server.IdleTimeout},
		{"a job is a turn", "not at all: a client without a request does not hold a worker", serve, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := thirdClient(t, c.serve)
				t.Logf("prediction: %s\nfound: the third client waits %v", c.prediction, got)
				if got != c.want {
					t.Errorf("the third client waits %v, want %v", got, c.want)
				}
			})
		})
	}
}

// thirdClient returns how long, by the clock of its bubble, the third client of a
// server with two workers waits for an answer.
func thirdClient(t *testing.T, stage node.Serve) (waited time.Duration) {
	cfg := cluster.Default()
	cfg.Server.Workers = 2
	ctx, stop := context.WithCancel(t.Context())
	ln := pipes{conns: make(chan net.Conn)}
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { // ends when ctx does
		if err := stage(ctx, ln, node.New(cfg, 0, slog.New(slog.DiscardHandler))); err != node.ErrStopped {
			t.Errorf("serve: %v, want %v", err, node.ErrStopped)
		}
	})
	for range 3 {
		here, there := net.Pipe()
		ln.conns <- there
		c, err := wire.Open(ctx, here, cfg.Hello(0), wire.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var r wire.Response
		c.WriteRequest(&wire.Request{Ops: []wire.Op{{Kind: wire.Get, Key: "color"}}})
		c.Flush()
		if !c.ReadResponse(&r) || r.Code != wire.OK {
			t.Fatalf("answer %v, %v", r.Code, c.Err())
		}
		waited = time.Since(start)
		all.Go(func() { // ends when the server ends the connection
			c.ReadResponse(&r)
			c.Close()
		})
	}
	return waited
}

// pipes is a listener for connections in memory: a bubble has no network.
type pipes struct {
	net.Listener
	conns chan net.Conn
}

func (p pipes) Accept() (net.Conn, error) {
	if c, open := <-p.conns; open {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { close(p.conns); return nil }
