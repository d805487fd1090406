package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
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
