package course

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

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
	source, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "common/stagetest/mutants_test.go"), nil, 0)
	if err != nil {
		return nil, err
	}
	all := make(map[string]mutant)
	ast.Inspect(source, func(n ast.Node) bool {
		if lit, is := n.(*ast.CompositeLit); is && len(lit.Elts) == 6 { // name, file, old, new, check, shows
			var m [4]string
			for i := range m {
				if s, is := lit.Elts[i].(*ast.BasicLit); is {
					m[i], _ = strconv.Unquote(s.Value)
				}
			}
			all[m[0]] = mutant{m[1], m[2], m[3]}
		}
		return true
	})
	return all, nil
}

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
