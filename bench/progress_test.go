package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/text"
)

// screen returns the lines that a terminal would show.
func screen(text string) []string {
	lines := [][]rune{nil}
	for part := range strings.SplitAfterSeq(text, "\n") {
		for over := range strings.SplitAfterSeq(part, "\r") {
			last := &lines[len(lines)-1]
			written := []rune(strings.TrimRight(over, "\r\n"))
			*last = append(written, (*last)[min(len(written), len(*last)):]...)
		}
		if strings.HasSuffix(part, "\n") {
			lines = append(lines, nil)
		}
	}
	var shown []string
	for _, line := range lines {
		shown = append(shown, strings.TrimRight(string(line), " "))
	}
	return shown
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var terminal bytes.Buffer
		p := &progress{w: &terminal}
		p.Expect(10 * time.Second)
		for range 1000 { // far more often than it may be drawn
			p.Say("round 1 of 6")
			<-time.After(10*time.Millisecond - time.Nanosecond)
		}
		synctest.Wait()
		if drawn := strings.Count(terminal.String(), "\r"); drawn < 30 || drawn > 40 {
			t.Errorf("it was drawn %d times in 10 s, want 4 times a second at most", drawn)
		}
		if text := terminal.String(); strings.Contains(text, "\n") || !strings.Contains(text, "\rround 1 of 6  (about 5 s left) ") {
			t.Errorf("it draws %.200q", text)
		}
		benchtest.CheckWidth(t, strings.ReplaceAll(terminal.String(), "\r", "\n"), text.Columns-1)

		p.Say("a shorter one")
		p.Expect(0)
		<-time.After(time.Second)
		synctest.Wait()
		if got := screen(terminal.String()); len(got) != 1 || got[0] != "a shorter one" {
			t.Errorf("the screen shows %q, want only the last line", got)
		}
		p.Say(strings.Repeat("µ", 200))
		<-time.After(time.Second)
		synctest.Wait()
		if got := []rune(screen(terminal.String())[0]); len(got) != text.Columns-1 {
			t.Errorf("a long line takes %d columns, want %d", len(got), text.Columns-1)
		}
		p.Say("now\x9b")
		if err := p.Print(&terminal, "a row\n"); err != nil {
			t.Error(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if got := screen(terminal.String()); len(got) != 2 || got[0] != "a row" || got[1] != `now\x9b` {
			t.Errorf("after a row the screen shows %q", got)
		}
		p.stop()
		p.stop()
		if got := screen(terminal.String()); len(got) != 2 || got[1] != "" {
			t.Errorf("at the end the screen shows %q, want the line gone", got)
		}
		written := terminal.Len()
		p.Say("more")
		<-time.After(time.Second)
		if terminal.Len() != written {
			t.Error("it is drawn after stop")
		}
	})
}

// There is no line without a terminal.
func TestNoProgress(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b bytes.Buffer
	for _, w := range []io.Writer{&b, f} {
		p := new(progress)
		p.open(w, false)
		p.Say("round 1 of 6")
		p.Expect(time.Second)
		if err := p.Print(&b, "te\x9bxt"); p.w != nil || err != nil {
			t.Errorf("there is a line where there is no terminal: %v; error %v", p.w != nil, err)
		}
		p.stop()
	}
	if b.String() != strings.Repeat(`te\x9bxt`, 2) {
		t.Errorf("%q was written, want the text alone, printable", b.String())
	}
	t.Setenv("TERM", "dumb")
	null, err := os.Open(os.DevNull)
	defer null.Close()
	if err != nil || isTerminal(null) {
		t.Errorf("a dumb terminal gets a line; error %v", err)
	}
}
