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

// stageDiff returns what changes in some files from one stage to another, as a block. A file
// that the first one does not have is new.
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
		block += fmt.Sprintf("--- %s\n+++ %s/%s\n%s", old, filepath.Base(to), name, unified(string(before), string(after)))
	}
	return block + "```\n", nil
}

// unified returns all lines of two texts, marked as those of one of them or of both.
func unified(before, after string) (block string) {
	a, b := slices.Collect(strings.Lines(before)), slices.Collect(strings.Lines(after))
	same := make([][]int, len(a)+1) // the longest common subsequence of a[i:] and b[j:]
	for i := range same {
		same[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if same[i][j] = max(same[i+1][j], same[i][j+1]); a[i] == b[j] {
				same[i][j] = 1 + same[i+1][j+1]
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			block += " " + a[i]
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && same[i+1][j] >= same[i][j+1]:
			block += "-" + a[i]
			i++
		default:
			block += "+" + b[j]
			j++
		}
	}
	return block
}
