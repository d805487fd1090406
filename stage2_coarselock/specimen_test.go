package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"lockstep/common/node"
	"lockstep/common/stagetest"
)

// The table is protected by nothing, or by a lock. The lock is a channel with room for one
// value: the goroutine that has sent a value holds it, and the next one waits. It does what
// a Mutex does, and the bubble of the test sees which goroutine waits.
type nothing struct{}

func (nothing) Lock()   {}
func (nothing) Unlock() {}

type channel chan struct{}

func (c channel) Lock()   { c <- struct{}{} }
func (c channel) Unlock() { <-c }

// A cell is a table with one key. Its compareAndSwap does what table.Apply does: look-up,
// work, effect. Other goroutines may run while it works.
type cell struct {
	mu    sync.Locker // guards value, and trace
	value int
	trace []string
}

func (c *cell) compareAndSwap(who string, old, new int, work func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.value
	c.trace = append(c.trace, fmt.Sprintf("%s looks up %d", who, found))
	work()
	if found != old {
		c.trace = append(c.trace, fmt.Sprintf("%s answers mismatch", who))
		return false
	}
	c.value = new
	c.trace = append(c.trace, fmt.Sprintf("%s stores %d, answers swapped", who, new))
	return true
}

// Two clients count from 7 to 8 with a CompareAndSwap, and the second begins while the
// first is in progress. One of them must be told that it did not count.
//
// Without the lock both are told that they did. The race detector does not report
// anything, because only one goroutine runs at a time. The two steps of a request are
// ordered, but they are not atomic.
//
//	go test ./stage2_coarselock -run Specimen -v
func TestSpecimenUnlockedTable(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		guard            func() sync.Locker
		want             string
	}{
		{"without a lock", "both are told that they counted, and one count is lost",
			func() sync.Locker { return nothing{} }, "swapped: true and true; the value is 8"},
		{"with a lock", "the second waits, and finds that it is too late",
			func() sync.Locker { return make(channel, 1) }, "swapped: true and false; the value is 8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := &cell{mu: c.guard(), value: 7}
				var second bool
				first := table.compareAndSwap("the first", 7, 8, func() {
					go func() { second = table.compareAndSwap("the second", 7, 8, func() {}) }()
					synctest.Wait() // until it is done or waits for the lock
				})
				synctest.Wait()
				got := fmt.Sprintf("swapped: %v and %v; the value is %d", first, second, table.value)
				t.Logf("prediction: %s\nfound: %s\n    %s", c.prediction, got, strings.Join(table.trace, "\n    "))
				if got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		})
	}
}

func BenchmarkStore(b *testing.B) {
	stagetest.BenchmarkStore(b, func(n *node.Node) stagetest.Store { return newStore(n).apply })
}
