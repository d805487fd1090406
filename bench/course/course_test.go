package course

import (
	"context"
	"fmt"
	"go/ast"
	"go/build"
	"go/format"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/report"
	"lockstep/bench/stats"
	"lockstep/common/text"
)

const projectRoot = "../.."

// Each mutant of a stage's file is the mistake of one exercise, which begins with that stage.
func TestMistakesAreMutants(t *testing.T) {
	all, err := mutants(projectRoot)
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]string)
	for _, e := range exercises {
		for _, name := range e.mistakes {
			if m, known := all[name]; !known || filepath.Dir(m.file) != e.start || used[name] != "" {
				t.Errorf("%s: %q is not a mutant of %s, or also in %s", e.name, name, e.start, used[name])
			}
			used[name] = e.name
		}
	}
	count := 0
	for name, m := range all {
		if strings.HasPrefix(m.file, "stage") {
			if count++; used[name] == "" {
				t.Errorf("mutant %q of %s is in no exercise", name, m.file)
			}
		}
	}
	if count < 13 {
		t.Errorf("%d mutants of stages found, want at least 13", count)
	}
}

// writeAll writes exercises to a directory in the checkout, each under its name. It is the
// current directory of the test.
func writeAll(t *testing.T, all []exercise) (root string) {
	t.Helper()
	root, err := filepath.Abs(projectRoot)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("testdata", "written-")
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(root, "bench/course", dir)
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Chdir(dir)
	for _, e := range all {
		if err := e.write(root, "./"+e.name); err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
	}
	return root
}

// golang runs the go command for a system, and returns what it prints.
func golang(t *testing.T, system string, args ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if system == runtime.GOOS {
		args = slices.Insert(args, 1, benchtest.RaceFlag())
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(cmd.Environ(), "GOOS="+system, "GORACE=atexit_sleep_ms=0")
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// checkTypes finds what a compiler would refuse in the directories that writeAll has written, in a
// tenth of the time that the go command takes for them.
func checkTypes(t *testing.T) {
	t.Helper()
	list, err := golang(t, runtime.GOOS, "list", "-deps", "-test", "-export", "-f", "{{.ImportPath}}={{.Export}}", "lockstep/"+stage4)
	if err != nil {
		t.Fatal(list)
	}
	compiled := make(map[string]string) // files, by import path
	for line := range strings.Lines(list) {
		name, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		compiled[name] = file
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(compiled[path]) })
	dirs := make(map[string][]*ast.File)
	names, _ := filepath.Glob("*/*.go")
	for _, name := range names {
		if match, _ := build.Default.MatchFile(".", name); !match {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Error(err)
		}
		dirs[filepath.Dir(name)] = append(dirs[filepath.Dir(name)], f)
	}
	for dir, files := range dirs {
		if _, err := (&types.Config{Importer: imports}).Check(dir, fset, files, nil); err != nil {
			t.Error(err)
		}
	}
}

// All exercises compile, with their solutions, and ask for their goals. One is solved.
func TestExercises(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles programs")
	}
	root := writeAll(t, exercises)
	for _, e := range exercises {
		doc, err := os.ReadFile(filepath.Join(e.name, "doc.go"))
		if found, unknown := of(e.name); err != nil || unknown != nil || found.name != e.name {
			t.Errorf("%s is taken for %v, %v, %v", e.name, found, err, unknown)
		}
		if formatted, err := format.Source(doc); err != nil || string(formatted) != string(doc) {
			t.Errorf("%s: doc.go is not formatted, %v:\n%s", e.name, err, doc)
		}
		if test, _ := os.ReadFile(filepath.Join(e.name, "stage_test.go")); e.goal > 0 && !strings.Contains(string(test), fmt.Sprintf("stagetest.Goals(t, serve, %d)", e.goal)) {
			t.Errorf("%s does not ask for the goals of stage %d:\n%s", e.name, e.goal, test)
		}
		if strings.Contains(string(doc), "DIR") || len(e.asks) > text.Columns-9 {
			t.Errorf("%s:\n%s", e.name, doc)
		}
		if strings.HasPrefix(e.reference, five) {
			f, err := code(root, e.start, e.reference)
			if err != nil || f.write(e.name+"-solved") != nil {
				t.Fatal(err)
			}
		}
	}
	checkTypes(t)
	if os.Getenv("LOCKSTEP_SLOW") != "" {
		for _, system := range []string{"linux", "windows", "darwin"} {
			if out, err := golang(t, system, "vet", "./..."); err != nil {
				t.Errorf("vet on %s: %v\n%s", system, err, out)
			}
		}
	}
	find4, _ := find("find-4")
	solve(t, root, find4)
	if out, err := golang(t, runtime.GOOS, "test", "-vet=off", "./find-4"); err == nil || !strings.Contains(out, "half of a batch was applied") {
		t.Errorf("find-4: %v\n%s", err, out)
	}
}

