package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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
				served, trace := connectInOrder(t, c.orders)
				t.Logf("prediction: %s\nfound: %d of 2 clients are served\n    %s", c.prediction, served, strings.Join(trace, "\n    "))
				if served != c.want {
					t.Errorf("%d of 2 clients are served, want %d", served, c.want)
				}
			})
		})
	}
}

// connectInOrder has two clients connect to two nodes each and leave, or give up after a minute.
func connectInOrder(t *testing.T, orders [2][2]int) (served int, trace []string) {
	_, m := turnstiles(t)
	ctx := within(t, time.Minute)
	lines := make(chan string, 8)
	say := func(format string, args ...any) { lines <- fmt.Sprintf(format, args...) }
	var all sync.WaitGroup
	for i, order := range orders {
		all.Go(func() { // ends when it is served or ctx ends
			cl := m.join(t, m.cfg)
			defer cl.Close()
			for _, number := range order {
				<-time.After(time.Duration(5+i) * time.Millisecond) // by now the other has what it could get
				switch g := cl.peers[number].get(ctx, false); {
				case errors.Is(g.err, context.DeadlineExceeded):
					return
				case g.err != nil:
					t.Error(g.err)
				default:
					say("client %d has node %d", i, number)
					defer cl.peers[number].put(g.c, true)
				}
			}
			say("client %d is served, and leaves", i)
		})
	}
	all.Wait()
	close(lines)
	for line := range lines {
		trace = append(trace, line)
		served += strings.Count(line, "is served")
	}
	if served < len(orders) {
		trace = append(trace, "a minute later, each still waits for the other's node")
	}
	return served, trace
}
