package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"lockstep/common/text"
)

const (
	logWidth  = 92 // columns of a line in the log
	logIndent = len("15:04:05 ")
)

// A handler writes log lines for people:
//
//	15:04:05 stage4_bucketlock node 0: ended the connection from 10.0.0.7:4711: idle
//
// An attribute follows the message as " key value", and an error as ": value". Values
// may hold what a stranger has sent, so they are quoted where they cannot be printed and
// cut where they are long. A longer line is continued below its text, so that it cannot
// be taken for two.
//
// A hostile network must not fill the disk, so of each message at most one line a second
// is written. The next line with that message tells how many were left out. What follows a
// colon in a message varies, and does not tell messages apart. Further lines of a message are
// continuations.
type handler struct {
	who   string // what each line begins with
	w     io.Writer
	mu    *sync.Mutex         // guards w and lines; shared, as they are, with the handlers derived from this one
	lines map[string]*logLine // by message
}

// A logLine is when a message was last written, and how often it was left out since.
type logLine struct {
	at      time.Time
	skipped int64
}

// newHandler returns a handler whose lines begin with the program's name.
func newHandler(w io.Writer, program string) slog.Handler {
	return handler{program, w, new(sync.Mutex), make(map[string]*logLine)}
}

func (h handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h handler) WithGroup(string) slog.Handler { return h }

// WithAttrs adds to what each line begins with: "stage1_singlethread node 0".
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.who += fmt.Sprintf(" %s %v", a.Key, a.Value)
	}
	return h
}

func (h handler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	recent := func(l *logLine) bool { return r.Time.Sub(l.at) < time.Second }
	kind, _, _ := strings.Cut(r.Message, ": ")
	last := h.lines[kind]
	if last != nil && recent(last) {
		last.skipped++
		return nil
	}
	message, more, _ := strings.Cut(text.Printable(r.Message), "\n")
	line := h.who + ": " + message
	r.Attrs(func(a slog.Attr) bool {
		separator := " " + a.Key + " "
		if a.Key == "err" {
			separator = ": "
		}
		line += separator + text.Quote(a.Value.String(), logWidth-logIndent)
		return true
	})
	if last != nil && last.skipped > 0 {
		line += fmt.Sprintf(" (and %s more like it)", text.Count(last.skipped))
	}
	// Messages that do not come again must not fill the memory.
	maps.DeleteFunc(h.lines, func(_ string, l *logLine) bool { return l.skipped == 0 && !recent(l) })
	h.lines[kind] = &logLine{at: r.Time}
	line = text.Wrap(line, logWidth-logIndent)
	for next := range strings.Lines(more) {
		line += text.Wrap(next, logWidth-logIndent)
	}
	line = strings.TrimSuffix(line, "\n")
	line = strings.ReplaceAll(line, "\n", "\n"+strings.Repeat(" ", logIndent))
	_, err := fmt.Fprintf(h.w, "%s %s\n", r.Time.Format(time.TimeOnly), line)
	return err
}
