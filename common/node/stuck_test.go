package node

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
)

func TestStuck(t *testing.T) {
	for _, test := range []struct {
		name        string
		begun, done int  // turns, before a minute passes
		everySecond bool // another one is done
		work        time.Duration
		want        bool
	}{
		{"idle", 5, 5, false, 0, false},
		{"all stuck", 5, 0, false, 0, true},
		{"one stuck, others go on", 5, 0, true, 0, false},
		{"one stuck, others idle", 5, 4, false, 0, true},
		{"long work", 5, 4, false, time.Second, false},
		{"one turn of many requests", 1, 0, true, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, log := newNode(func(c *cluster.Config) { c.Server.Work.Time = test.work })
				ctx, cancel := context.WithCancel(t.Context())
				var watching sync.WaitGroup
				watching.Go(func() { n.watchStuck(ctx, control.Pause) }) // ends with ctx
				for range test.begun {
					n.Stats.QueueWait.Add(0)
				}
				for range test.done {
					n.Stats.Turn.Add(0)
				}
				for range 60 {
					<-time.After(time.Second)
					if test.everySecond && test.begun == 1 {
						n.Stats.Requests.Add(1)
					} else if test.everySecond {
						n.Stats.QueueWait.Add(0)
						n.Stats.Turn.Add(0)
					}
				}
				cancel()
				watching.Wait()
				if got := len(log); got > 1 || got == 1 != test.want {
					t.Errorf("the log is %q, want a line: %v", log.lines(), test.want)
				}
			})
		})
	}
}

// A process that was stopped for 5 s says so; one that was a little late does not.
func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newNode(nil)
		ctx, cancel := context.WithCancel(t.Context())
		late := []time.Duration{0, 5 * time.Second, 900 * time.Millisecond, 0}
		n.watchStuck(ctx, func(_ context.Context, d time.Duration) {
			<-time.After(d + late[0])
			if late = late[1:]; len(late) == 1 {
				cancel()
			}
		})
		got, lines := n.Stats.Suspended.Load(), log.lines()
		if got != (metrics.Timing{Count: 1, Total: 5 * time.Second}) || len(lines) != 1 || !strings.Contains(lines[0], "did not run for 5.00s") {
			t.Errorf("suspended %+v, and the log is %q, want once 5 s and one line that says so", got, lines)
		}
	})
}

func TestWhereabouts(t *testing.T) {
	const blocked = `goroutine 19 [sync.Mutex.Lock, 2 minutes]:
internal/sync.runtime_SemacquireMutex(0x0?, 0x0?, 0x0?)
	/usr/local/go/src/runtime/sema.go:95 +0x25
sync.(*Mutex).Lock(...)
	/usr/local/go/src/sync/mutex.go:46
main.(*store).apply(0x0?, {0x1, 0x2})
	/home/ada/mine/store.go:26 +0x51
created by main.serve in goroutine 1
	/home/ada/mine/server.go:20 +0x5f`
	const reading = `goroutine 7 [IO wait]:
internal/poll.runtime_pollWait(0x7f)
	/usr/local/go/src/runtime/netpoll.go:351 +0x85
main.serve.func1()
	/home/ada/mine/server.go:21 +0x1a
created by main.serve in goroutine 1
	/home/ada/mine/server.go:20 +0x6b`
	const first = `goroutine 1 [select]:
lockstep/common/node.(*Node).run(0x1)
	/home/ada/common/node/main.go:160 +0x25
main.main()
	/home/ada/mine/main.go:5 +0xc5`
	const spinning = `goroutine 9 [running]:
main.(*store).apply(0x0?, {0x1, 0x2})
	/home/ada/mine/store.go:30 +0x51`
	got := Whereabouts("main.", first, reading, reading, reading, blocked, blocked, spinning)
	if want := "2 × (*store).apply, mine/store.go:26, waits in Mutex.Lock; 3 × serve.func1, mine/server.go:21, waits in IO; " +
		"1 × (*store).apply, mine/store.go:30, runs"; got != want {
		t.Errorf("goroutines are at %q, want %q", got, want)
	}
}

func TestStacks(t *testing.T) {
	if got := Stacks("no such word", "node.TestStacks("); len(got) != 1 || !strings.HasPrefix(got[0], "goroutine ") {
		t.Errorf("the stacks are %q, want one", got)
	}
	if got := Stacks(); got != nil {
		t.Errorf("without a word: %q", got)
	}
}
