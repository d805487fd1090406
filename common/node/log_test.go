package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"lockstep/common/cluster"
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
		{"key", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 7001}, "message key 10.0.0.7:7001"},
		{"err", errors.New("reading: \r\x00"), `message: "reading: \r\x00"`},
		{"err", "forged\n15:04:05 stage0 node 0: all is well", `message: "forged\n15:04:05 stage0 node 0: all is well"`},
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
				t.Errorf("%#v: line %d is %q, want at most %d columns, and an indent after the first", test.value, i, line, logWidth)
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
		const want = "ended: 0\nended: 0 (and 1 199 more like it)\nended: 0 (and 1 199 more like it)\n" +
			"panicked\nended: last (and 1 199 more like it)\n"
		if got := regexp.MustCompile("(?m)^.* node 0: ").ReplaceAllString(strings.Join(log.lines(), ""), ""); got != want {
			t.Errorf("logged\n%s, want\n%s", got, want)
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

// A server is stuck if requests are in progress and none is finished for 10 s, not counting their
// work. A process that was stopped for 5 s says so; one that was a little late does not.
func TestStuck(t *testing.T) {
	const stuck = "stuck: no request was finished for 10s"
	none := func(*Node) {}
	turn := func(n *Node) { n.Stats.QueueWait.Add(0); n.Stats.Turn.Add(0) }
	request := func(n *Node) { n.Stats.Requests.Add(1) }
	for _, test := range []struct {
		name        string
		begun, done int         // turns, before half a minute passes
		goesOn      func(*Node) // what is done in between
		work, late  time.Duration
		want        string // in the log; empty: nothing
	}{
		{"idle", 5, 5, none, 0, 0, ""},
		{"all stuck", 5, 0, none, 0, 0, stuck},
		{"one stuck, others go on", 5, 0, turn, 0, 0, ""},
		{"one stuck, others idle", 5, 4, none, 0, 0, stuck},
		{"long work", 5, 4, none, time.Second, 0, ""},
		{"one turn of many requests", 1, 0, request, 0, 0, ""},
		{"suspended", 0, 0, none, 0, 5 * time.Second, "did not run for 5.00s"},
		{"a little late", 0, 0, none, 0, 900 * time.Millisecond, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, log := newNode(func(c *cluster.Config) { c.Server.Work.Time = test.work })
			for range test.begun {
				n.Stats.QueueWait.Add(0)
			}
			for range test.done {
				n.Stats.Turn.Add(0)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			late := test.late
			n.watchStuck(ctx, func(_ context.Context, d time.Duration) {
				<-time.After(d + late)
				late = 0 // from now on
				test.goesOn(n)
			})
			lines := strings.Join(log.lines(), "")
			if strings.Count(lines, " node 0: ") != min(1, len(test.want)) || !strings.Contains(lines, test.want) {
				t.Errorf("%s: the log is %q, want %q in its only line", test.name, lines, test.want)
			}
			if got := n.Stats.Suspended.Load().Total; got != test.late.Truncate(time.Second) {
				t.Errorf("%s: suspended for %v", test.name, got)
			}
		})
	}
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
	if got := Stacks("no such word", "node.TestWhereabouts("); len(got) != 1 || !strings.HasPrefix(got[0], "goroutine ") {
		t.Errorf("the stacks are %q, want one", got)
	}
}
