package notes

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const project = "../.."

// pages are about the whole project.
var pages = []string{"NOTES.md", "README.md"}

// stale returns what rendering the pages of a module would change, and the files that are not
// used or missing.
func stale(t *testing.T, root string) (found []string) {
	t.Helper()
	b, err := Open(root, root)
	if err != nil {
		return []string{err.Error()}
	}
	files, err := b.render()
	if err != nil {
		found = append(found, err.Error())
	}
	used := make(map[string]bool)
	for _, e := range b.experiments {
		_, name := e.program("", "", false)
		used[name] = true
	}
	for _, f := range files {
		used[filepath.Base(f.name)] = true
		if content, err := os.ReadFile(filepath.Join(root, f.name)); err != nil || string(content) != f.text {
			found = append(found, f.name+" changes")
		}
	}
	entries, _ := os.ReadDir(filepath.Join(root, dataDir)) // what is used and missing was found above
	for _, entry := range entries {
		if !used[entry.Name()] {
			found = append(found, entry.Name()+" is not used")
		}
	}
	for _, p := range b.pages {
		for _, m := range regexp.MustCompile(`\]\((`+dataDir+`/[^)]+)\)`).FindAllStringSubmatch(p.text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				found = append(found, m[1]+" is missing")
			}
		}
	}
	return found
}

func TestRenderingChangesNothing(t *testing.T) {
	for _, what := range stale(t, project) {
		t.Error(what)
	}
}

func TestStale(t *testing.T) {
	const notes = experiments + "It is <!--=gain.ratio short-->7.0<!--/-->.\n\n<!-- run lanes -->\n\n    go run ./bench lanes\n\n" +
		"<!-- figure lanes: lanes lanes -->\n\n![x](" + dataDir + "/lanes.svg)\n"
	gone := strings.Replace(notes, "<!-- figure", "<!--", 1)
	for _, test := range []struct{ file, content, want string }{
		{"LICENSE", "free", "[]"},
		{"NOTES.md", strings.Replace(notes, ">7.0<", ">7.1<", 1), "[NOTES.md changes]"},
		{"NOTES.md", strings.Replace(gone, "/lanes.svg", "/gain.json", 1), "[lanes.svg is not used]"},
		{"README.md", "![x](" + dataDir + "/gone.svg)\n", "[bench/notes/data/gone.svg is missing]"},
		{dataDir + "/lanes.svg", "", "[bench/notes/data/lanes.svg changes bench/notes/data/lanes.svg is missing]"},
		{dataDir + "/old.json", "{}", "[old.json is not used]"},
		{dataDir + "/gain.json", comparison(700, 1400), "[NOTES.md changes]"},
	} {
		root := module(t, notes)
		writeAll(t, root, map[string]string{dataDir + "/lanes.json": `{"stages":[{"stage":"stage3_threadpool","span_ns":16000000,"lanes":[[]]}]}`})
		if err := write(root, root); err != nil {
			t.Fatal(err)
		}
		if writeAll(t, root, map[string]string{test.file: test.content}); test.content == "" {
			os.Remove(filepath.Join(root, test.file))
		}
		if got := fmt.Sprint(stale(t, root)); got != test.want {
			t.Errorf("%s: got %s, want %s", test.file, got, test.want)
		}
	}
}

// stray returns the measured numbers of a text that stand outside of marks: numbers with a unit
// of time, rate, size or share, and factors. Paragraphs, with the tables that they introduce, and
// rows of tables that say that they are computed have none, and what stands in code is not prose.
func stray(text string) (found []string) {
	for _, not := range []string{"(?m)^```(?s:.*?)^```", `(?m)^    .*$`, "(?s)<!--=.*?<!--/-->", "(?s)<!--.*?-->", "`[^`]*`", `\]\([^)]*\)`} {
		text = regexp.MustCompile(not).ReplaceAllString(text, "")
	}
	computed := func(s string) bool { return strings.Contains(strings.ToLower(s), "computed") }
	text = regexp.MustCompile(`:\n\s*\n`).ReplaceAllString(text, ":\n") // what follows belongs to it
	for _, paragraph := range regexp.MustCompile(`\n\s*\n`).Split(text, -1) {
		for i, part := range strings.Split(paragraph, "\n|") {
			if i == 0 && computed(part) {
				break
			} else if !computed(part) {
				found = append(found, measured.FindAllString(part, -1)...)
			}
		}
	}
	return found
}

var measured = regexp.MustCompile(`\d[\d. ]*(?:\s*%|\s*(?:ns|µs|ms|s|seconds?|minutes?|k?B|[KMG]iB|bytes)\b|\s+times\b|/s\b|\s+(?:requests|operations|connections|dials)\s+a\s+second|\s+(?:allocations|cores)\b)`)

