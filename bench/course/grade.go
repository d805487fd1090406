package course

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"lockstep/bench/report"
	"lockstep/bench/testbed"
	"lockstep/common/text"
)

// Grades say what was tried and what came out.
type Grades struct {
	Exercise string `json:"exercise"`
	Dir      string `json:"dir"`
	Rows     []Row  `json:"rows"`
	Passed   bool   `json:"passed"`
}

// A Row has a promise, or a figure, of what was handed in, of the stage before, and of a solution.
type Row struct {
	Promise string    `json:"promise"`
	Cells   [3]string `json:"yours_before_reference"` // "-": not tried
	Why     string    `json:"why,omitempty"`          // yours is broken
}

// The columns, which are also directories of the grader's checkout, and of programs.
var columns = [3]string{"yours", "before", "reference"}

const yours, before, reference = 0, 1, 2

// String returns a table, what is wrong, and the verdict.
func (g *Grades) String() string {
	rows, why, verdict := [][]string{append([]string{"promise"}, columns[:]...)}, "", "passed"
	for _, r := range g.Rows {
		rows = append(rows, append([]string{r.Promise}, r.Cells[:]...))
		if r.Why != "" {
			why += fmt.Sprintf("\n%s:\n    %s\n", r.Promise, strings.ReplaceAll(r.Why, "\n", "\n    "))
		}
	}
	if !g.Passed {
		verdict = "not passed"
	}
	return fmt.Sprintf("%s%s\n%s, %s: %s\n", text.Table(rows), why, g.Dir, g.Exercise, verdict)
}

// A grader works in a checkout of its own, which has the common packages of the learner's.
type grader struct {
	*exercise
	root   string       // the learner's checkout
	bed    *testbed.Bed // has that of the grader
	say    func(what string)
	bench  Bench
	grades Grades
}

// Bench runs a command of bench.
type Bench func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// Grade grades what is in a directory, up to the first promise that is broken. It builds and runs
// that code. It calls say with what it is doing.
func Grade(ctx context.Context, dir string, say func(what string), bench Bench) (_ *Grades, err error) {
	e, unknown := of(dir)
	root, outside := testbed.Root(ctx)
	if err = cmp.Or(unknown, outside); err != nil {
		return nil, err
	}
	bed, err := testbed.New(ctx, nil, say)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	g := &grader{e, root, bed, say, bench, Grades{e.name, dir, nil, true}}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	err = errors.Join(err, files{"go.mod": mod}.write(g.at(".")), os.CopyFS(g.at("common"), os.DirFS(filepath.Join(root, "common"))))
	if err == nil && e.mistakes != nil {
		err = g.gradeTest(ctx, dir)
	} else if err == nil {
		err = g.gradeStage(ctx, dir)
	}
	return &g.grades, cmp.Or(ctx.Err(), err)
}

// at returns the path of a directory of the checkout.
func (g *grader) at(dir string) string { return filepath.Join(g.bed.Dir, "checkout", dir) }

// try adds a row for a promise. If all promises so far held, it tries this one in the directories,
// each for a limited time. The first of them has what was handed in.
func (g *grader) try(ctx context.Context, limit time.Duration, promise string, try func(ctx context.Context, dir string) error, dirs ...string) {
	r := Row{Promise: promise, Cells: [3]string{"-", "-", "-"}}
	for i, held := 0, g.grades.Passed; held && i < len(dirs) && ctx.Err() == nil; i++ {
		g.say(promise + ": " + dirs[i])
		within, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("took longer than %v", limit))
		err := try(within, dirs[i])
		cancel()
		if r.Cells[i] = "holds"; err != nil {
			r.Cells[i] = "broken"
		}
		if err != nil && i == yours {
			r.Why, g.grades.Passed = strings.TrimSpace(err.Error()), false
		}
	}
	g.grades.Rows = append(g.grades.Rows, r)
}

// gradeStage grades the code of a stage.
func (g *grader) gradeStage(ctx context.Context, dir string) error {
	handedIn, err := code("", dir)
	start, unread := code(g.root, g.start)
	solution, missing := code(g.root, g.start, g.reference)
	for i, f := range []files{handedIn, start, solution} {
		err = errors.Join(err, unread, missing, f.addTests(g.root, g.exercise), f.write(g.at(columns[i])))
	}
	if err != nil {
		return err
	}
	mine := columns[yours]
	g.try(ctx, 3*time.Minute, "go vet", g.golang("vet"), mine)
	g.try(ctx, 3*time.Minute, "every promise, with the race detector", g.golang("test", "-race", "-count=1", "-run=TestStage"), mine)
	g.try(ctx, time.Minute, fmt.Sprintf("the goals of stage %d", g.goal), g.golang("test", "-count=1", "-run=TestGoals"), columns[:]...)
	g.try(ctx, time.Minute, "linearizable, in spite of faults", func(ctx context.Context, dir string) error {
		var out strings.Builder
		if err := g.bench(ctx, []string{"check", "-faults", "-duration", "5s", "-stages", g.at(dir)}, &out, io.Discard); err != nil {
			return fmt.Errorf("%w\n%s", err, out.String())
		}
		return nil
	}, mine)
	if !g.unseen {
		g.try(ctx, 2*time.Minute, "every interleaving", g.golang("test", "-count=1", "-tags=interleave", "-run=TestEvery"), mine)
	}
	g.try(ctx, 3*time.Minute, g.claim.says+" "+columns[g.claim.with], g.compare, mine)
	return nil
}

