package metrics

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// awaitWaiters returns when n goroutines wait inside Mutex.Lock, after their TryLock
// failed. Only the runtime can tell: a goroutine that waits for a lock runs no code.
func awaitWaiters(n int) {
	stacks := make([]byte, 1<<20)
	for waiting := 0; waiting < n; runtime.Gosched() {
		waiting = 0
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "\nsync.(*Mutex).Lock(") && strings.Contains(stack, "metrics.(*Mutex).Lock(") {
				waiting++
			}
		}
	}
}

func TestMutexCounts(t *testing.T) {
	var mu Mutex
	for range 10 {
		mu.Lock()
		mu.Unlock()
	}
	const waiters = 3
	mu.Lock()
	before := Now()
	var wg sync.WaitGroup
	for range waiters {
		wg.Go(func() {
			mu.Lock()
			mu.Unlock()
		})
	}
	awaitWaiters(waiters)
	atLeast := Now()
	for Now() < atLeast+time.Millisecond { // all three wait for this long
	}
	// Counts does not wait, although the lock is held and three goroutines want it.
	if got, want := mu.Counts(), (Contention{Acquired: 11}); got != want {
		t.Errorf("while they wait: %+v, want %+v", got, want)
	}
	mu.Unlock()
	wg.Wait()
	elapsed := Now() - before

	got := mu.Counts()
	if got.Acquired != 11+waiters || got.Contended != waiters {
		t.Errorf("acquired, contended = %d, %d, want %d, %d", got.Acquired, got.Contended, 11+waiters, waiters)
	}
	if got.Waited < waiters*time.Millisecond || got.Waited > waiters*elapsed {
		t.Errorf("waited %v, want %v to %v", got.Waited, waiters*time.Millisecond, waiters*elapsed)
	}
}

// A Mutex excludes and counts each acquisition, and Counts may be called meanwhile.
func TestMutexConcurrent(t *testing.T) {
	const goroutines, rounds = 8, 5000
	var mu Mutex
	guarded := 0
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range rounds {
				mu.Lock()
				guarded++
				mu.Unlock()
				if c := mu.Counts(); c.Contended > c.Acquired {
					t.Errorf("counted %+v, more contended than acquired", c)
				}
			}
		})
	}
	wg.Wait()
	if got := mu.Counts().Acquired; guarded != goroutines*rounds || got != goroutines*rounds {
		t.Errorf("%d increments under the lock, acquired %d times, want %d", guarded, got, goroutines*rounds)
	}
}

// A Mutex against a sync.Mutex; with -cpu 2, contended.
func BenchmarkMutex(b *testing.B) {
	for name, mu := range map[string]sync.Locker{"sync": new(sync.Mutex), "metrics": new(Mutex)} {
		b.Run("mutex="+name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					mu.Lock()
					mu.Unlock()
				}
			})
		})
	}
}