// given are numbers that nobody measured.
var given = []string{
	"16 cores", "64 KiB", "64 bytes", // another machine; the limit of a frame; a cache line
	"1 ms", "1ms", "250 ms", // the work of a request; how long the tour's client stalls
	"1.5 s", "2 000 requests a second", // an overload
	"16 ms", "20 ms", "32 ms", // what bench lanes draws; the limit of an exercise; the longest pause after a refusal
	"100 ms", "800 ms", // the work in a goal, and eight times that
	"5 s", "5 seconds", "10 s", // a deadline; when a server is stuck
	"2 %", // an example
}

func TestNumbersAreInMarks(t *testing.T) {
	for _, name := range pages {
		for _, n := range stray(read(t, project, name)) {
			if !slices.Contains(given, strings.Join(strings.Fields(n), " ")) {
				t.Errorf("%s: %q is measured, and stands outside of a mark; or say that it is computed, or give a reason in this test", name, n)
			}
		}
	}
}

func TestStray(t *testing.T) {
	for text, want := range map[string]string{
		"It took 5 ms, 3.1 s and 2.5µs.":                                 "[5 ms 3.1 s 2.5µs]",
		"About 20 000 requests a second, or 7/8,\nor 35 times that":      "[20 000 requests a second 35 times]",
		"a 5 % gain, 21 000/s, 4 KiB, 38 allocations":                    "[5 % 21 000/s 4 KiB 38 allocations]",
		"It took <!--=x.ratio-->5 ms<!--/-->, with `-work 5ms`":          "[]",
		"    took 5 ms\n\n```\n5 ms\n```\n":                              "[]",
		"Computed for a server that needs no time: 500/s and 4 %":        "[]",
		"| a | 5 ms |\n| b | 6 ms (computed) |\n| c | 7 ms |\n":          "[5 ms 7 ms]",
		"All of this is computed:\n\n| a | 5 ms |\n| b | 6 ms |\n\n7 ms": "[7 ms]",
		"97 of 100 such experiments, chapter 4, 8 connections, 3/8":      "[]",
		"<!--=x.table ops-->\n\n| a | 5 ms |\n\n<!--/-->\n\nAnd 6 ms":    "[6 ms]",
	} {
		if got := fmt.Sprint(stray(text)); got != want {
			t.Errorf("%q: found %s, want %s", text, got, want)
		}
	}
}

// unmatched returns the patterns of go test commands in a text that match no test, benchmark or
// subtest in the packages that they name. A copy of a stage, as ./mine, has the tests of all.
func unmatched(t *testing.T, text string) (found []string) {
	t.Helper()
	subtests := strings.ReplaceAll(read(t, project, "common/stagetest/*.go"), "\nfunc Test", "\nfunc ") // of stages
	for _, m := range regexp.MustCompile("go test([^`\n]* -(?:run|bench) [^`\n]*)").FindAllStringSubmatch(text, -1) {
		words, tests := Words(m[1]), subtests
		for _, arg := range words {
			if dir, all := strings.CutSuffix(arg, "/..."); all {
				tests += read(t, project, dir+"/*_test.go", dir+"/*/*_test.go", dir+"/*/*/*_test.go")
			} else if strings.HasPrefix(arg, "./mine") {
				tests += read(t, project, "stage*/*_test.go")
			} else if strings.HasPrefix(arg, "./") {
				tests += read(t, project, dir+"/*_test.go")
			}
		}
		for i, arg := range words[:len(words)-1] {
			kind := map[string]string{"-run": "Test|Fuzz|Example", "-bench": "Benchmark"}[arg]
			for level, part := range strings.Split(words[i+1], "/") {
				if kind == "" || part == "^$" {
					break
				}
				name := regexp.MustCompile(`\nfunc ((?:` + kind + `)\w*)\(`)
				if level > 0 {
					name = regexp.MustCompile(`"([^"\n]+)"`)
				}
				matches := regexp.MustCompile(part).MatchString
				if !slices.ContainsFunc(name.FindAllStringSubmatch(tests, -1), func(m []string) bool {
					return matches(m[1]) || matches(strings.ReplaceAll(m[1], " ", "_"))
				}) {
					found = append(found, arg+" "+words[i+1])
				}
			}
		}
	}
	return found
}

func TestPatternsMatchTests(t *testing.T) {
	for _, name := range pages {
		for _, pattern := range unmatched(t, read(t, project, name)) {
			t.Errorf("%s: %s matches nothing", name, pattern)
		}
	}
	const commands = `
go test ./common/barrier -run 'Specimen/married' -v
go test ./common/barrier -run SpecimenGone
go test ./common/wire -run '^$' -bench Kodak
go test -count=1 ./mine2 -run TestStage/CountersRenamed
`
	const want = "[-run Specimen/married -run SpecimenGone -bench Kodak -run TestStage/CountersRenamed]"
	if got := fmt.Sprint(unmatched(t, commands)); got != want {
		t.Errorf("%s are unmatched, want %s", got, want)
	}
}
