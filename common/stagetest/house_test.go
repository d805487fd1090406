package stagetest

import (
	"bytes"
	"cmp"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The rules of the project: what the stages have in common, who imports whom, and how
// large things may be.

const root = "../.."

var stages = []string{"stage1_singlethread", "stage2_coarselock", "stage3_threadpool", "stage4_bucketlock"}

// steps are what may change from one stage to the next: the files of the lesson, and how
// many lines of code are removed or added in them.
var steps = []struct {
	lesson []string
	budget int
}{
	{[]string{"server.go", "store.go"}, 25},
	{[]string{"server.go", "pool.go"}, 70},
	{[]string{"store.go"}, 45},
}

func TestStagesDifferByTheirLesson(t *testing.T) {
	for i, step := range steps {
		from, to := filepath.Join(root, stages[i]), filepath.Join(root, stages[i+1])
		changed := 0
		for _, file := range step.lesson {
			changed += diff(codeLines(t, filepath.Join(from, file)), codeLines(t, filepath.Join(to, file)))
		}
		t.Logf("%s to %s: %d changed lines of code, of %d", stages[i], stages[i+1], changed, step.budget)
		if changed == 0 || changed > step.budget {
			t.Errorf("%s to %s changes %d lines of code, want 1 to %d", stages[i], stages[i+1], changed, step.budget)
		}
		files, err := filepath.Glob(filepath.Join(to, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			if slices.Contains(step.lesson, name) || name == "doc.go" {
				continue
			}
			before, err := os.ReadFile(filepath.Join(from, name))
			if err != nil && strings.HasSuffix(name, "_test.go") {
				continue // a new test
			}
			after, _ := os.ReadFile(file)
			if !bytes.Equal(before, after) {
				t.Errorf("%s is not part of the lesson, but differs from the same file in %s", file, stages[i])
			}
		}
	}
}

// codeLines returns the lines of a Go file without comments and blank lines, or nil if there is
// no such file.
func codeLines(t *testing.T, path string) (lines []string) {
	t.Helper()
	src, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(src)) {
		code, _, _ := strings.Cut(line, "//")
		if code = strings.TrimSpace(code); code != "" {
			lines = append(lines, code)
		}
	}
	return lines
}

// diff returns how many lines must be removed and added to turn a into b.
func diff(a, b []string) int {
	same := make([]int, len(b)+1) // by j: the length of the longest common subsequence of a and b[:j]
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

// order lists the packages so that each one imports only packages above it. Stages import
// common, and neither bench nor each other.
var order = []string{
	"common/text", "common/wire", "common/metrics", "common/cluster", "common/control", "common/table",
	"common/barrier", "common/client", "common/node", "common/lincheck", "common/faults", "common/stagetest",

	"bench/stats", "bench/figure", "bench/workload", "bench/load", "bench/ports", "bench/testbed", "bench/yardstick",
	"bench/experiment", "bench/report", "bench/page", "bench/check", "bench/tour", "bench/notes", "bench/course",
	"bench/benchtest", "bench",
}

// mayImport reports whether code in one package may import another, ours or not.
func mayImport(from, to string) bool {
	ours, isOurs := strings.CutPrefix(to, "lockstep/")
	if !isOurs {
		first, _, _ := strings.Cut(to, "/")
		return !strings.Contains(first, ".") // the standard library
	}
	if tree, _, _ := strings.Cut(from, "/"); tree != "common" && tree != "bench" { // a stage
		return strings.HasPrefix(ours, "common/")
	}
	place := slices.Index(order, ours)
	return place >= 0 && place < slices.Index(order, from)
}

// goFiles calls f for each Go file below a directory that is not a test, with the
// directory of its package.
func goFiles(t *testing.T, dir string, f func(pkg, path string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == "testdata" {
			return cmp.Or(err, fs.SkipDir)
		}
		if !d.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			pkg, _ := filepath.Rel(dir, filepath.Dir(path))
			f(filepath.ToSlash(pkg), path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// badImports returns the imports below a directory that break the rules.
func badImports(t *testing.T, dir string) (bad []string) {
	t.Helper()
	if mod, _ := os.ReadFile(filepath.Join(dir, "go.mod")); bytes.Contains(mod, []byte("require")) {
		bad = append(bad, "go.mod requires a module")
	}
	goFiles(t, dir, func(pkg, path string) {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if to := strings.Trim(spec.Path.Value, `"`); !mayImport(pkg, to) {
				bad = append(bad, pkg+" imports "+to)
			}
		}
	})
	return bad
}

func TestImports(t *testing.T) {
	for _, bad := range badImports(t, root) {
		t.Error(bad)
	}
	// These trees prove that the rules catch an import upward, and the other violations.
	for _, test := range []struct {
		file, imports string
		bad           bool
	}{
		{"common/wire/conn.go", "lockstep/common/client", true},
		{"common/node/main.go", "lockstep/bench/load", true},
		{"common/util/util.go", "lockstep/common/text", true},
		{"bench/stats/stats.go", "lockstep/bench/load", true},
		{"bench/load/load.go", "lockstep/bench", true},
		{"stage2_coarselock/server.go", "lockstep/stage1_singlethread", true},
		{"stage2_coarselock/server.go", "lockstep/bench/load", true},
		{"common/text/text.go", "golang.org/x/text/width", true},
		{"go.mod", "golang.org/x/text v0.3.0", true},
		{"bench/load/load.go", "lockstep/common/client", false},
		{"bench/load/load.go", "lockstep/bench/workload", false},
		{"mine/server.go", "lockstep/common/node", false},
		{"mine/server.go", "net/http", false},
	} {
		path := filepath.Join(t.TempDir(), filepath.FromSlash(test.file))
		source := "package p\n\nimport _ \"" + test.imports + "\"\n"
		if test.file == "go.mod" {
			source = "module lockstep\n\nrequire " + test.imports + "\n"
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(source), 0o666)); err != nil {
			t.Fatal(err)
		}
		dir := strings.TrimSuffix(filepath.ToSlash(path), test.file)
		if bad := badImports(t, dir); (len(bad) > 0) != test.bad {
			t.Errorf("%s imports %s: found %q, want an error: %v", test.file, test.imports, bad, test.bad)
		}
	}
}

// Limits of size. A line of code is one that is neither blank nor a comment.
const (
	fileLines    = 280
	page         = 60   // a file of a stage
	packageLines = 1150 // of bench
	packageFiles = 12   // of bench
)

func TestSizes(t *testing.T) {
	lines, files := make(map[string]int), make(map[string]int)
	goFiles(t, root, func(pkg, path string) {
		n := len(codeLines(t, path))
		lines[pkg] += n
		files[pkg]++
		most := fileLines
		if slices.Contains(stages, pkg) {
			most = page
		}
		if n > most {
			t.Errorf("%s has %d lines of code, want at most %d", path, n, most)
		}
	})
	for pkg, n := range lines {
		if inBench := strings.HasPrefix(pkg+"/", "bench/"); inBench && (n > packageLines || files[pkg] > packageFiles) {
			t.Errorf("%s has %d lines of code in %d files, want at most %d in %d", pkg, n, files[pkg], packageLines, packageFiles)
		}
	}
}
