package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"lockstep/common/text"
)

// A progress is the line at the bottom of a terminal that says what is being done. Its zero
// value shows nothing.
type progress struct {
	mu    sync.Mutex // guards what follows, and what is written
	w     io.Writer  // nil: there is no line
	timer *time.Timer
	now   string
	end   time.Time // when everything is expected to be done; zero if unknown
}

const progressEvery = 250 * time.Millisecond

// open shows the line on w from the first Say on, if w is a terminal and quiet is false. The
// caller stops it.
func (p *progress) open(w io.Writer, quiet bool) {
	if f, ok := w.(*os.File); ok && !quiet && isTerminal(f) {
		p.w = w
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// Say sets what the line says. It appears within a quarter of a second.
func (p *progress) Say(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now = what; p.w != nil && p.timer == nil {
		p.timer = time.AfterFunc(progressEvery, p.draw)
	}
}

// Expect sets how long everything will still take.
func (p *progress) Expect(left time.Duration) {
	p.mu.Lock()
	p.end = time.Now().Add(left)
	p.mu.Unlock()
}

func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil { // it was stopped at this moment
		return
	}
	p.timer.Reset(progressEvery)
	line := text.Printable(p.now)
	if left := time.Until(p.end); left > 0 { // not if end is zero
		line += fmt.Sprintf("  (about %.0f s left)", left.Seconds())
	}
	if runes := []rune(line); len(runes) >= text.Columns {
		line = string(runes[:text.Columns-1])
	}
	// Spaces erase what was there, since not every terminal has an escape code for that.
	fmt.Fprint(p.w, "\r"+line+strings.Repeat(" ", text.Columns-1-utf8.RuneCountInString(line)))
}

// Print writes what to w in place of the line, which appears again below it.
func (p *progress) Print(w io.Writer, what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	_, err := io.WriteString(w, text.Printable(what))
	return err
}

// stop erases the line and ends it. Calling it again does nothing.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.w = nil // draw does not set the timer again
}

func (p *progress) erase() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r"+strings.Repeat(" ", text.Columns-1)+"\r")
	}
}
