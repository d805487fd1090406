package metrics

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One goroutine takes a lock again as soon as it has freed it, and holds it for 20 µs each time.
// Another one takes it 100 times, with 20 µs without it in between. Does each get it in turn?
//
// A Go mutex prefers the goroutine that is running: the other one has to be woken first. Only
// a goroutine that has waited for 1 ms is handed the lock. A channel hands over each time,
// which is fair, but each hand-over is a change of goroutines; where many wait for such a
// lock, it becomes a convoy that never dissolves. That the other gets its 100 times is all
// that is checked: the figures depend on the machine.
//
//	go test ./common/metrics -run Specimen -v
func TestSpecimenUnfairLock(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		lock             sync.Locker
	}{
		{"a mutex", "no: dozens of times for one, and the other waits for up to 1 ms", new(sync.Mutex)},
		{"a channel", "nearly: the other waits for about the 20 µs of one holder", make(handedOver, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			const times, hold = 100, 20 * time.Microsecond
			var done atomic.Bool
			again, begun := 0, make(chan int, 1)
			var hog sync.WaitGroup
			hog.Go(func() { // ends after the other
				for begun <- 1; !done.Load(); again++ {
					c.lock.Lock()
					compute(hold)
					c.lock.Unlock()
				}
			})
			<-begun
			var waited, most time.Duration
			for range times {
				compute(hold)
				asked := Now()
				c.lock.Lock()
				wait := Now() - asked
				c.lock.Unlock()
				waited, most = waited+wait, max(most, wait)
			}
			done.Store(true)
			hog.Wait()
			t.Logf("prediction: %s\nfound: %d times for one, %d for the other, which waits for %v on average and %v at most",
				c.prediction, again, times, (waited / times).Round(time.Microsecond), most.Round(time.Microsecond))
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
	for name, use := range map[string]func(i int){
		"counter": func(i int) { counters[i].Add(1) },
		"mutex": func(i int) {
			mutexes[i].Lock()
			mutexes[i].Unlock()
		},
	} {
		for _, apart := range []int{1, 16} {
			b.Run(fmt.Sprintf("of=%s/apart=%dB", name, 8*apart), func(b *testing.B) {
				var both sync.WaitGroup
				for core := range 2 {
					both.Go(func() {
						for range b.N {
							use(core * apart)
						}
					})
				}
				both.Wait()
			})
		}
	}
}