// An exercise is written to a new directory of the checkout, or to one that is empty.
func TestExercise(t *testing.T) {
	fakeGo(t)
	if list, err := Exercise(t.Context(), nil); err != nil || !strings.Contains(list, "\nfive-3   a semaphore in place of workers: ") {
		t.Errorf("error %v, and the list is\n%s", err, list)
	}
	for _, test := range []struct{ name, dir, want string }{
		{"build-2", "again", "go run ./bench grade ./again\n"},
		{"build-2", "./again", "./again exists and is not an empty directory"},
		{"build-9", "new", "there is no exercise build-9"},
		{"build-2", t.TempDir(), "is not inside the Lockstep checkout"},
	} {
		said, err := Exercise(t.Context(), []string{test.name, test.dir})
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, test.want) {
			t.Errorf("exercise %s %s: said %q, want %q", test.name, test.dir, said, test.want)
		}
	}
	if grades, err := Grade(t.Context(), "bench", func(string) {}, nil); err == nil || !strings.HasPrefix(err.Error(), "which exercise is bench? ") {
		t.Errorf("what is no exercise is graded as %+v, error %v", grades, err)
	}
}

// solve does an exercise.
func solve(t *testing.T, root string, e *exercise) {
	t.Helper()
	f := make(files)
	var err error
	if e.mistakes != nil {
		f["find_test.go"], err = os.ReadFile(filepath.Join(root, filepath.Dir(five), e.name+"_test.go"))
	} else {
		f, err = code(root, e.start, e.reference)
	}
	delete(f, "doc.go") // which says that it is an exercise
	if err == nil {
		err = f.write(e.name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// An exercise as it is written keeps the promises that its start keeps, and misses its goal or its
// claim; its solution passes. Of each kind, one is graded before and after. The solutions of build
// exercises are stages, with tests of their own, and what finds a mistake is written as what finds
// another one. The claims are also held against the figures of the start, which is measured, too.
func TestGrade(t *testing.T) {
	if os.Getenv("LOCKSTEP_SLOW") == "" {
		t.Skip("slow; LOCKSTEP_SLOW=1 runs it")
	}
	t.Setenv("LOCKSTEP_SLOW", "") // what is graded is tested as a learner's is
	program := filepath.Join(t.TempDir(), "bench.exe")
	if out, err := golang(t, runtime.GOOS, "build", "-buildvcs=false", "-o", program, ".."); err != nil {
		t.Fatal(out)
	}
	root := writeAll(t, exercises)
	var compared *report.Report
	bench := func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Stdout, cmd.Stderr = stdout, stderr
		err := cmd.Run()
		if i := slices.Index(args, "-o"); i > 0 {
			compared, _ = report.Read(args[i+1]) // unread, it is graded as broken
		}
		return err
	}
	for i := range exercises {
		e := &exercises[i]
		grade := func() (_ *Grades, broken string) {
			grades, err := Grade(t.Context(), e.name, func(string) {}, bench)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("\n%v", grades)
			for _, r := range grades.Rows {
				if r.Why != "" {
					return grades, r.Promise
				}
			}
			return grades, ""
		}
		t.Run(e.name, func(t *testing.T) {
			build := strings.HasPrefix(e.name, "build")
			if build || strings.HasSuffix(e.name, "-1") {
				want := "and fails here"
				if build {
					want = fmt.Sprint("the goals of stage ", e.goal)
				} else if e.goal > 0 {
					want = e.claim.String()
				}
				grades, broken := grade()
				if grades.Passed || broken != want {
					t.Errorf("not done, it is passed: %v; %q is broken, want %q", grades.Passed, broken, want)
				}
				if build && grades.Rows[2].Cells[reference] != "holds" {
					t.Errorf("the reference misses %s", want)
				}
			}
			if build && e.reference != stage2 {
				return
			}
			solve(t, root, e)
			if grades, broken := grade(); !grades.Passed {
				t.Fatalf("done, it is not passed: %q is broken", broken)
			}
			if e.claim.says != "" && e.claim.with == before {
				start := compared.Summary[0]
				start.Ratio = &report.Ratio{Interval: stats.Interval{Low: 1, Median: 1, High: 1}} // to itself
				if e.claim.holds(start, start) {
					t.Errorf("the start is %v: %+v", e.claim, start)
				}
			}
		})
	}
}
