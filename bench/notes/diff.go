package notes

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lockstep/bench/testbed"
)

// stageDiff returns what changes in the code of some files from one stage to another, as a block.
// A file that the first one does not have is new.
func (b *Book) stageDiff(args []string) (string, error) {
	if len(args) < 3 {
		return "", errors.New("want diff STAGE STAGE FILE...")
	}
	from, err := testbed.StageDir(b.root, args[0])
	to, unknown := testbed.StageDir(b.root, args[1])
	if err = cmp.Or(err, unknown); err != nil {
		return "", err
	}
	block := "```diff\n"
	for _, name := range args[2:] {
		old := filepath.Base(from) + "/" + name
		before, missing := os.ReadFile(filepath.Join(from, name))
		if missing != nil {
			old = "/dev/null"
		}
		after, err := os.ReadFile(filepath.Join(to, name))
		if err != nil {
			return "", err
		}
		block += fmt.Sprintf("--- %s\n+++ %s/%s\n%s", old, filepath.Base(to), name, unified(linesOf(before), linesOf(after)))
	}
	return block + "```\n", nil
}

// linesOf returns the lines of a file but those that are comments.
func linesOf(content []byte) []string {
	isComment := func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "//") }
	return slices.DeleteFunc(slices.Collect(strings.Lines(string(content))), isComment)
}

// unified returns all lines of two texts, marked as those of one of them or of both: around the
// longest part that they have in common, and so on before and after it.
func unified(a, b []string) string {
	from, to, longest := 0, 0, 0
	for i := range a {
		for j := range b {
			n := 0
			for i+n < len(a) && j+n < len(b) && a[i+n] == b[j+n] {
				n++
			}
			if n > longest {
				from, to, longest = i, j, n
			}
		}
	}
	if longest == 0 {
		return marked("-", a) + marked("+", b)
	}
	return unified(a[:from], b[:to]) + marked(" ", a[from:from+longest]) + unified(a[from+longest:], b[to+longest:])
}

func marked(sign string, lines []string) (block string) {
	for _, line := range lines {
		block += sign + line
	}
	return block
}
