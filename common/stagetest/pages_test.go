package stagetest

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// The pages of the project lead where they say, and name tests that exist.

var (
	link   = regexp.MustCompile(`(?m)(?:^|[\s!(|*])\[[^\]]*\]\(([^)\s]+)\)`) // not m[k](x), in code
	noSlug = regexp.MustCompile(`^#+ |[^\p{L}\p{N} _-]`)
	quoted = regexp.MustCompile("`([^`]+)`")
)

// badLinks returns the links of a page that lead to no file, or to no heading.
func badLinks(t *testing.T, tree fs.FS, page string) (bad []string) {
	t.Helper()
	for _, match := range link.FindAllStringSubmatch(read(t, tree, page), -1) {
		file, anchor, _ := strings.Cut(match[1], "#")
		if strings.Contains(file, "://") {
			continue
		}
		to := page
		if file != "" {
			to = path.Join(path.Dir(page), file)
		}
		if _, err := fs.Stat(tree, to); err != nil || anchor != "" && !hasHeading(read(t, tree, to), anchor) {
			bad = append(bad, match[1])
		}
	}
	return bad
}

// hasHeading reports whether one of the page's headings has this anchor on a forge.
func hasHeading(page, anchor string) bool {
	for line := range strings.Lines(page) {
		if line[0] == '#' && strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(line), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

func read(t *testing.T, tree fs.FS, file string) string {
	t.Helper()
	data, err := fs.ReadFile(tree, file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLinks(t *testing.T) {
	for _, page := range []string{"README.md", "NOTES.md", "bench/README.md"} {
		for _, bad := range badLinks(t, project, page) {
			t.Errorf("%s: %s leads nowhere", page, bad)
		}
	}
	tree := fstest.MapFS{
		"page.md":     {Data: []byte("# Top\n[a](sub/page.md#it-is-2), [b](#top), `m[k](x)`\n![c](gone.svg) [d](#bottom) [e](sub/page.md#top)\n")},
		"sub/page.md": {Data: []byte("## It is 2!\n[a](../page.md), [b](page.md) [c](../sub)\n")},
	}
	if got, want := strings.Join(badLinks(t, tree, "page.md"), " "), "gone.svg #bottom sub/page.md#top"; got != want {
		t.Errorf("bad links of a page: %s, want %s", got, want)
	}
	if got := badLinks(t, tree, "sub/page.md"); got != nil {
		t.Errorf("bad links of a page whose links are good: %s", got)
	}
}

// TestThreats finds the tests that the table of threats names, as functions or as subtests.
func TestThreats(t *testing.T) {
	var source strings.Builder
	err := fs.WalkDir(project, ".", func(file string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "common/stagetest/") && strings.HasSuffix(file, ".go") {
			source.WriteString(read(t, project, file))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(read(t, project, "bench/README.md")) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 { // | threat | what a stage does | limit | test |
			continue
		}
		for _, name := range quoted.FindAllStringSubmatch(cells[4], -1) {
			found++
			if !strings.Contains(source.String(), "func Test"+name[1]+"(") && !strings.Contains(source.String(), "\""+name[1]+"\", test") {
				t.Errorf("the table of threats names a test %s, which does not exist", name[1])
			}
		}
	}
	if found == 0 {
		t.Error("the table of threats was not found")
	}
}

// TestWorkflow wants the forge to run the proof: README's first test command.
func TestWorkflow(t *testing.T) {
	command := regexp.MustCompile(`(?m)^    (go test .*?)\s+#`).FindStringSubmatch(read(t, project, "README.md"))
	if command == nil || !strings.Contains(read(t, project, ".github/workflows/test.yml"), "run: "+command[1]+"\n") {
		t.Errorf("the workflow does not run README's %q", command)
	}
}
