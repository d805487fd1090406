package testbed

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/common/cluster"
)

// A number means a directory, and Lockstep's own if there are several.
func TestStageDirs(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a [b] *?") // must not be taken for a pattern
	for _, dir := range []string{"stage1_one", "stage12_twelve", "stage2_a", "stage2_b", "stage4_a", "stage4_bucketlock", "stage4_mine", "mine"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Skip(err) // Windows
		}
	}
	for _, file := range []string{"stage1_notes.txt", "stage3_threadpool"} {
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for stage, want := range map[string]string{
		"1": "stage1_one", "12": "stage12_twelve", "stage1_one": "stage1_one", "mine": "mine", "./mine": "mine", "4": "stage4_bucketlock", "stage4_mine": "stage4_mine",
		"2": "", "3": "", "-1": "", "": "", "yours": "", "stage1_notes.txt": "",
	} {
		dir, err := StageDir(root, stage)
		if want == "" && err == nil || want != "" && dir != filepath.Join(root, want) {
			t.Errorf("stage %q is in %q, %v, want %q", stage, dir, err, want)
		}
	}
	here, err := StageDir(root, "../testdata/faulty") // relative to the current directory
	if err != nil || filepath.Base(here) != "faulty" || !filepath.IsAbs(here) {
		t.Errorf("a path from here is %q, %v", here, err)
	}
}

// Programs are built where the environment says, by a path from here, too, and how it says. A
// stage may be in another module than bench is run in: grading has a checkout of its own.
func TestBuildEnvironment(t *testing.T) {
	here := t.TempDir()
	t.Chdir(here)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"go.mod": "module mine\n", "small/go.mod": "module small\n", "small/main.go": "package main\n\nfunc main() {}\n"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	flags := "-buildvcs=false -tags=mine " + benchtest.RaceFlag()
	t.Setenv("GOFLAGS", flags)
	t.Setenv("GOTMPDIR", "go")
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, "other")
	}
	for folder, sources := range map[string][]string{"go": {filepath.Join(here, "small")}, "other": nil} { // GOTMPDIR is for builds
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		b, err := New(t.Context(), sources, func(string) {})
		if err != nil {
			t.Fatalf("in %s: %v", folder, err)
		}
		if filepath.Dir(b.Dir) != filepath.Join(here, folder) || len(b.Programs) != len(sources) {
			t.Errorf("the temporary directory is %s, want one in %s; built %+v", b.Dir, folder, b.Programs)
		}
		for _, p := range b.Programs {
			if _, err := os.Stat(p.Path); err != nil || p.Built.Path != "small" || !strings.Contains(p.Built.String(), "-tags=mine\n") || b.Variables["GOFLAGS"] != flags {
				t.Errorf("%s was built with\n%v%v, error %v", p.Path, p.Built, b.Variables, err)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What is built is said before the go command is started, which takes a while at first.
func TestBuildingIsSaid(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	said := ""
	_, err := New(t.Context(), []string{"a", "b", "c", "d"}, func(what string) { said += what })
	if err == nil || !strings.HasPrefix(said, "building 4 servers (the first time ") {
		t.Errorf("without a go command: said %q, error %v, want what would be built", said, err)
	}
}

// Where programs must not be executed, the error says what to do.
func TestNotExecutable(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no permission to be executed")
	}
	b, own, _ := ownBed(t, "")
	own.Path = filepath.Join(t.TempDir(), "stage")
	if err := os.WriteFile(own.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Start(t.Context(), own, cluster.Default(), 1); err == nil || !strings.Contains(err.Error(), "set TMPDIR or GOTMPDIR") {
		t.Errorf("error %v, want that TMPDIR or GOTMPDIR can be set", err)
	}
}

// Of a program that prints without end, the first is kept.
func TestHead(t *testing.T) {
	var h head
	for range 1000 {
		if n, err := h.Write([]byte(strings.Repeat("x", 100))); n != 100 || err != nil {
			t.Fatalf("wrote %d bytes, %v, want all 100", n, err)
		}
	}
	if len(h) != 64<<10 {
		t.Errorf("%d bytes are kept, want 65536", len(h))
	}
}
