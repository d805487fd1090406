package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Program is a stage that has been built.
type Program struct {
	Name string // of its source directory, made unique
	Path string // of the executable
}

// ErrNoStage is the error for a stage that does not exist.
var ErrNoStage = errors.New("there is no stage")

// StageDirs returns the directories of stages, each named by its number, by its
// directory's name or by a path: "4", "stage4_bucketlock", "./mine".
func StageDirs(ctx context.Context, stages []string) (dirs []string, err error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOMOD")
	cmd.SysProcAttr = newGroup()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running go env GOMOD: %w (bench needs the go command to build the stages)", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return nil, errors.New("not inside the Lockstep checkout: the stages are built from source, so run bench inside it")
	}
	for _, stage := range stages {
		dir, err := stageDir(filepath.Dir(mod), strings.TrimSpace(stage))
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

func stageDir(root, stage string) (string, error) {
	if n, err := strconv.Atoi(stage); err == nil {
		found, _ := fs.Glob(os.DirFS(root), fmt.Sprintf("stage%d_*", n))
		if len(found) != 1 {
			return "", fmt.Errorf("%w %d: no directory stage%d_* in %s", ErrNoStage, n, n, root)
		}
		return filepath.Join(root, found[0]), nil
	}
	for _, dir := range []string{stage, filepath.Join(root, stage)} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() && stage != "" {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("%w %q: give numbers, directory names or paths, as in 1,stage4_bucketlock,./mine", ErrNoStage, stage)
}

// build builds the stage in a directory, under a name that no other program has.
func (b *Bed) build(ctx context.Context, source string, say func(string)) error {
	p := Program{Name: filepath.Base(source)}
	taken := func(other Program) bool { return strings.EqualFold(other.Name, p.Name) } // some file systems ignore case
	for i := 2; slices.ContainsFunc(b.Programs, taken); i++ {
		p.Name = fmt.Sprintf("%s-%d", filepath.Base(source), i)
	}
	folder := filepath.Join(b.Dir, p.Name)
	say("building " + p.Name)
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", folder+string(filepath.Separator), ".")
	cmd.Dir = source
	cmd.Env = append(cmd.Environ(), "GOTMPDIR="+b.Dir) // a build that is killed leaves its files there
	cmd.SysProcAttr = newGroup()                       // Ctrl-C goes to this program alone, which then kills the build
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			killGroup(cmd.Process) // processes that started while it was being killed
		}
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s does not build: %w\n%s", p.Name, err, bytes.TrimSpace(out))
	}
	files, err := os.ReadDir(folder) // one: go build fails if the package is not a program
	if err != nil {
		return err
	}
	p.Path = filepath.Join(folder, files[0].Name())
	b.Programs = append(b.Programs, p)
	return nil
}
