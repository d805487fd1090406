package stagetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
)

// Goals tests what the stages from the second to the n-th cure, in one subtest each: stage n
// passes them all, and the stage before it misses those that belong to n. A missed goal ends
// within seconds; a slow machine alone misses none. Stage 1 has
// no goals. They are skipped after a promise that is broken: the promises come first.
func Goals(t *testing.T, serve node.Serve, n int) {
	if watching.broken {
		t.Skip("a promise is broken: see TestStage")
	}
	for _, goal := range []struct {
		stage int
		name  string
		run   func(*testing.T, node.Serve)
	}{
		{2, "SilentClientKeepsNobodyWaiting", testSilent},
		{2, "ClientThatNeverReadsKeepsNobodyWaiting", testNeverReadsBeside},
		{3, "OverloadIsAnsweredBusy", testOverload},
		{3, "AttackersHoldNoWorker", testAttackers},
		{4, "DifferentKeysWaitForNoLock", testDifferentKeys},
	} {
		if goal.stage <= n {
			watching.run(t, goal.name, serve, goal.run)
		}
	}
}

// putBeside fails the test if a put of another client is not answered within seconds.
func (s *stage) putBeside(who, why string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	cl := client.New(s.cfg)
	defer cl.Close()
	if _, err := cl.Put(ctx, "k", nil); err != nil {
		s.t.Fatalf("%s keeps another one waiting: %s (%v)", who, why, err)
	}
}

// Goal 2: a client that is connected, has greeted or is in the middle of a frame, and then
// falls silent, delays no other.
func testSilent(t *testing.T, serve node.Serve) {
	const why = "is the connection served in the accept loop, or a lock held while a request is awaited?"
	s := start(t, serve, func(c *cluster.Config) { c.Server.FrameTimeout = time.Minute })
	s.connect()
	s.putBeside("a silent client", why)
	silent := s.dial()
	s.putBeside("a client that has greeted and is silent", why)
	silent.WriteFrame(frame(t, get("k"))[:5]) // the rest never comes
	silent.Flush()
	s.putBeside("a client in the middle of a request", why)
}

// Goal 2, with or without a pool: a client that does not read its answers delays no other.
// Three of them are more than a worker and its queue can hold.
func testNeverReadsBeside(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Queue, c.Server.WriteTimeout = 1, 1, time.Minute
	})
	for range 3 {
		s.neverRead()
		s.putBeside("a client that does not read its answers", "is a lock held while they are written, or a worker?")
	}
}

// Goal 3: more requests than a worker and its queue can hold are refused at once. Eight
// clients ask again and again until one of them is, so that it does not matter when each
// request arrives.
func testOverload(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Queue, c.Server.Work.Time = 1, 1, 10*time.Millisecond
	})
	const clients, each = 8, 10
	var busy atomic.Bool
	s.crowd(clients, func(_ int, cl *client.Client) {
		for i := 0; i < each && !busy.Load(); i++ {
			if _, err := cl.Once(t.Context(), get("k")); errors.Is(err, client.ErrBusy) {
				busy.Store(true)
			} else if err != nil {
				t.Error(err)
			}
		}
	})
	if !busy.Load() {
		t.Errorf("one worker, a queue of one, and %d requests of %d clients: none was answered Busy: what bounds the requests that wait?", clients*each, clients)
	}
}

// Goal 3: a client that is idle or slow holds no worker. Three of each are more than a worker
// and its queue can hold, and another client is served beside them.
func testAttackers(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Queue, c.Server.FrameTimeout = 1, 1, time.Minute
	})
	for range 3 {
		s.connect() // idle
		slowSender := s.connect()
		slowSender.Write(frame(t, get("k"))[:5]) // the rest never comes
		s.putBeside("a client that is idle or slow", "is a job a whole connection?")
	}
}

// Goal 4: requests for keys in different buckets are executed at the same time. If one lock
// guards all keys, no machine is fast enough; otherwise, a busy machine has more than one
// try. With so many buckets, two of the keys hardly ever share one, and four never do.
func testDifferentKeys(t *testing.T, serve node.Serve) {
	const keys, work, tries = 8, 100 * time.Millisecond, 3
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Buckets, c.Server.Work.Time = keys, 10_000, work
	})
	var took time.Duration
	for range tries {
		began := time.Now()
		s.crowd(keys, func(i int, cl *client.Client) { do(t, cl, get(fmt.Sprint("key", i))) })
		if took = time.Since(began); took < keys*work/2 {
			return
		}
	}
	t.Errorf("gets of %d keys at %v of work each take %v together, want less than half of %v: do all keys share a lock?", keys, work, took.Round(time.Millisecond), keys*work)
}
