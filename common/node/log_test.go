package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
)

// What a stranger has sent must not write to the terminal, nor look like another line.
func TestLog(t *testing.T) {
	for _, test := range []struct {
		key   string
		value any
		want  string
	}{
		{"key", 7, "message key 7"},
		{"key", "", `message key ""`},
		{"key", "two words", "message key two words"},
		{"key", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 7001}, "message key 10.0.0.7:7001"},
		{"err", errors.New("reading: \r\x00"), `message: "reading: \r\x00"`},
		{"err", "forged\n15:04:05 stage0 node 0: all is well", `message: "forged\n15:04:05 stage0 node 0: all is well"`},
		{"err", "\x1b]0;title\a\x9b2J", `message: "\x1b]0;title\a\x9b2J"`},
		{"err", "a\u202eb", `message: "a\u202eb"`},
		{"err", strings.Repeat("long ", 100), "message: " + strings.Repeat("long ", 5) + "lo.."},
	} {
		var out bytes.Buffer
		slog.New(newHandler(&out, "stage0")).With("node", 3).Info("message", test.key, test.value)
		at, got, _ := strings.Cut(out.String(), " ")
		if _, err := time.Parse(time.TimeOnly, at); err != nil || !strings.HasPrefix(got, "stage0 node 3: "+test.want) {
			t.Errorf("%#v is logged as %q, want the time and %q", test.value, &out, test.want)
		}
		for i, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			if utf8.RuneCountInString(line) > logWidth || i > 0 && !strings.HasPrefix(line, strings.Repeat(" ", logIndent)) {
				t.Errorf("%#v: line %d is %q, want at most %d columns, and an indent if it continues the first", test.value, i, line, logWidth)
			}
		}
	}
}

// A hostile network must not fill the disk: of each message one line a second is logged,
// and how many it stands for. Noise does not hide a panic.
func TestLogIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newNode(nil)
		for range 3 {
			for i := range 1200 {
				n.trouble("slow", "ended", "err", i)
			}
			<-time.After(time.Second)
		}
		n.trouble("panic", "panicked")
		n.trouble("lost", "ended", "err", "last")
		want := []string{"ended: 0\n", "ended: 0 (and 1 199 more like it)\n", "ended: 0 (and 1 199 more like it)\n",
			"panicked\n", "ended: last (and 1 199 more like it)\n"}
		got := log.lines()
		for i := range got {
			_, got[i], _ = strings.Cut(got[i], " node 0: ")
		}
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
		if got := fmt.Sprint(n.Stats.Snapshot().Errors); got != "map[lost:1 panic:1 slow:3600]" {
			t.Errorf("counted %v, want all of them", got)
		}
		<-time.After(time.Second)
		n.trouble("lost", "another")
		if lines := n.Log.Handler().(handler).lines; len(lines) != 1 {
			t.Errorf("%d messages are remembered, want one: the others are old", len(lines))
		}
	})
}

func TestStuck(t *testing.T) {
	for _, test := range []struct {
		name        string
		begun, done int  // turns, before half a minute passes
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
			for range 30 {
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
				t.Errorf("%s: the log is %q, want a line: %v", test.name, log.lines(), test.want)
			}
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
	const (
		blocked = `goroutine 19 [sync.Mutex.Lock, 2 minutes]:
sync.(*Mutex).Lock(...)
	/usr/local/go/src/sync/mutex.go:46
main.(*store).apply(0x0?, {0x1, 0x2})
	/home/ada/mine/store.go:26 +0x51
created by main.serve in goroutine 1
	/home/ada/mine/server.go:20 +0x5f`
		reading = "goroutine 7 [IO wait]:\nmain.serve.func1()\n\t/home/ada/mine/server.go:21 +0x1a"
		first   = "goroutine 1 [select]:\nlockstep/common/node.(*Node).run(0x1)\n\t/home/ada/common/node/main.go:160 +0x25\n" +
			"main.main()\n\t/home/ada/mine/main.go:5 +0xc5"
		spinning = "goroutine 9 [running]:\nmain.(*store).apply(0x0?, {0x1, 0x2})\n\t/home/ada/mine/store.go:30 +0x51"
	)
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
}
