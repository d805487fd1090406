package progress

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// screen returns the rows that a terminal of this width shows, without those at the end that
// are empty.
func screen(written string, width int) []string {
	cells := [][]rune{nil}
	row, column := 0, 0
	rest := []rune(strings.ReplaceAll(written, "\x1b[K", "\v"))
	for _, r := range rest {
		switch r {
		case '\r':
			column = 0
		case '\v': // erase what is at the cursor and behind it
			cells[row] = cells[row][:min(column, len(cells[row]))]
		default:
			if column == width || r == '\n' {
				row, column = row+1, 0
				cells = append(cells, nil)
			}
			if r != '\n' {
				cells[row] = append(append(cells[row][:column:column], r), cells[row][min(column+1, len(cells[row])):]...)
				column++
			}
		}
	}
	var shown []string
	for _, line := range cells {
		shown = append(shown, string(line))
	}
	return strings.Split(strings.TrimRight(strings.Join(shown, "\n"), "\n"), "\n")
}

func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var terminal bytes.Buffer
		columns := 80 // guarded by l.mu, as terminal is
		l := &Line{w: &terminal, width: func() int { return columns }}
		l.Expect(10 * time.Second)
		for range 1000 { // far more often than it may be drawn
			l.Say("round 1 of 6")
			<-time.After(10*time.Millisecond - time.Nanosecond)
		}
		synctest.Wait()
		if drawn := strings.Count(terminal.String(), "\x1b[K"); drawn < 30 || drawn > 41 {
			t.Errorf("it was drawn %d times in 10 s, want 4 times a second at most", drawn)
		}
		if written := terminal.String(); strings.Contains(written, "\n") || !strings.Contains(written, "\rround 1 of 6, 5s left\x1b[K\r") {
			t.Errorf("it draws %.200q", written)
		}
		l.Say("a shorter")
		l.Expect(0)
		<-time.After(time.Second)
		synctest.Wait()
		if got := screen(terminal.String(), 80); len(got) != 1 || got[0] != "a shorter" {
			t.Errorf("the screen shows %q, want only the last line", got)
		}
		for failed, want := range map[int64]string{0: "2/6 three: 21 300 ops/s, p99 3.2ms, 5s left", 7: "2/6 three: 7 errors, 21 300 ops/s, p99 3.2ms, 5s left"} {
			l.Detail("2/6 three")
			l.Expect(6 * time.Second)
			l.Pace(21_312, 3210*time.Microsecond, failed)
			<-time.After(time.Second)
			synctest.Wait()
			if got := screen(terminal.String(), 80); got[0] != want {
				t.Errorf("the screen shows %q, want %q", got, want)
			}
		}
		l.mu.Lock()
		columns = 50
		l.mu.Unlock()
		l.Detail("2/6 three")
		l.Pace(21_312, 3210*time.Microsecond, 7)
		<-time.After(time.Second)
		synctest.Wait()
		if got := screen(terminal.String(), 80); got[0] != "2/6 three: 7 errors, 21 300 ops/s, 4s left" {
			t.Errorf("50 columns show %q, want no figure that is cut", got)
		}
		l.Detail("2/6 three")
		l.Pace(0, 0, 0)
		l.Expect(0)
		<-time.After(time.Second)
		synctest.Wait()
		if got := screen(terminal.String(), 80); got[0] != "2/6 three: 0 ops/s" {
			t.Errorf("the screen shows %q, want that nothing was answered", got)
		}
		l.Detail("now\x9b")
		if err := l.Print(&terminal, "a row\n"); err != nil {
			t.Error(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if got := screen(terminal.String(), 80); len(got) != 2 || got[0] != "a row" || got[1] != `now\x9b` {
			t.Errorf("after a row the screen shows %q", got)
		}
		l.Stop()
		l.Stop()
		if got := screen(terminal.String(), 80); len(got) != 1 {
			t.Errorf("at the end the screen shows %q, want the line gone", got)
		}
		written := terminal.Len()
		l.Say("more")
		<-time.After(time.Second)
		if terminal.Len() != written {
			t.Error("it is drawn after Stop")
		}
	})
}

// The line takes one row of a terminal of any width, which may change, and keeps the time that
// is left. When Ctrl-C is typed, which the terminal echoes, nothing of it stays.
func TestWidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var terminal bytes.Buffer
		width := 0 // guarded by l.mu, as terminal is
		l := &Line{w: &terminal, width: func() int { return width }}
		defer l.Stop()
		l.Expect(time.Minute)
		l.Say(strings.Repeat("µ", 200))
		for _, w := range []int{1, 5, 9, 60, 70, 80, 120, 300} {
			l.mu.Lock()
			width = w
			terminal.Reset()
			l.mu.Unlock()
			<-time.After(time.Second)
			synctest.Wait()
			got := screen(terminal.String(), width)
			if n := len([]rune(got[0])); len(got) != 1 || n != min(width-1, 210) || width > 9 && !strings.HasSuffix(got[0], "s left") {
				t.Errorf("%d columns show %q, want one row of %d with the time left", width, got, width-1)
			}
			l.mu.Lock()
			terminal.WriteString("^C")
			l.mu.Unlock()
			l.Print(&terminal, "interrupted\n")
			if got := screen(terminal.String(), width); width >= 60 && (len(got) != 1 || got[0] != "interrupted") {
				t.Errorf("%d columns show %q after Ctrl-C, want the line gone", width, got)
			}
		}
	})
}

// What is no terminal, or a dumb one, is a log: it has a line for each step. There is none with
// -quiet, nor where nobody could see it.
func TestLog(t *testing.T) {
	t.Setenv("TERM", "dumb")
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
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
	l.Stop()
	got, err := os.ReadFile(path)
	const want = "bench: building 4 servers\nbench: round 1\\x9b of 6, 1m0s left\na row, quiet: false\na row, quiet: true\n"
	if string(got) != want || err != nil || b.Len() != 0 {
		t.Errorf("a log has %q, and a buffer %q, want %q and nothing; error %v", got, b.String(), want, err)
	}
}
