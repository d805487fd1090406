package progress

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// A terminal is what a Line is drawn on, of a width that may change. The test touches it between
// shows and the next call of a method of Line, when nothing is drawn.
type terminal struct {
	*Line
	width int
	b     bytes.Buffer
}

// shows returns the rows on the screen a second later.
func (term *terminal) shows() []string {
	<-time.After(time.Second)
	synctest.Wait()
	return term.rows()
}

// rows returns the rows that are not empty: of each, what was written up to the last erasure of
// its end, and behind it.
func (term *terminal) rows() (rows []string) {
	for line := range strings.Lines(term.b.String()) {
		before, after := line, ""
		if i := strings.LastIndex(line, "\x1b[K"); i >= 0 {
			before, after = line[:i], line[i+len("\x1b[K"):]
		}
		if row := before[strings.LastIndex(before, "\r")+1:] + after; strings.Trim(row, "\r\n") != "" {
			rows = append(rows, strings.Trim(row, "\r\n"))
		}
	}
	return rows
}

// The line takes one row of a terminal of any width, which may change, and keeps the time that
// is left; no figure is cut. When Ctrl-C is typed, which the terminal echoes, nothing of it stays.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term := &terminal{width: 80}
		term.Line = &Line{w: &term.b, width: func() int { return term.width }}
		check := func(want ...string) {
			t.Helper()
			if got := term.shows(); !slices.Equal(got, want) {
				t.Errorf("the screen shows %q, want %q", got, want)
			}
		}
		term.Expect(10 * time.Second)
		for range 1000 { // far more often than it may be drawn
			term.Say("round 1 of 6")
			<-time.After(10*time.Millisecond - time.Nanosecond)
		}
		synctest.Wait()
		written := term.b.String()
		if drawn := strings.Count(written, "\x1b[K"); drawn < 30 || drawn > 41 {
			t.Errorf("it was drawn %d times in 10 s, want 4 times a second at most", drawn)
		}
		if strings.Contains(written, "\n") || !strings.Contains(written, "\rround 1 of 6, 5s left\x1b[K\r") {
			t.Errorf("it draws %.200q, want one row, with the cursor at its left", written)
		}
		term.Say("a shorter")
		term.Expect(0)
		check("a shorter")
		for width, want := range map[int]string{80: ", p99 3.2ms", 50: ""} {
			term.width = width
			term.Detail("2/6 three")
			term.Expect(6 * time.Second)
			term.Pace(21_312, 3210*time.Microsecond, 7)
			check("2/6 three: 7 errors, 21 300 ops/s" + want + ", 5s left")
		}
		term.Expect(time.Minute)
		for _, width := range []int{1, 5, 9, 60, 70, 80, 120, 300} {
			term.width = width
			term.b.Reset()
			term.Say(strings.Repeat("µ", 200))
			got := strings.Join(term.shows(), "\n")
			if n := utf8.RuneCountInString(got); strings.Contains(got, "\n") || n != min(width-1, 210) || width > 9 && !strings.HasSuffix(got, "s left") {
				t.Errorf("%d columns show %q, want one row of %d with the time left", width, got, width-1)
			}
			term.b.WriteString("^C")
			term.Print(&term.b, "interrupted\n")
			if got := term.rows(); width >= 60 && !slices.Equal(got, []string{"interrupted"}) {
				t.Errorf("%d columns show %q after Ctrl-C, want the line gone", width, got)
			}
		}
		term.b.Reset()
		term.Expect(0)
		term.Detail("now\x9b")
		term.Pace(0, 0, 0) // nothing was answered
		term.Print(&term.b, "a row\n")
		check("a row", `now\x9b: 0 ops/s`)
		term.Stop()
		term.Stop()
		term.Say("more")
		check("a row")
	})
}

// What is no terminal, or a dumb one, is a log: it has a line for each step. There is none with
// -quiet, nor where nobody could see it.
func TestLog(t *testing.T) {
	t.Setenv("TERM", "dumb")
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, quiet := range []bool{false, true} {
		var l Line
		l.Open(f, quiet)
		l.Say("building 4 servers")
		l.Expect(time.Minute)
		l.Say("round 1\x9b of 6")
		l.Detail("1 000 ops/s")
		l.Print(f, fmt.Sprintln("a row, quiet:", quiet))
		l.Stop()
	}
	var b bytes.Buffer
	var l Line
	l.Open(&b, false)
	l.Say("building")
	got, err := os.ReadFile(f.Name())
	const want = "bench: building 4 servers\nbench: round 1\\x9b of 6, 1m0s left\na row, quiet: false\na row, quiet: true\n"
	if string(got) != want || err != nil || b.Len() != 0 {
		t.Errorf("a log has %q, and a buffer %q, want %q and nothing; error %v", got, b.String(), want, err)
	}
}
