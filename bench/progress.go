package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A progress is the line at the bottom of a terminal that says what is being done.
// Where there is no terminal there is none.
type progress struct {
	w    io.Writer  // nil: there is no line
	mu   sync.Mutex // guards what follows
	now  string
	end  time.Time // when it is expected to be over; zero: nobody knows
	over func()
	done sync.WaitGroup
}

const progressEvery = 250 * time.Millisecond

// newProgress begins the line, on w if that is a terminal, unless quiet. It goes on
// until stop.
func newProgress(w io.Writer, quiet bool) *progress {
	ctx, over := context.WithCancel(context.Background())
	p := &progress{over: over}
	f, ok := w.(*os.File)
	if !ok || quiet || os.Getenv("TERM") == "dumb" {
		return p
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return p
	}
	p.w = f
	p.done.Go(func() { // ends at stop
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			p.draw()
			select {
			case <-tick.C:
			case <-ctx.Done():
				fmt.Fprint(p.w, "\r\x1b[K")
				return
			}
		}
	})
	return p
}

// say sets what the line says. It is seen within a quarter of a second.
func (p *progress) say(what string) {
	p.mu.Lock()
	p.now = what
	p.mu.Unlock()
}

// expect sets the time that is left.
func (p *progress) expect(left time.Duration) {
	p.mu.Lock()
	p.end = time.Now().Add(left)
	p.mu.Unlock()
}

func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.now
	if left := time.Until(p.end); !p.end.IsZero() && left > 0 {
		line += fmt.Sprintf("  (about %.0f s left)", left.Seconds())
	}
	if runes := []rune(line); len(runes) >= columns {
		line = string(runes[:columns-1])
	}
	fmt.Fprint(p.w, "\r\x1b[K"+line)
}

// print writes text to w without the line in between, and the line below it again.
func (p *progress) print(w io.Writer, text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	_, err := io.WriteString(w, text)
	return err
}

// stop ends the line and erases it. A second stop does nothing.
func (p *progress) stop() {
	p.over()
	p.done.Wait()
}
