// Package course has the exercises of the course: it writes them, as directories that build and
// miss their goal, and grades what was made of them. Grading runs the code that was handed in.
package course

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lockstep/bench/report"
	"lockstep/bench/testbed"
	"lockstep/common/text"
)

// An exercise begins with the code of a stage.
type exercise struct {
	name, asks, start string // start: the directory of that stage

	mistakes []string // find: the names of mutants; the first is in the code

	goal      int    // build and five: the stage whose goals it reaches
	reference string // the directory of a solution, or of the files in which that differs from start
	load      string // flags of bench compare
	claim     claim  // about that comparison
	unseen    bool   // the interleavings are not tried: the scheduler sees only a metrics.Mutex
}

const stage1, stage2, stage3, stage4 = "stage1_singlethread", "stage2_coarselock", "stage3_threadpool", "stage4_bucketlock"

const five, finds = "bench/course/testdata/five-", "which promise is broken? Write the test that shows it"

// A claim compares what was handed in with another column, in the same rounds. So it asks for no
// time that depends on the machine.
type claim struct {
	with  int // that column
	says  string
	holds func(mine, other report.Summary) bool // mine.Ratio is that to other
}

func (c claim) String() string { return c.says + " " + columns[c.with] }

// A solution that is not shown to be slower passes.
var notSlower = claim{reference, "not slower than", func(mine, other report.Summary) bool { return mine.Ratio.High > .9 }}

// Between what a claim asks for and what the reference does is a margin for a busy machine.
var exercises = []exercise{
	{name: "build-2", asks: "serve all clients at the same time", start: stage1,
		goal: 2, reference: stage2, load: "-c 8", claim: notSlower},
	{name: "build-3", asks: "bound the work in progress, and say Busy in time", start: stage2,
		goal: 3, reference: stage3, load: "-c 8", claim: notSlower},
	{name: "build-4", asks: "many locks in place of one, and batches still atomic", start: stage3,
		goal: 4, reference: stage4, load: "-work 1ms", claim: notSlower},

	{name: "find-1", asks: finds, start: stage2, mistakes: []string{"stage 2 locks writes alone", "stage 2 without its lock"}},
	{name: "find-2", asks: finds, start: stage4, mistakes: []string{"stage 4 with unsorted locks"}},
	{name: "find-3", asks: finds, start: stage4, mistakes: []string{"stage 4 locks one bucket of several"}},
	{name: "find-4", asks: finds, start: stage4, mistakes: []string{"stage 4 one bucket at a time"}},
	{name: "find-5", asks: finds, start: stage4, mistakes: []string{"one hash for node and bucket", "stage 4 with a negative index"}},
	{name: "find-6", asks: finds, start: stage3, mistakes: []string{"an unbounded queue", "jobs on the connection's goroutine"}},
	{name: "find-7", asks: finds, start: stage3, mistakes: []string{"a refusal while a worker is free"}},
	{name: "find-8", asks: finds, start: stage3, mistakes: []string{"a worker that writes", "a pool whose job is the connection"}},
	{name: "find-9", asks: finds, start: stage4, mistakes: []string{"locks that a panic leaves held"}},

	{name: "five-1", asks: "requests that only read do not wait for each other", start: stage2, unseen: true,
		goal: 2, reference: five + "1", load: "-work 1ms -mix get=95,put=5", claim: claim{before, "1.5 times as fast as",
			func(mine, other report.Summary) bool { return mine.Ratio.Median > 1.5 }}},
	{name: "five-2", asks: "a goroutine owns each bucket: no lock is taken", start: stage4, unseen: true,
		goal: 4, reference: five + "2", load: "-work 1ms", claim: claim{before, "without a lock, and not slower than",
			func(mine, other report.Summary) bool { return mine.LockHeld == 0 && mine.Ratio.High > .8 }}},
	{name: "five-3", asks: "a semaphore in place of workers: faster for a lone client", start: stage4,
		goal: 4, reference: five + "3", load: "-c 1", claim: claim{before, "done with .8 of the server's CPU time",
			func(mine, other report.Summary) bool { return mine.ServerCPUPerRequest < .8*other.ServerCPUPerRequest }}},
	{name: "five-4", asks: "a better no: refuse what has waited for too long", start: stage4,
		goal: 4, reference: five + "4", load: "-work 10ms -rate 2000 -c 200 -noretry", claim: claim{before, "at p99 in .8 of the time",
			func(mine, other report.Summary) bool { return mine.P99.Median < .8*other.P99.Median }}},
}

// Exercise lists the exercises, or writes the one that args name, to the directory that they name
// or to ./NAME. It returns what there is to say.
func Exercise(ctx context.Context, args []string) (string, error) {
	if len(args) == 0 {
		list := ""
		for _, e := range exercises {
			list += fmt.Sprintf("%-8s %s\n", e.name, e.asks)
		}
		return list + "\nbench exercise NAME writes one to ./NAME, and bench grade ./NAME grades it.\n", nil
	}
	e, unknown := find(args[0])
	root, outside := testbed.Root(ctx)
	if err := cmp.Or(unknown, outside); err != nil {
		return "", err
	}
	dir := filepath.ToSlash(filepath.Clean(append(args, e.name)[1]))
	if !filepath.IsAbs(dir) && !strings.HasPrefix(dir, "../") {
		dir = "./" + dir // go takes other names for packages of its library
	}
	if err := e.write(root, dir); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %s\n\n    go doc %s\n    go test %s\n    go run ./bench grade %s\n", e.name, e.asks, dir, dir, dir), nil
}

