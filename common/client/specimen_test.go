package client

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Two nodes serve one client at a time, as stage 1 does, so a connection to one is a lock. Two
// clients want both nodes. Nothing in one process shows the deadlock: each node is fine, and
// each client waits for a greeting.
//
//	go test ./common/client -run Specimen -v
func TestSpecimenTwoNodes(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		orders           [2][2]int // the nodes, in the order in which each client connects to them
		want             int       // clients that are served
	}{
		{"in the order of the operations", "each holds the node that the other waits for: a deadlock", [2][2]int{{0, 1}, {1, 0}}, 0},
		{"in ascending order", "who has node 0 need not wait for node 1: both are served", [2][2]int{{0, 1}, {0, 1}}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Log("prediction:", c.prediction)
				served := connectInOrder(t, c.orders)
				t.Logf("found: %d of 2 clients are served", served)
				if served != c.want {
					t.Errorf("%d of 2 clients are served, want %d", served, c.want)
				}
			})
		})
	}
}

// connectInOrder has two clients connect to two nodes each and leave, or give up after a minute.
func connectInOrder(t *testing.T, orders [2][2]int) (served int) {
	_, m := turnstiles(t)
	ctx := within(t, time.Minute)
	var leave atomic.Int64
	var all sync.WaitGroup
	for i, order := range orders {
		all.Go(func() { // ends when it is served or ctx ends
			cl := m.join(t, m.cfg)
			defer cl.Close()
			for _, number := range order {
				<-time.After(time.Duration(5+i) * time.Millisecond) // by now the other has what it could get
				g := cl.peers[number].get(ctx, false)
				if g.err != nil {
					t.Logf("a minute later, client %d still waits for node %d", i, number)
					return
				}
				t.Logf("client %d has node %d", i, number)
				defer cl.peers[number].put(g.c, true)
			}
			t.Logf("client %d is served, and leaves", i)
			leave.Add(1)
		})
	}
	all.Wait()
	return int(leave.Load())
}
