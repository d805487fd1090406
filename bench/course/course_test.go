package course

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/format"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/stats"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

const projectRoot = "../.."

// Each mutant of a stage's file is the mistake of one exercise, which begins with that stage.
func TestMistakesAreMutants(t *testing.T) {
	all, err := mutants(projectRoot)
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	for _, e := range exercises {
		for _, name := range e.mistakes {
			if m, known := all[name]; !known || filepath.Dir(m.file) != e.start || used[name] {
				t.Errorf("%s: %q is not a mutant of %s, or also in another exercise", e.name, name, e.start)
			}
			used[name] = true
		}
	}
	for name, m := range all {
		if strings.HasPrefix(m.file, "stage") && !used[name] {
			t.Errorf("mutant %q of %s is in no exercise", name, m.file)
		}
	}
}

// writeAll writes exercises to a directory in the checkout, each under its name. It is the
// current directory of the test.
func writeAll(t *testing.T, all []exercise) (root string) {
	t.Helper()
	root, unknown := filepath.Abs(projectRoot)
	dir, err := os.MkdirTemp("testdata", "written-")
	if err := errors.Join(unknown, err); err != nil {
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

// golang runs the go command, and returns what it prints.
func golang(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", slices.Insert(args, 1, benchtest.RaceFlag())...)
	cmd.Env = append(cmd.Environ(), "GORACE=atexit_sleep_ms=0")
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// All exercises compile, with their solutions, and ask for their goals. One is solved.
func TestExercises(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles programs")
	}
	root := writeAll(t, exercises)
	for _, e := range exercises {
		doc, err := os.ReadFile(filepath.Join(e.name, "doc.go"))
		formatted, broken := format.Source(doc)
		if err = errors.Join(err, broken); err != nil || string(formatted) != string(doc) ||
			strings.Contains(string(doc), "DIR") || len(e.asks) > text.Columns-9 {
			t.Errorf("%s: doc.go is not formatted, has DIR, or asks in too long a line (%v):\n%s", e.name, err, doc)
		}
		test, _ := os.ReadFile(filepath.Join(e.name, "stage_test.go"))
		if e.goal > 0 && !strings.Contains(string(test), fmt.Sprintf("stagetest.Goals(t, serve, %d)", e.goal)) {
			t.Errorf("%s does not ask for the goals of stage %d:\n%s", e.name, e.goal, test)
		}
		if strings.HasPrefix(e.reference, five) {
			if f, err := code(root, e.start, e.reference); err != nil || f.write(e.name+"-solved") != nil {
				t.Fatal(err)
			}
		}
	}
	if out, err := golang(t, "vet", "./..."); err != nil {
		t.Errorf("vet: %v\n%s", err, out)
	}
	find4, _ := find("find-4")
	solve(t, root, find4)
	if out, err := golang(t, "test", "-vet=off", "./find-4"); err == nil || !strings.Contains(out, "half of a batch was applied") {
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
	f, err := make(files), error(nil)
	if e.mistakes != nil {
		f["find_test.go"], err = os.ReadFile(filepath.Join(root, filepath.Dir(five), e.name+"_test.go"))
	} else {
		f, err = code(root, e.start, e.reference)
	}
	delete(f, "doc.go") // which says that it is an exercise
	if err := errors.Join(err, f.write(e.name)); err != nil {
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
	if out, err := golang(t, "build", "-buildvcs=false", "-o", program, ".."); err != nil {
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

// goScript is a go command that succeeds at once, but for the commands that it is told to fail at.
// If it is to say interrupt, it interrupts the test and does not end. Told of mistakes, it is a
// test that finds each mistake in the store of stage 2.
const goScript = `#!/bin/sh
[ "$1" = env ] && echo "{\"GOMOD\": \"$LOCKSTEP_ROOT/go.mod\"}" && exit
start="$LOCKSTEP_ROOT/stage2_coarselock"
[ "$LOCKSTEP_FAILS" = mistakes ] && [ -e "$5/find_test.go" ] && exec cmp -s "$start/store.go" "$5/store.go"
case "$*" in $LOCKSTEP_FAILS)
	printf "%b\n" "$LOCKSTEP_SAYS"
	[ "$LOCKSTEP_SAYS" = interrupt ] && kill -INT $PPID && exec sleep 60
	exit 3
esac
`

// fakeGo puts that go command into PATH, and goes to a small checkout with these exercises.
func fakeGo(t *testing.T, names ...string) (root string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	project, err := filepath.Abs(projectRoot)
	list, unread := os.ReadFile(projectRoot + "/common/stagetest/mutants_test.go")
	root = t.TempDir()
	t.Chdir(root)
	err = errors.Join(err, unread, files{"mutants_test.go": list}.write("common/stagetest"),
		files{"go": []byte(goScript), "go.mod": nil}.write("."), os.Chmod("go", 0o755))
	for _, dir := range []string{stage1, stage2, stage4, "bench"} {
		err = errors.Join(err, os.Symlink(filepath.Join(project, dir), dir))
	}
	for _, name := range names {
		e, _ := find(name)
		err = errors.Join(err, e.write(root, name))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", root+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("LOCKSTEP_ROOT", root)
	return root
}

// A fakeBench fails at one of its commands, or reports so many requests of each column.
type fakeBench struct {
	fails    string
	requests [3]int64
}

func (b *fakeBench) run(_ context.Context, args []string, stdout, _ io.Writer) error {
	if args[0] == b.fails {
		fmt.Fprintln(stdout, "the history")
		return fmt.Errorf("no %s", b.fails)
	} else if args[0] == "check" {
		return nil
	}
	cfg := cluster.Default()
	if slices.Contains(args, "-rate") {
		cfg.Workload.Rate = 2000
	}
	rep := report.New(cfg, nil, true)
	for dir := range strings.SplitSeq(args[2], ",") {
		n := b.requests[slices.Index(columns[:], filepath.Base(dir))]
		r := &load.Result{Dur: time.Second, ServerCPU: time.Second / 10}
		r.Connections, r.Requests, r.OK = 8, n, n
		r.ResponseTimes.Record(time.Second / time.Duration(max(n, 1)))
		if cfg.Workload.Rate > 0 {
			load.Record(&r.Slips, time.Second) // which makes the report invalid
		}
		rep.Stages = append(rep.Stages, filepath.Base(dir))
		rep.Add(filepath.Base(dir), 1, r)
	}
	content, err := rep.JSON()
	if err == nil && !strings.HasPrefix(rep.Verdict, "ok") {
		err = errors.New("bench says: " + rep.Verdict)
	}
	return errors.Join(err, os.WriteFile(args[slices.Index(args, "-o")+1], content, 0o666))
}

// graded grades an exercise, with the go command at fault. It returns the cells, row by row, and
// what is wrong.
func graded(t *testing.T, name, fails, says string, bench Bench) (cells, why string) {
	t.Helper()
	t.Setenv("LOCKSTEP_FAILS", fails)
	t.Setenv("LOCKSTEP_SAYS", says)
	grades, err := Grade(t.Context(), "./"+name, func(string) {}, bench)
	if err != nil {
		return "", err.Error()
	}
	for _, r := range grades.Rows {
		cells, why = cells+", "+short.Replace(strings.Join(r.Cells[:], " ")), why+r.Why
	}
	if grades.Passed != (why == "") {
		t.Errorf("%s is passed: %v, and wrong is %q", name, grades.Passed, why)
	}
	return strings.TrimPrefix(cells, ", "), why
}

var short = strings.NewReplacer("holds", "h", "broken", "b")

// What is handed in keeps each promise, up to the first that is broken, and nothing is tried then. The
// claim is judged in a report that is ok, or invalid, by the figures that the load is about.
func TestGradeStage(t *testing.T) {
	fakeGo(t, "build-2", "five-1", "five-4")
	benchtest.EmptyFolder(t)
	goroutines := strings.Repeat("\na goroutine", 20)
	const late = "invalid: before, round 1: the client was late although a connection was free: by 1.00s at p99, " +
		"in a response time of 2.00ms (stop other programs on this machine, or lower -rate)"
	const tested, held = "h - -, h - -, h h h, ", "h - -, h - -, h h h, h - -, h - -, " // before bench check, and before the claim
	does := func(mine, start, solution int64) fakeBench {
		return fakeBench{requests: [3]int64{mine, start, solution}}
	}
	for _, test := range []struct {
		exercise, fails, says string // of the go command
		bench                 fakeBench
		cells, why            string
	}{
		{"build-2", "vet -trimpath ./yours", "# lockstep/yours\n\nyours/a.go:7: dead code", fakeBench{},
			"b - -, - - -, - - -, - - -, - - -, - - -", "yours/a.go:7: dead code"},
		{"build-2", "test -trimpath -race -count=1 -run=TestStage ./yours", "--- FAIL\npanic: \\033[2J" + goroutines, fakeBench{},
			"h - -, b - -, - - -, - - -, - - -, - - -", `panic: \x1b[2J` + goroutines[:len(goroutines)*11/20]},
		{"build-2", "test*TestStage ./yours", "FAIL", fakeBench{}, "h - -, b - -, - - -, - - -, - - -, - - -", "exit status 3"},
		{"build-2", "test -trimpath -count=1 -run=TestGoals ./yours", "alone", fakeBench{},
			"h - -, h - -, b h h, - - -, - - -, - - -", "alone"},
		{"build-2", "", "", fakeBench{fails: "check"}, tested + "b - -, - - -, - - -", "no check\nthe history"},
		{"build-2", "test -trimpath -count=1 -tags=interleave -run=TestEvery ./yours", "stuck", fakeBench{},
			tested + "h - -, b - -, - - -", "stuck"},
		{"build-2", "test*TestGoals ./before", "alone", does(1000, 500, 800),
			"h - -, h - -, h b h, h - -, h - -, 1 000/s 500/s 800/s, h - -", ""},
		{"build-2", "", "", does(1000, 500, 2000), held + "1 000/s 500/s 2 000/s, b - -", "0.500 times; CPU time 2.00; ok"},
		{"build-2", "", "", does(0, 500, 1000), held + "b - -", "bench says: failed: yours, round 1: no request was answered"},
		{"build-2", "", "", fakeBench{fails: "compare"}, held + "b - -", "no compare"},
		{"five-1", "*interleave*", "", does(1000, 500, 800), tested + "h - -, 1 000/s 500/s 800/s, h - -", ""},
		{"five-4", "", "", does(1000, 500, 800), held + "1.00ms 2.00ms 1.25ms, h - -", ""},
		{"five-4", "", "", does(500, 500, 500), held + "2.00ms 2.00ms 2.00ms, b - -", "no difference shown; CPU time 1.00; " + late},
	} {
		cells, why := graded(t, test.exercise, test.fails, test.says, test.bench.run)
		if cells != test.cells || why != test.why {
			t.Errorf("%s, go fails at %q, bench is %+v: %s, wrong is %q, want %s and %q",
				test.exercise, test.fails, test.bench, cells, why, test.cells, test.why)
		}
	}
}

// What is graded is the code that was handed in with the tests of the project, beside the start and
// the reference, with the learner's common packages.
func TestGradersCheckout(t *testing.T) {
	root := fakeGo(t, "build-2")
	for _, name := range []string{"server.go", "stage_test.go"} {
		if err := os.WriteFile("build-2/"+name, []byte("package main // mine\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	inCheckout := regexp.MustCompile(`[^ ,]*/checkout/`)
	var asked []string
	bench := func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		all := strings.Join(args, " ")
		asked = append(asked, inCheckout.ReplaceAllString(all, ""))
		for name, from := range map[string]string{
			"go.mod": "ROOT/go.mod", "common/stagetest/mutants_test.go": "ROOT/common/stagetest/mutants_test.go",
			"yours/server.go": "build-2/server.go", "yours/stage_test.go": "ROOT/stage2_coarselock/stage_test.go",
			"before/server.go": "ROOT/stage1_singlethread/server.go", "reference/server.go": "ROOT/stage2_coarselock/server.go",
		} {
			got, err := os.ReadFile(inCheckout.FindString(all) + name)
			want, unread := os.ReadFile(strings.Replace(from, "ROOT", root, 1))
			if err := errors.Join(err, unread); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is not %s, error %v:\n%s", name, from, err, got)
			}
		}
		return (&fakeBench{requests: [3]int64{1, 1, 1}}).run(ctx, args, stdout, stderr)
	}
	var tried []string
	grades, err := Grade(t.Context(), "build-2", func(what string) { tried = append(tried, what) }, bench)
	if err != nil || !strings.HasSuffix(grades.String(), "\n\nbuild-2, build-2: passed\n") ||
		!slices.Contains(tried, "the goals of stage 2: before") {
		t.Errorf("graded as\n%v\nerror %v, and it said %q", grades, err, tried)
	}
	const want = "check -faults -duration 5s -stages yours; " +
		"compare -stages reference,yours,before -duration 500ms -o compared.json -c 8"
	if got := strings.Join(asked, "; "); got != want {
		t.Errorf("bench was asked for %s, want %s", got, want)
	}
}

// A test that was handed in passes on the start, fails on each mistake, and is the learner's own.
func TestGradeTest(t *testing.T) {
	fakeGo(t, "find-1")
	const test = "package main\n"
	for _, step := range []struct{ test, fails, cells, why string }{
		{test, "mistakes", "h - -, h - -, h - -", ""},
		{test, "test -trimpath -race -count=1 ./try0", "b - -, - - -, - - -", "too strict"},
		{test, "", "h - -, b - -, - - -", "the test passes there, too"},
		{test, "*/try1", "h - -, h - -, b - -", "the test passes there, too"},
		{test + "func TestSpecimenUnlockedTable(t *testing.T) {}\n", "mistakes", "",
			"./find-1 has TestSpecimenUnlockedTable of specimen_test.go: write a test of your own"},
		{test + "var all = stagetest.Run\n", "mistakes", "", "./find-1 uses stagetest.Run: write a test of your own"},
	} {
		if err := os.WriteFile("find-1/find_test.go", []byte(step.test), 0o666); err != nil {
			t.Fatal(err)
		}
		if cells, why := graded(t, "find-1", step.fails, "too strict", nil); cells != step.cells || why != step.why {
			t.Errorf("a test that fails at %q: %s, wrong is %q, want %s and %q", step.fails, cells, why, step.cells, step.why)
		}
	}
}

// Ctrl-C ends what is tried, and leaves nothing.
func TestGradeInterrupted(t *testing.T) {
	fakeGo(t, "build-2")
	benchtest.EmptyFolder(t)
	t.Setenv("LOCKSTEP_FAILS", "vet*")
	t.Setenv("LOCKSTEP_SAYS", "interrupt")
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	grades, err := Grade(ctx, "build-2", func(string) {}, nil)
	if want := "interrupt\n" + context.Cause(ctx).Error(); !errors.Is(err, context.Canceled) || grades.Rows[0].Why != want {
		t.Errorf("error %v, and %q in %+v", err, want, grades)
	}
}

// Each try has its own time. What takes longer is broken, and the text says why.
func TestGradingTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &grader{say: func(string) {}, grades: Grades{Exercise: "build-2", Dir: "./mine", Passed: true}}
		hang := func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return fmt.Errorf("stuck\n%w", context.Cause(ctx))
		}
		began := time.Now()
		g.try(t.Context(), time.Minute, "answers", hang, "yours", "before")
		const want = `promise   yours  before  reference
answers  broken  broken          -

answers:
    stuck
    took longer than 1m0s

./mine, build-2: not passed
`
		if got, took := g.grades.String(), time.Since(began); got != want || took != 2*time.Minute {
			t.Errorf("after %v:\n%s\nwant after 2m0s\n%s", took, got, want)
		}
	})
}

// What each claim asks for, on either side of its limit.
func TestClaims(t *testing.T) {
	figures := func(ratio, cpu, held, p99 float64) report.Summary {
		between := stats.Interval{Low: ratio - .3, Median: ratio, High: ratio + .3}
		s := report.Summary{Ratio: &report.Ratio{Interval: between}, P99: stats.Interval{Median: p99}}
		s.ServerCPUPerRequest, s.LockHeld = cpu, held
		return s
	}
	other := figures(1, 100, .5, 100)
	for _, test := range []struct {
		name       string
		holds, not report.Summary
	}{
		{"build-2", figures(.61, 200, .5, 200), figures(.59, 50, 0, 50)},
		{"five-1", figures(1.51, 200, .5, 200), figures(1.49, 50, 0, 50)},
		{"five-2", figures(.51, 200, 0, 200), figures(.49, 50, 0, 50)},
		{"five-2", figures(2, 50, 0, 50), figures(2, 50, .01, 50)}, // it takes no lock
		{"five-3", figures(.5, 79, .5, 200), figures(2, 81, 0, 50)},
		{"five-4", figures(.5, 200, .5, 79), figures(2, 50, 0, 81)},
	} {
		e, _ := find(test.name)
		if !e.claim.holds(test.holds, other) || e.claim.holds(test.not, other) {
			t.Errorf("%s: want that %q holds for %+v and not for %+v", test.name, e.claim, test.holds, test.not)
		}
	}
}