// compare measures all columns in the same rounds, adds a row with their figures, and returns an
// error if the claim does not hold.
func (g *grader) compare(ctx context.Context, _ string) error {
	c, file := g.claim, g.at("compared.json")
	stages := g.at(columns[c.with]) + "," + g.at(columns[yours]) + "," + g.at(columns[before+reference-c.with])
	failed := g.bench(ctx, append([]string{"compare", "-stages", stages, "-duration", "500ms", "-o", file}, strings.Fields(g.load)...), io.Discard, io.Discard)
	rep, err := report.Read(file)
	if err != nil || !strings.HasPrefix(rep.Verdict, "ok") && !strings.HasPrefix(rep.Verdict, "invalid") {
		return cmp.Or(failed, err)
	}
	r := Row{Promise: "with " + g.load}
	for _, s := range rep.Summary {
		cell := &r.Cells[slices.Index(columns[:], s.Stage)]
		if *cell = text.Sig3(s.OpsPerSecond.Median) + "/s"; rep.Config.Workload.Rate > 0 {
			*cell = text.Duration(time.Duration(s.P99.Median))
		}
	}
	g.grades.Rows = append(g.grades.Rows, r)
	if mine, other := rep.Summary[1], rep.Summary[0]; !c.holds(mine, other) {
		return fmt.Errorf("%v; CPU time %s; %s", mine.Ratio, text.Sig3(mine.ServerCPUPerRequest/other.ServerCPUPerRequest), rep.Verdict)
	}
	return nil
}

// answers are what finds all mistakes, and the heads of tests, which a stage may have, too.
var answers, heads = regexp.MustCompile(`stagetest\.(Run|Goals|Interleave)\b`), regexp.MustCompile(`func Test\w+\(t `)

// gradeTest grades the test of a find exercise.
func (g *grader) gradeTest(ctx context.Context, dir string) error {
	test, err := os.ReadFile(filepath.Join(dir, "find_test.go"))
	if used := answers.Find(test); used != nil {
		return fmt.Errorf("%s uses %s: write a test of your own", dir, used)
	}
	own, _ := filepath.Glob(filepath.Join(g.root, g.start, "*_test.go")) // a constant pattern
	for _, file := range own {
		stage, unread := os.ReadFile(file)
		err = errors.Join(err, unread)
		for _, head := range heads.FindAll(test, -1) {
			if bytes.Contains(stage, head) {
				return fmt.Errorf("%s has %s of %s: write a test of your own", dir, head[len("func "):len(head)-len("(t ")], filepath.Base(file))
			}
		}
	}
	passes := g.golang("test", "-race", "-count=1")
	fails := func(ctx context.Context, dir string) error {
		if passes(ctx, dir) != nil {
			return nil
		}
		return errors.New("the test passes there, too")
	}
	promises := [...]string{"the test passes on " + g.start, "and fails here", "and on another mistake of the kind"}
	for i, mistake := range append([]string{""}, g.mistakes...) {
		name, try := fmt.Sprint("try", i), passes
		f, unread := code(g.root, g.start)
		if i > 0 {
			try, unread = fails, errors.Join(unread, f.spoil(g.root, mistake))
		}
		f["find_test.go"] = test
		if err = errors.Join(err, unread, f.write(g.at(name))); err != nil {
			return err
		}
		g.try(ctx, 3*time.Minute, promises[i], try, name)
	}
	return nil
}

// golang returns a function that runs the go command on a directory. Its error has the first
// lines that say more than which test failed.
func (g *grader) golang(args ...string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		// With -trimpath, what was compiled for another checkout is not compiled again.
		out, err := g.bed.Go(ctx, g.at("."), slices.Concat(args[:1], []string{"-trimpath"}, args[1:], []string{"./" + dir})...)
		if err == nil {
			return nil
		}
		var why []string
		for line := range bytes.Lines(out) {
			if !noise.Match(line) && len(why) < 12 {
				why = append(why, text.Printable(string(line)))
			}
		}
		if ctx.Err() != nil || why == nil {
			why = append(why, err.Error())
		}
		return errors.New(strings.Join(why, ""))
	}
}

var noise = regexp.MustCompile(`^\s*(--- FAIL|FAIL|# |exit status|go vet finds|$)`)
