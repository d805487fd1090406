// Package progress says what a command is doing while one waits for it: in a terminal, by a
// row at the bottom that is rewritten, and in a log by a line for each step.
package progress

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"lockstep/common/text"
)

// A Line says what is being done. Its zero value shows nothing.
type Line struct {
	mu    sync.Mutex // guards what follows, and what is written
	w     io.Writer  // nil: nothing is shown
	width func() int // of the terminal w, in columns; nil: w is a log
	timer *time.Timer
	now   string
	pace  string    // of the load, if there is one
	end   time.Time // when everything is expected to be done; zero if unknown
}

const drawEvery = 250 * time.Millisecond

// Open shows the line on w, unless quiet is set. A file that is not a terminal, or that is a
// dumb one, is a log; a writer that is not a file shows nothing. The caller calls Stop.
func (l *Line) Open(w io.Writer, quiet bool) {
	f, ok := w.(*os.File)
	if !ok || quiet {
		return
	}
	l.w = f
	if _, ok := columns(f); ok && os.Getenv("TERM") != "dumb" {
		l.width = func() int { // asked each time, as the window may change
			n, _ := columns(f)
			fallback, _ := strconv.Atoi(os.Getenv("COLUMNS"))
			return cmp.Or(n, fallback, text.Columns)
		}
	}
}

// Say sets what the line says. A log has it as a line of its own.
func (l *Line) Say(what string) {
	l.Detail(what)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil && l.width == nil {
		fmt.Fprintf(l.w, "bench: %s\n", l.row(1<<20))
	}
}

// Detail sets what the line says, which is too little or too frequent for a log.
func (l *Line) Detail(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now, l.pace = what, ""; l.width != nil && l.timer == nil {
		l.timer = time.AfterFunc(0, l.draw)
	}
}

// Pace adds what came of the last second's requests, until the next Say or Detail.
func (l *Line) Pace(opsPerSecond float64, p99 time.Duration, failed int64) {
	pace := ": "
	if failed > 0 { // first, since the end is cut in a narrow terminal
		pace += text.Plural(failed, "error") + ", "
	}
	if pace += text.Sig3(opsPerSecond) + " ops/s"; p99 > 0 { // something was answered
		pace += ", p99 " + text.DurationSig(p99, 2)
	}
	l.mu.Lock()
	l.pace = pace
	l.mu.Unlock()
}

// Expect sets how long everything will still take.
func (l *Line) Expect(left time.Duration) {
	l.mu.Lock()
	l.end = time.Now().Add(left)
	l.mu.Unlock()
}

// row says, in at most room columns, what is being done and, if it is known, how much longer
// everything will take.
func (l *Line) row(room int) string {
	left := ""
	if d := time.Until(l.end).Round(time.Second); d > 0 { // not if end is zero
		left = fmt.Sprintf(", %v left", d)
	}
	return cut(cut(text.Printable(l.now+l.pace), max(room-len(left), 0))+left, room)
}

func (l *Line) draw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == nil { // it was stopped at this moment
		return
	}
	l.timer.Reset(drawEvery)
	// The cursor waits at the left: behind the line, a ^C would go into the next row.
	fmt.Fprint(l.w, "\r"+l.row(max(l.width()-1, 0))+"\x1b[K\r")
}

// cut shortens s to at most n runes: in front of a comma or a colon, so that no figure is cut.
func cut(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	s = string(runes[:n])
	return s[:cmp.Or(max(strings.LastIndexAny(s, ",:"), 0), len(s))]
}

// Print writes what to w in place of the line, which appears again below it.
func (l *Line) Print(w io.Writer, what string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
	_, err := io.WriteString(w, text.Printable(what))
	return err
}

// Stop erases the line and ends it. Calling it again does nothing.
func (l *Line) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
	l.w = nil // draw does not set the timer again
}

func (l *Line) erase() {
	if l.w != nil && l.width != nil {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
