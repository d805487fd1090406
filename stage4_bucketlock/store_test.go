package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

// newTestStore returns a store of node 0 in a cluster of that many nodes, with that many
// buckets.
func newTestStore(nodes, buckets int) (*store, *node.Node) {
	cfg := cluster.Default()
	cfg.Nodes = make([]cluster.Node, nodes)
	cfg.Server.Buckets = buckets
	n := node.New(cfg, 0, slog.New(slog.DiscardHandler))
	return newStore(n), n
}

// apart returns n keys in different buckets, in ascending order of their buckets.
func apart(s *store, n int) []string {
	keys := make([]string, len(s.buckets))
	for i, found := 0, 0; found < n; i++ {
		key := fmt.Sprint("key", i)
		if at := &keys[s.bucketOf(key)]; *at == "" {
			*at = key
			found++
		}
	}
	return slices.DeleteFunc(keys, func(key string) bool { return key == "" })
}

func puts(keys ...string) (ops []wire.Op) {
	for _, key := range keys {
		ops = append(ops, wire.Op{Kind: wire.Put, Key: key})
	}
	return ops
}

// The hash for the bucket must differ from the hash for the node: all keys that FNV gives
// to node 0 of 2 have an even hash, and half of the buckets would stay empty.
func TestKeysOfOneNodeFillAllBuckets(t *testing.T) {
	const buckets, each = 8, 250
	s, n := newTestStore(2, buckets)
	for i, found := 0, 0; found < buckets*each; i++ {
		if key := fmt.Sprint("key", i); n.Config.Owner(key) == 0 {
			s.apply(puts(key))
			found++
		}
	}
	for i := range s.buckets {
		if got := s.buckets[i].mu.Counts().Acquired; got < each/2 || got > 2*each {
			t.Errorf("bucket %d has %d of the %d keys, want about %d", i, got, buckets*each, each)
		}
	}
}

// Batches over many buckets in opposite orders: the order of the operations must not
// become the order of the locks.
func TestOppositeBatches(t *testing.T) {
	s, _ := newTestStore(1, 64)
	up := apart(s, 32)
	down := slices.Clone(up)
	slices.Reverse(down)
	var wg sync.WaitGroup
	for _, keys := range [][]string{up, down, up, down} {
		wg.Go(func() {
			for range 1000 {
				s.apply(puts(keys...))
			}
		})
	}
	wg.Wait()
}

// A request takes each lock that it needs once, and no other.
func TestSameBucketTwice(t *testing.T) {
	s, _ := newTestStore(1, 4)
	keys := apart(s, 2)
	s.apply(puts(keys[1], keys[0], keys[1], keys[0], keys[0]))
	var taken []int64
	for i := range s.buckets {
		taken = append(taken, s.buckets[i].mu.Counts().Acquired)
	}
	if slices.Sort(taken); !slices.Equal(taken, []int64{0, 0, 1, 1}) {
		t.Errorf("a request for two buckets of four takes their locks %v times, want two of them once", taken)
	}
}

// A panic in a table leaves no lock held.
func TestPanicFreesTheLocks(t *testing.T) {
	s, n := newTestStore(1, 4)
	keys := apart(s, 3)
	ops := puts(keys...)
	broken := &s.buckets[s.bucketOf(keys[1])]
	broken.table = nil
	func() {
		defer func() { recover() }()
		s.apply(ops)
	}()
	broken.table = n.NewTable()
	s.apply(ops)
}

func BenchmarkStore(b *testing.B) {
	stagetest.BenchmarkStore(b, func(n *node.Node) stagetest.Store { return newStore(n).apply })
}

// Two batches want the same two buckets in opposite orders. They take turns: one lock
// each, then another one each. A lock is a channel with room for one value: the goroutine
// that has sent a value holds it, and the next one waits. Unlike for a Mutex, a goroutine
// can stop waiting in the end, and the bubble sees that it waits.
//
//	go test ./stage4_bucketlock -run Specimen -v
func TestSpecimenUnsortedLocks(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		batches          [2][2]int // the buckets of each, in the order in which it locks them
		want             int       // batches done
	}{
		{"in the order of the operations", "each has what the other needs: a deadlock", [2][2]int{{0, 1}, {1, 0}}, 0},
		{"in ascending order", "the batch with the lowest bucket need not wait: both get done", [2][2]int{{0, 1}, {0, 1}}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				done, trace := takeTurns(t, c.batches)
				t.Logf("prediction: %s\nfound: %d of 2 batches get done\n    %s", c.prediction, done, strings.Join(trace, "\n    "))
				if done != c.want {
					t.Errorf("%d of 2 batches get done, want %d", done, c.want)
				}
			})
		})
	}
}

// takeTurns has two batches lock their two buckets in turns, until both are done or
// neither can go on.
func takeTurns(t *testing.T, batches [2][2]int) (done int, trace []string) {
	ctx, giveUp := context.WithCancel(t.Context())
	defer synctest.Wait()
	defer giveUp()
	locks := [2]chan int{make(chan int, 1), make(chan int, 1)}
	turns := [2]chan int{make(chan int), make(chan int)}
	say := func(format string, args ...any) { trace = append(trace, fmt.Sprintf(format, args...)) }
	for i, buckets := range batches {
		go func() { // ends when it is done or ctx ends
			for _, n := range buckets {
				<-turns[i]
				if len(locks[n]) == 1 {
					say("batch %d waits for bucket %d", i, n)
				}
				select {
				case locks[n] <- i:
				case <-ctx.Done():
					return
				}
				defer func() { <-locks[n] }()
				say("batch %d has bucket %d", i, n)
			}
			say("batch %d is done", i)
			done++
		}()
	}
	for range 2 {
		for i := range turns {
			turns[i] <- 0
			synctest.Wait()
		}
	}
	if done < len(batches) {
		say("nothing can go on")
	}
	return done, trace
}
