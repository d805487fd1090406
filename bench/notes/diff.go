package notes

import (
	"errors"
	"io/fs"
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
	block := "```diff\n"
	for _, name := range args[2:] {
		var sides [2][]string
		for i, sign := range []string{"---", "+++"} {
			dir, err := testbed.StageDir(b.root, args[i])
			if err != nil {
				return "", err
			}
			content, err := os.ReadFile(filepath.Join(dir, name))
			title := filepath.Base(dir) + "/" + name
			if i == 0 && errors.Is(err, fs.ErrNotExist) {
				title, err = "/dev/null", nil
			}
			if err != nil {
				return "", err
			}
			block += sign + " " + title + "\n"
			sides[i] = slices.Collect(strings.Lines(string(content)))
		}
		block += unified(sides[0], sides[1])
	}
	return block + "```\n", nil
}

// unified returns all lines of two texts, marked as those of one of them or of both.
func unified(a, b []string) (block string) {
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
