package stagetest

import (
	"bytes"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The rules that make the four stages one lecture.

const root = "../.."

var stages = []string{"stage1_singlethread", "stage2_coarselock", "stage3_threadpool", "stage4_bucketlock"}

const page = 60 // lines of code in a file of a stage

// A step is what may change from one stage to the next: the files that are the
// lesson, and how many lines of code, removed and added, it takes.
var steps = []struct {
	lesson []string
	budget int
}{
	{[]string{"server.go", "store.go"}, 25},
	{[]string{"server.go", "pool.go"}, 70},
	{[]string{"store.go"}, 45},
}

func TestStagesFitAPage(t *testing.T) {
	for _, stage := range stages {
		for _, file := range []string{"server.go", "pool.go", "store.go"} {
			if n := len(code(t, filepath.Join(root, stage, file))); n > page {
				t.Errorf("%s/%s has %d lines of code, more than a page of %d", stage, file, n, page)
			}
		}
	}
}

func TestStagesDifferByTheirLesson(t *testing.T) {
	for i, step := range steps {
		from, to := filepath.Join(root, stages[i]), filepath.Join(root, stages[i+1])
		lesson := make(map[string]bool)
		changed := 0
		for _, file := range step.lesson {
			lesson[file] = true
			changed += diff(code(t, filepath.Join(from, file)), code(t, filepath.Join(to, file)))
		}
		t.Logf("%s to %s: %d changed lines of code, of %d", stages[i], stages[i+1], changed, step.budget)
		if changed == 0 || changed > step.budget {
			t.Errorf("%s to %s changes %d lines of code, not in 1..%d", stages[i], stages[i+1], changed, step.budget)
		}
		files, err := filepath.Glob(filepath.Join(to, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			if lesson[name] || name == "doc.go" {
				continue
			}
			before, err := os.ReadFile(filepath.Join(from, name))
			if err != nil && strings.HasSuffix(name, "_test.go") {
				continue // a test of what is new
			}
			after, _ := os.ReadFile(file)
			if !bytes.Equal(before, after) {
				t.Errorf("%s differs from its namesake in %s, and is not the lesson", file, stages[i])
			}
		}
	}
}

// code is the lines of a Go file without comments and blank lines; none if there
// is no such file.
func code(t *testing.T, path string) []string {
	t.Helper()
	src, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var s scanner.Scanner
	files := token.NewFileSet()
	file := files.AddFile(path, -1, len(src))
	s.Init(file, src, nil, 0) // without comments
	var lines []string
	last := 0
	all := strings.Split(string(src), "\n")
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return lines
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue
		}
		for line := max(file.Line(pos), last+1); line <= file.Line(pos)+strings.Count(lit, "\n"); line++ {
			text, _, _ := strings.Cut(all[line-1], "//")
			lines = append(lines, strings.TrimSpace(text))
			last = line
		}
	}
}

// diff is how many lines must be removed from a and added to make it b.
func diff(a, b []string) int {
	same := make([]int, len(b)+1) // the longest common subsequence of a[:i] and b[:j]
	for _, line := range a {
		diagonal := 0
		for j := range b {
			above := same[j+1]
			if line == b[j] {
				same[j+1] = diagonal + 1
			} else {
				same[j+1] = max(above, same[j])
			}
			diagonal = above
		}
	}
	return len(a) + len(b) - 2*same[len(b)]
}

func TestDiff(t *testing.T) {
	words := strings.Fields
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a b c", "a b c", 0}, {"a b c", "a x c", 2}, {"a b", "b a", 2}, {"", "a b", 2}, {"a b a b", "b a b a", 2},
	} {
		if got := diff(words(test.a), words(test.b)); got != test.want {
			t.Errorf("diff(%s, %s) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// Everything imports only the standard library and common/, and bench its own packages.
func TestImports(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mod, []byte("require")) {
		t.Errorf("go.mod requires something:\n%s", mod)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range file.Imports {
			name := strings.Trim(imp.Path.Value, `"`)
			first, _, _ := strings.Cut(name, "/")
			inBench := strings.HasPrefix(path, filepath.Join(root, "bench")) && strings.HasPrefix(name, "lockstep/bench/")
			if strings.Contains(first, ".") || first == "lockstep" && !inBench && !strings.HasPrefix(name, "lockstep/common/") {
				t.Errorf("%s imports %s", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