func find(name string) (*exercise, error) {
	if i := slices.IndexFunc(exercises, func(e exercise) bool { return e.name == name }); i >= 0 {
		return &exercises[i], nil
	}
	return nil, fmt.Errorf("there is no exercise %s: bench exercise lists them", text.Quote(name, 40))
}

var marker = regexp.MustCompile(`(?m)^// Exercise (\S+): `)

// of returns the exercise that a directory was written for, as the doc.go in it says.
func of(dir string) (*exercise, error) {
	doc, err := os.ReadFile(filepath.Join(dir, "doc.go"))
	if found := marker.FindSubmatch(doc); err == nil && found != nil {
		return find(string(found[1]))
	}
	return nil, fmt.Errorf("which exercise is %s? A line of its doc.go begins as in %q", dir, "// Exercise build-2: ")
}

// write writes the exercise to a directory inside root that is new or empty.
func (e *exercise) write(root, dir string) error {
	path, err := filepath.Abs(dir)
	rel, outside := filepath.Rel(root, path)
	if err = errors.Join(err, outside); err != nil || !filepath.IsLocal(rel) {
		return errors.Join(err, fmt.Errorf("%s is not inside the Lockstep checkout, %s: its imports would not be found", dir, root))
	}
	if old, err := os.ReadDir(dir); len(old) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s exists and is not an empty directory: name another one", dir))
	}
	f, err := code(root, e.start)
	if err == nil && e.mistakes != nil {
		err = f.spoil(root, e.mistakes[0])
		f["find_test.go"] = []byte(strings.ReplaceAll(problem("find_test"), "STAGE", e.start))
	} else if err == nil {
		err = f.addTests(root, e)
	}
	f["doc.go"] = e.doc(dir)
	if err != nil {
		return err
	}
	return f.write(dir)
}

//go:embed problems
var problems embed.FS

func problem(name string) string {
	content, _ := problems.ReadFile("problems/" + name + ".txt") // each has one
	return string(content)
}

// doc returns the doc.go of the exercise in a directory.
func (e *exercise) doc(dir string) []byte {
	doc := problem("find")
	if e.mistakes == nil {
		doc = problem(e.name) + fmt.Sprintf("\nTo pass, it reaches the goals of stage %d, and is %v, in\n\n\tgo run ./bench compare -stages %s,DIR %s\n", e.goal, e.claim, e.start, e.load)
	}
	doc = strings.ReplaceAll(fmt.Sprintf("Exercise %s: %s.\n\n%s", e.name, e.asks, doc), "DIR", dir)
	return []byte("// " + strings.NewReplacer("\n\n\t", "\n//\n//\t", "\n\n", "\n//\n// ", "\n", "\n// ").Replace(strings.TrimSpace(doc)) + "\npackage main\n")
}

// Files are the files of a directory, by their names.
type files map[string][]byte

// code returns the code of the stage in a directory: its Go files, without the tests. Where several
// directories have a file of the same name, that of the last one counts.
func code(root string, dirs ...string) (files, error) {
	f, failed := make(files), error(nil)
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		failed = errors.Join(failed, err)
		for _, entry := range entries {
			if name := entry.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
				f[name], err = os.ReadFile(filepath.Join(root, dir, name))
				failed = errors.Join(failed, err)
			}
		}
	}
	return f, failed
}

// addTests adds the tests of stage 4, which are those of all stages, but for the number of goals.
func (f files) addTests(root string, e *exercise) error {
	test, err := os.ReadFile(filepath.Join(root, stage4, "stage_test.go"))
	f["stage_test.go"] = bytes.Replace(test, []byte("serve, 4)"), fmt.Appendf(nil, "serve, %d)", e.goal), 1)
	if err == nil && !e.unseen {
		f["interleave_test.go"], err = os.ReadFile(filepath.Join(root, stage4, "interleave_test.go"))
	}
	return err
}

func (f files) write(dir string) error {
	err := os.MkdirAll(dir, 0o777)
	for name, content := range f {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o666))
	}
	return err
}

// A mutant is an edit that breaks a promise.
type mutant struct{ file, old, new string }

// mutants returns the mutants that the tests of package stagetest have to notice, by their names.
func mutants(root string) (map[string]mutant, error) {
	source, err := os.ReadFile(filepath.Join(root, "common/stagetest/mutants_test.go"))
	all := make(map[string]mutant)
	for _, m := range literals.FindAllStringSubmatch(string(source), -1) {
		for i := 1; i < len(m); i++ {
			m[i], _ = strconv.Unquote(m[i])
		}
		all[m[1]] = mutant{m[2], m[3], m[4]}
	}
	return all, err
}

const literal = "(\"(?:[^\"\\\\]|\\\\.)*\"|\x60[^\x60]*\x60)"

var literals = regexp.MustCompile(`\{` + literal + `, ` + literal + `,\s*` + literal + `, ` + literal + `,`)

// spoil makes the edit of the mutant of that name.
func (f files) spoil(root, name string) error {
	all, err := mutants(root)
	m := all[name]
	file := filepath.Base(m.file)
	if err == nil && (m.old == "" || bytes.Count(f[file], []byte(m.old)) != 1) {
		err = fmt.Errorf("the mistake of this exercise does not fit %s", file)
	}
	if err == nil {
		f[file], err = format.Source(bytes.Replace(f[file], []byte(m.old), []byte(m.new), 1))
	}
	return err
}
