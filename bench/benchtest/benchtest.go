package benchtest

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// Most of these tests run the whole program in this process, on stages that it builds.
// LOCKSTEP_SLOW=1 runs those that take longer than seconds, too.
func Slow(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Getenv("LOCKSTEP_SLOW") == "" {
		t.Skip("slow; LOCKSTEP_SLOW=1 runs it")
	}
}

// A buffer is a bytes.Buffer that is safe for concurrent use.
type Buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// emptyFolder makes the folder for temporary files one of the test's own, and fails
// the test if anything is in it at the end.
func EmptyFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	t.Cleanup(func() {
		files, err := os.ReadDir(dir)
		for _, f := range files {
			t.Errorf("%s is left in the folder for temporary files", f.Name())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}

func CheckWidth(t *testing.T, text string, limit int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > limit {
			t.Errorf("%d columns, want at most %d: %s", n, limit, line)
		}
	}
}
