package notes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lockstep/bench/testbed"
)

// stageDiff returns what changes in some files from one stage to another, as a block. A file
// that the first one does not have is new.
func (b *Book) stageDiff(from, to string, files []string) (string, error) {
	block := "```diff\n"
	for _, name := range files {
		var sides [2][]string
		names := []string{from, to}
		for i, stage := range names {
			dir, err := testbed.StageDir(b.root, stage)
			if err != nil {
				return "", err
			}
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil && (i == 1 || !errors.Is(err, fs.ErrNotExist)) {
				return "", err
			}
			names[i] = filepath.Base(dir) + "/" + name
			if err != nil {
				names[i] = "/dev/null"
			}
			sides[i] = slices.Collect(strings.Lines(string(content)))
		}
		block += "--- " + names[0] + "\n+++ " + names[1] + "\n" + unified(sides[0], sides[1])
	}
	return "\n\n" + block + "```\n\n", nil
}

// unified returns the difference of two texts, with three lines around each change.
func unified(a, b []string) (hunks string) {
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
	var lines, heads []string // heads[n] is that of a hunk that begins with lines[n]
	for i, j := 0, 0; i < len(a) || j < len(b); {
		heads = append(heads, fmt.Sprintf("@@ -%d +%d @@\n", i+1, j+1))
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			lines = append(lines, " "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && same[i+1][j] >= same[i][j+1]:
			lines = append(lines, "-"+a[i])
			i++
		default:
			lines = append(lines, "+"+b[j])
			j++
		}
	}
	shown := false
	for n, line := range lines {
		near := slices.ContainsFunc(lines[max(n-3, 0):min(n+4, len(lines))], func(line string) bool { return line[0] != ' ' })
		if near && !shown {
			hunks += heads[n]
		}
		if near {
			hunks += line
		}
		shown = near
	}
	return hunks
}
