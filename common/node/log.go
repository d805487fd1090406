package node

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/text"
	"lockstep/common/wire"
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
// cut where they are long. A long line is continued below its text, so that it cannot
// be taken for two.
//
// A hostile network must not fill the disk, so of each message at most one line a second
// is written. The next line with that message says how many were left out. What follows a
// colon in a message varies, and does not tell messages apart. Further lines of a message are
// continuations.
type handler struct {
	who   string // what each line begins with
	w     io.Writer
	mu    *sync.Mutex         // guards w and lines; shared, as they are, with the handlers derived from this one
	lines map[string]*logLine // by message
}

// A logLine is when a message was last written, and how often it has been left out since.
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

// stuckAfter is how long a node may have requests in progress and finish none, not
// counting the work that it was configured with.
const stuckAfter, lookEvery = 10 * time.Second, 100 * time.Millisecond

// watchStuck logs, once each time, that requests are in progress and none was finished
// for a long time, and where the goroutines of the stage are: what its author needs to
// know about a lock that is never freed. It also logs and counts when the process did not
// run: a pause took at least a second longer than it should. It returns at the end of ctx.
func (n *Node) watchStuck(ctx context.Context, pause func(context.Context, time.Duration)) {
	limit := stuckAfter + wire.MaxOps*n.Config.Server.Work.Time
	before, looks := int64(-1), time.Duration(0) // looks without progress: a clock would count the time in which the process was suspended
	for {
		began := metrics.Now()
		if pause(ctx, lookEvery); ctx.Err() != nil {
			return
		}
		if late := metrics.Now() - began - lookEvery; late >= time.Second {
			n.Stats.Suspended.Add(late)
			n.Log.Warn(fmt.Sprintf("this process did not run for %s: it was stopped, had no processor, or the machine slept", text.Duration(late)))
		}
		turns := n.Stats.Turn.Load().Count
		done := turns + n.Stats.Requests.Load() // a turn may have many requests
		if looks++; done != before || n.Stats.QueueWait.Load().Count <= turns {
			before, looks = done, 0
		} else if looks == limit/lookEvery {
			line := fmt.Sprintf("stuck: no request was finished for %v, and some are in progress: a deadlock? %s",
				limit.Round(time.Second), Whereabouts("main.", Stacks("main.")...))
			n.Stats.Fault("stuck", line)
			n.Log.Error(line)
		}
	}
}

// Stacks returns the stacks of the goroutines in which one of the words occurs, such as
// the name of a package with a dot after it.
func Stacks(words ...string) (found []string) {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(stack, word) }) {
			found = append(found, strings.TrimSpace(stack))
		}
	}
	return found
}

// Whereabouts lists where in a package goroutines are, by their stacks, and how many are
// there: "1 × (*store).apply, mine/store.go:43, waits in Mutex.Lock". The places where they wait
// for a lock come first, as the others may wait for these, and then those with the most. pkg ends
// with a dot. Its function main and its tests are left out.
func Whereabouts(pkg string, stacks ...string) string {
	calls := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(pkg) + `(.+)\(.*\n\s+(\S+)`)
	counts := make(map[string]int)
	for _, stack := range stacks {
		counts[place(stack, calls)]++
	}
	delete(counts, "")
	places := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		locks := strings.Count(b, "Mutex.") - strings.Count(a, "Mutex.")
		return cmp.Or(locks, cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, at := range places {
		places[i] = fmt.Sprintf("%d × %s", counts[at], at)
	}
	return strings.Join(places, "; ")
}

var stateOf = regexp.MustCompile(`\[([^],]*)`)

// place returns where in its package a goroutine is; or "" if it is only in main or a test.
func place(stack string, calls *regexp.Regexp) string {
	for _, call := range calls.FindAllStringSubmatch(stack, -1) {
		if call[1] == "main" || strings.HasPrefix(call[1], "Test") {
			continue
		}
		state := strings.TrimSuffix(strings.TrimPrefix(stateOf.FindStringSubmatch(stack)[1], "sync."), " wait")
		does := "waits in " + state
		if strings.HasPrefix(state, "run") { // running, or runnable
			does = "runs"
		}
		return fmt.Sprintf("%s, %s, %s", call[1], site(call[2]), does)
	}
	return ""
}

// site is a file, or a file and line, with its directory's name alone.
func site(file string) string { return path.Join(path.Base(path.Dir(file)), path.Base(file)) }

// describe returns a line that says what panicked and where, and a line for each call from
// there up to answer, innermost first: "panicked: index out of range [-1], mine/store.go:43".
// If the panic is outside the stage's package, the line also says where the stage made the
// call. The deferred function that recovers calls describe.
func describe(panicked any) (line, calls string) {
	line = "panicked: " + text.Quote(strings.TrimPrefix(fmt.Sprint(panicked), "runtime error: "), logWidth)
	separator := ", "
	pcs := make([]uintptr, 50)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if !more || strings.HasSuffix(f.Function, "(*Node).answer") {
			return line, calls
		}
		if strings.HasPrefix(f.Function, "runtime.") || strings.HasPrefix(f.Function, "internal/runtime/") {
			continue
		}
		at, own := fmt.Sprintf("%s:%d", site(f.File), f.Line), strings.HasPrefix(f.Function, "main.")
		if calls == "" || own && separator != "" {
			line += separator + at
			separator = ", called at "
		}
		if own {
			separator = "" // the line is complete
		}
		calls += fmt.Sprintf("\nin %s, %s", path.Base(f.Function), at)
	}
}
