package stagetest

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The rules of the project: what the stages have in common, who imports whom, and how
// large things may be.

const root = "../.."

var project = os.DirFS(root)

var stages = []string{"stage1_singlethread", "stage2_coarselock", "stage3_threadpool", "stage4_bucketlock"}

func TestStagesDifferByTheirLesson(t *testing.T) {
	for i, step := range []struct {
		lesson []string // the files that may change from one stage to the next
		budget int      // how many lines of code are removed or added in them
	}{
		{[]string{"server.go", "store.go"}, 25},
		{[]string{"server.go", "pool.go"}, 70},
		{[]string{"store.go"}, 45},
	} {
		from, to := stages[i], stages[i+1]
		changed := 0
		for _, file := range step.lesson {
			changed += diff(codeLines(from+"/"+file), codeLines(to+"/"+file))
		}
		if changed == 0 || changed > step.budget {
			t.Errorf("%s to %s changes %d lines of code, want 1 to %d", from, to, changed, step.budget)
		}
		files, _ := fs.Glob(project, to+"/*.go")
		for _, file := range files {
			name := path.Base(file)
			before, err := fs.ReadFile(project, from+"/"+name)
			if slices.Contains(step.lesson, name) || name == "doc.go" || err != nil && strings.HasSuffix(name, "_test.go") { // a new test
				continue
			}
			before = bytes.Replace(before, fmt.Appendf(nil, "serve, %d)", i+1), fmt.Appendf(nil, "serve, %d)", i+2), 1) // the stage's number
			if after, _ := fs.ReadFile(project, file); !bytes.Equal(before, after) {
				t.Errorf("%s is not part of the lesson, but differs from the same file in %s", file, from)
			}
		}
	}
}

// codeLines returns the lines of a Go file without comments and blank lines, or nil if there is
// no such file.
func codeLines(file string) (lines []string) {
	src, _ := fs.ReadFile(project, file)
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
	same := make([]int, len(b)+1) // by j: how many lines what is read of a has in common with b[:j]
	for _, line := range a {
		before := slices.Clone(same)
		for j := range b {
			if same[j+1] = max(before[j+1], same[j]); line == b[j] {
				same[j+1] = before[j] + 1
			}
		}
	}
	return len(a) + len(b) - 2*same[len(b)]
}

// order lists the packages so that each one imports only packages above it. Stages import
// common, and neither bench nor each other.
var order = []string{
	"common/text", "common/wire", "common/metrics", "common/cluster", "common/control", "common/table",
	"common/barrier", "common/client", "common/node", "common/lincheck", "common/faults", "common/stagetest",

	"bench/progress", "bench/stats", "bench/figure", "bench/workload", "bench/load", "bench/clients", "bench/testbed", "bench/yardstick",
	"bench/experiment", "bench/machine", "bench/report", "bench/page", "bench/check", "bench/tour", "bench/notes", "bench/course",
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

// goFiles returns the Go files of the project's packages, its tests or the others.
func goFiles(tests bool) (files []string) {
	for _, pattern := range []string{"*.go", "*/*.go", "*/*/*.go"} { // testdata is deeper
		found, _ := fs.Glob(project, pattern)
		files = append(files, found...)
	}
	return slices.DeleteFunc(files, func(file string) bool { return strings.HasSuffix(file, "_test.go") != tests })
}

func TestImports(t *testing.T) {
	if strings.Contains(read(t, "go.mod"), "require") {
		t.Error("go.mod requires a module")
	}
	for _, file := range goFiles(false) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, read(t, file), parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			if to := strings.Trim(spec.Path.Value, `"`); !mayImport(path.Dir(file), to) {
				t.Errorf("%s imports %s", file, to)
			}
		}
	}
	if mayImport("bench/stats", "lockstep/bench/load") || mayImport("mine", "lockstep/bench") || mayImport("bench", "golang.org/x/text") {
		t.Error("a package may import one above it, or another module's, or a learner's stage may import bench")
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
	for _, file := range goFiles(false) {
		pkg, n, most := path.Dir(file), len(codeLines(file)), fileLines
		lines[pkg] += n
		files[pkg]++
		if slices.Contains(stages, pkg) {
			most = page
		}
		if n > most {
			t.Errorf("%s has %d lines of code, want at most %d", file, n, most)
		}
	}
	for pkg, n := range lines {
		if inBench := strings.HasPrefix(pkg+"/", "bench/"); inBench && (n > packageLines || files[pkg] > packageFiles) {
			t.Errorf("%s has %d lines of code in %d files, want at most %d in %d", pkg, n, files[pkg], packageLines, packageFiles)
		}
	}
}

