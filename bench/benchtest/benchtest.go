// Package benchtest is what the tests of several packages share: nodes that run inside the
// test, and control of processes with a known fault. It is not part of the program.
package benchtest

import (
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// Slow skips a test that takes longer than a few seconds, unless LOCKSTEP_SLOW is set.
func Slow(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Getenv("LOCKSTEP_SLOW") == "" {
		t.Skip("slow; LOCKSTEP_SLOW=1 runs it")
	}
}

// EmptyFolder gives the test its own directory for temporary files, and fails the test if
// a file is left in it at the end.
func EmptyFolder(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	t.Cleanup(func() {
		files, err := os.ReadDir(dir)
		if len(files) > 0 || err != nil {
			t.Errorf("left in the directory for temporary files: %v (%v)", files, err)
		}
	})
}

// CheckWidth fails the test if a line of text has more than limit columns.
func CheckWidth(t *testing.T, text string, limit int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > limit {
			t.Errorf("%d columns, want at most %d: %s", n, limit, line)
		}
	}
}
