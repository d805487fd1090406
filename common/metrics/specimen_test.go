package metrics

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One goroutine takes the lock again as soon as it has freed it, and holds it for 20 µs. Another one
// takes it 20 times, after a moment without it. A lock is free for that moment only, and
// the goroutine that runs is faster than the one that has to be woken.
//
// A Go mutex lets it be the faster one, which costs nothing, until a waiter has waited for
// 1 ms; then the waiters come first. The lock that hands over each time, here a channel
// with room for one value, is fair, and every Lock costs a change of goroutines: a convoy.
//
//	go test ./common/metrics -run Specimen -v
func TestSpecimenConvoy(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		lock             sync.Locker
	}{
		{"a mutex", "the hog gets it dozens of times for each time of the other, which waits for about 1 ms", new(sync.Mutex)},
		{"a lock that is handed over", "about as often, and the other waits for 20 µs", make(handedOver, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			const times = 20
			var hog int
			var waited, longest time.Duration
			var done atomic.Bool
			var all sync.WaitGroup
			began := Now()
			all.Go(func() { // ends after the other
				for ; !done.Load(); hog++ {
					c.lock.Lock()
					compute(20 * time.Microsecond)
					c.lock.Unlock()
				}
			})
			for range times {
				compute(20 * time.Microsecond)
				asked := Now()
				c.lock.Lock()
				waits := Now() - asked
				c.lock.Unlock()
				waited, longest = waited+waits, max(longest, waits)
			}
			done.Store(true)
			all.Wait()
			t.Logf("prediction: %s\nfound: the hog got it %d times, the other %d times; the other waited for %v in the mean, %v at most; %v for a Lock of any",
				c.prediction, hog, times, (waited / times).Round(time.Microsecond), longest.Round(time.Microsecond),
				((Now() - began) / time.Duration(hog+times)).Round(100*time.Nanosecond))
		})
	}
}

// A handedOver lock goes to the goroutine that has waited longest when it is freed.
type handedOver chan struct{}

func (h handedOver) Lock()   { h <- struct{}{} }
func (h handedOver) Unlock() { <-h }

func compute(d time.Duration) {
	for end := Now() + d; Now() < end; {
	}
}

// Two cores each add to a counter of their own, or lock a mutex of their own, which are next to
// each other in memory or 128 bytes apart. Cores exchange whole cache lines of 64 bytes, so
// neighbors wait for each other although they share nothing that the program names.
//
//	go test ./common/metrics -run '^$' -bench FalseSharing
func BenchmarkFalseSharing(b *testing.B) {
	counters, mutexes := make([]atomic.Int64, 64), make([]sync.Mutex, 64)
	for _, use := range []struct {
		name string
		do   func(i, n int) // n times the one at i
	}{
		{"counter", func(i, n int) {
			for c := &counters[i]; n > 0; n-- {
				c.Add(1)
			}
		}},
		{"mutex", func(i, n int) {
			for mu := &mutexes[i]; n > 0; n-- {
				mu.Lock()
				mu.Unlock()
			}
		}},
	} {
		for _, apart := range []int{1, 16} {
			b.Run(fmt.Sprintf("of=%s/apart=%dB", use.name, 8*apart), func(b *testing.B) {
				var both sync.WaitGroup
				for core := range 2 {
					both.Go(func() { use.do(core*apart, b.N) })
				}
				both.Wait()
			})
		}
	}
}

// What it costs to pass a lock that nobody waits for, and to hand a value to another
// goroutine and get one back.
//
//	go test ./common/metrics -run '^$' -bench HandOff
func BenchmarkHandOff(b *testing.B) {
	for name, lock := range map[string]sync.Locker{"mutex": new(sync.Mutex), "channel": make(handedOver, 1)} {
		b.Run("free="+name, func(b *testing.B) {
			for b.Loop() {
				lock.Lock()
				lock.Unlock()
			}
		})
	}
	b.Run("to=goroutine", func(b *testing.B) {
		there, back := make(chan int), make(chan int)
		go func() { // ends when there is closed
			for n := range there {
				back <- n
			}
		}()
		for b.Loop() {
			there <- 1
			<-back
		}
		close(there)
	})
}