// The pages of the project lead where they say, and name tests that exist.

var (
	link   = regexp.MustCompile(`(?m)(?:^|[\s!(|*])\[[^\]]*\]\(([^)\s]+)\)`) // not m[k](x), in code
	noSlug = regexp.MustCompile(`^#+ |[^\p{L}\p{N} _-]`)
	threat = regexp.MustCompile(`(?m)^\|(?:[^|\n]*\|){3}([^|\n]*)\|$`) // | threat | what a stage does | limit | test |
	quoted = regexp.MustCompile("`([^`]+)`")
)

// badLinks returns the links in the text of a page that lead to no file, or to no heading.
func badLinks(t *testing.T, name, text string) (bad []string) {
	t.Helper()
	for _, match := range link.FindAllStringSubmatch(text, -1) {
		file, anchor, _ := strings.Cut(match[1], "#")
		if strings.Contains(file, "://") {
			continue
		}
		to := name
		if file != "" {
			to = path.Join(path.Dir(name), file)
		}
		if _, err := fs.Stat(project, to); err != nil || anchor != "" && !hasHeading(read(t, to), anchor) {
			bad = append(bad, match[1])
		}
	}
	return bad
}

// hasHeading reports whether one of the headings in a page has this anchor on a forge.
func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if line[0] == '#' && strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(line), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := fs.ReadFile(project, file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLinks(t *testing.T) {
	for _, name := range []string{"README.md", "NOTES.md", "bench/README.md"} {
		for _, bad := range badLinks(t, name, read(t, name)) {
			t.Errorf("%s: %s leads nowhere", name, bad)
		}
	}
	const text = "[a](../NOTES.md#threats-to-validity), [b](#threats), [c](../bench) `m[k](x)`\n![d](gone.svg) [e](#bottom) [f](../NOTES.md#threats)\n"
	if got, want := strings.Join(badLinks(t, "bench/README.md", text), " "), "gone.svg #bottom ../NOTES.md#threats"; got != want {
		t.Errorf("bad links of a page: %s, want %s", got, want)
	}
}

// TestThreats finds the tests that the table of threats names, as functions or as subtests.
func TestThreats(t *testing.T) {
	var source strings.Builder
	for _, file := range slices.Concat(goFiles(true), goFiles(false)) {
		source.WriteString(read(t, file))
	}
	rows := threat.FindAllStringSubmatch(read(t, "bench/README.md"), -1)
	if len(rows) < 3 {
		t.Error("the table of threats was not found")
	}
	for _, row := range rows {
		for _, name := range quoted.FindAllStringSubmatch(row[1], -1) {
			if !strings.Contains(source.String(), "func Test"+name[1]+"(") && !strings.Contains(source.String(), "\""+name[1]+"\", test") {
				t.Errorf("the table of threats names a test %s, which does not exist", name[1])
			}
		}
	}
}

// TestWorkflow wants the forge to run the proof: README's first test command.
func TestWorkflow(t *testing.T) {
	command := regexp.MustCompile(`(?m)^    (go test .*?)\s+#`).FindStringSubmatch(read(t, "README.md"))
	if command == nil || !strings.Contains(read(t, ".github/workflows/test.yml"), "run: "+command[1]+"\n") {
		t.Errorf("the workflow does not run README's %q", command)
	}
}
