package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// A handler writes log lines for a person at a terminal: the program, the node,
// what happened, and then the attributes as key=value.
type handler struct {
	mu  *sync.Mutex // guards w
	w   io.Writer
	who string
}

// newHandler returns a handler whose lines begin with the program's name.
// Verbose lines are slog's own, with time and level.
func newHandler(w io.Writer, program string, verbose bool) slog.Handler {
	if verbose {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
	}
	return handler{mu: new(sync.Mutex), w: w, who: program}
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
	var line strings.Builder
	fmt.Fprintf(&line, "%s: %s", h.who, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		text := a.Value.String()
		if quoted := strconv.Quote(text); strings.Contains(text, " ") || quoted != `"`+text+`"` {
			text = quoted // what a stranger sent must not write to the terminal
		}
		fmt.Fprintf(&line, " %s=%s", a.Key, text)
		return true
	})
	line.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, line.String())
	return err
}
