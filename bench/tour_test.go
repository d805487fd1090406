package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/text"
)

// If a stage is missing, the error names it, and is not a usage error.
func TestTourWithoutAStage(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"stage1_a", "stage2_b", "stage4_d"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module lockstep\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	code, stdout, stderr := bench(t)
	if code != exitFailure || stdout != "" || !strings.HasPrefix(stderr, "bench: there is no stage 3: want one directory stage3_* in ") {
		t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and which stage is missing", code, stdout, stderr)
	}
	t.Chdir(t.TempDir())
	if code, _, stderr := bench(t); code != exitFailure || !strings.Contains(stderr, "run bench inside it") {
		t.Errorf("outside the project: exit code %d, stderr %q", code, stderr)
	}
}

func TestTourInterrupted(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 500 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		began := time.Now()
		code, _, stderr := benchUntil(ctx)
		cancel()
		if took := time.Since(began) - after; code != exitInterrupted || stderr != "bench: interrupted\n" || took > 3*time.Second {
			t.Errorf("after %v: exit code %d, stderr %q, %v later", after, code, stderr, took)
		}
	}
}

// The whole tour, with a secret in the environment, which the servers read as well.
func TestTour(t *testing.T) {
	benchtest.Slow(t)
	t.Setenv("LOCKSTEP_SECRET", "0123456789abcdef")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	code, stdout, stderr := benchUntil(ctx)
	benchtest.CheckWidth(t, stdout, text.Columns)
	want := regexp.MustCompile(`(?s)\n1 one thread ([^\n]*starve){3}\n2 coarse lock [^\n]*\n3 thread pool [^\n]*\n4 bucket lock [^\n]*\n` +
		`.*\n1 to 2, .*\n2 to 3, .*\n3 to 4, .*\nWithout work, .* goroutines.*\nNext: read `)
	if code != exitOK || stderr != "" || !want.MatchString(stdout) || regexp.MustCompile(`fail| err|nothing`).MatchString(stdout) {
		t.Errorf("exit code %d, stderr %q, want a row and a paragraph for each step in", code, stderr)
	}
	t.Log(stdout)
}
