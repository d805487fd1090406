package metrics

import (
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

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
	// Only the runtime can tell that they wait: a goroutine that waits for a lock runs no code.
	for all, waiting := make([]byte, 1<<20), 0; waiting < waiters; runtime.Gosched() {
		waiting = strings.Count(string(all[:runtime.Stack(all, true)]), "[sync.Mutex.Lock")
	}
	compute(time.Millisecond)
	// Counts does not wait, although the lock is held and three goroutines want it.
	if got, want := mu.Counts(), (Contention{Acquired: 11}); got != want {
		t.Errorf("while they wait: %+v, want %+v", got, want)
	}
	mu.Unlock()
	wg.Wait()
	got, most := mu.Counts(), waiters*(Now()-before)
	if got.Acquired != 11+waiters || got.Contended != waiters || got.Waited < waiters*time.Millisecond || got.Waited > most {
		t.Errorf("counted %+v, want %d, %d and %v to %v", got, 11+waiters, waiters, waiters*time.Millisecond, most)
	}
}

// A Mutex excludes and counts each acquisition, and Counts may be called meanwhile.
func TestMutexConcurrent(t *testing.T) {
	const goroutines, rounds = 4, 2000
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

func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lanes Lanes
		lanes.Recording().Mark(1, Queued) // nobody asks
		lanes.Recording().Begin(1, new(int))
		recorded := make(chan []LaneMark)
		go func() { recorded <- lanes.Record() }()
		synctest.Wait()
		one, two := new(int), new(int)
		r := lanes.Recording()
		r.Mark(2, Queued)
		r.Begin(2, two)
		r.Mark(1, Idle) // what it did at the begin is what it did last before
		<-time.After(LaneTime + time.Millisecond)
		r.MarkRequest(two, InTable)
		r.MarkRequest(one, InTable) // has begun before the recording: its lane is not known
		r.Begin(1, one)
		for range 2 * maxMarks {
			r.MarkRequest(one, Writing)
		}
		got := <-recorded
		r.Mark(1, Idle) // too late
		var kinds []LaneMark
		for i, m := range got[:5] {
			if i > 0 && m.At < got[i-1].At || m.At < 0 || m.At > LaneTime {
				t.Errorf("mark %d is at %v, after one at %v", i, m.At, got[max(i-1, 0)].At)
			}
			kinds = append(kinds, LaneMark{Lane: m.Lane, State: m.State})
		}
		want := []LaneMark{{1, Idle, 0}, {2, Awaiting, 0}, {2, InTable, 0}, {1, Awaiting, 0}, {1, Writing, 0}}
		if !slices.Equal(kinds, want) || len(got) != maxMarks {
			t.Errorf("%d marks that begin with %v, want %d and %v", len(got), kinds, maxMarks, want)
		}
		data, err := json.Marshal(got)
		var back []LaneMark
		if err != nil || json.Unmarshal(data, &back) != nil || !slices.Equal(back, got) || len(data) > 60<<10 {
			t.Errorf("%d bytes of JSON (%v), want the same marks again, in at most 60 KiB", len(data), err)
		}
	})
}
