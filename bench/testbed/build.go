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
	"strconv"
	"strings"
)

// A program is a stage, built.
type Program struct {
	Name string // of its directory
	path string // of the executable, which has a folder of its own
}

// moduleRoot is the directory of the go.mod that the stages belong to.
func moduleRoot(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOMOD")
	cmd.SysProcAttr = apart()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking go for the module: %w (the go command is needed to build the stages)", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", errors.New("this is no directory of the project: the stages are built from their source, so run bench inside it")
	}
	return filepath.Dir(mod), nil
}

var ErrNoStage = errors.New("there is no stage")

// stageDirs finds the directories of stages, each named by its number, by its
// directory's name, or by a path: "4", "stage4_bucketlock", "./mine".
func StageDirs(ctx context.Context, stages []string) (dirs []string, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	for _, stage := range stages {
		dir, err := stageDir(root, strings.TrimSpace(stage))
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
	return "", fmt.Errorf("%w %q: numbers, directory names and paths are understood, such as 1,stage4_bucketlock,./mine", ErrNoStage, stage)
}

// build builds the stages in these directories into dir. Two whose directories have
// the same name get different names.
func build(ctx context.Context, sources []string, dir string, say func(string)) (programs []Program, err error) {
	taken := make(map[string]bool)
	for _, source := range sources {
		p := Program{Name: filepath.Base(source)}
		for i := 2; taken[p.Name]; i++ {
			p.Name = fmt.Sprintf("%s-%d", filepath.Base(source), i)
		}
		taken[p.Name] = true
		say("building " + p.Name)
		if p.path, err = goBuild(ctx, source, filepath.Join(dir, p.Name)); err != nil {
			return nil, fmt.Errorf("%s does not build: %w", p.Name, err)
		}
		programs = append(programs, p)
	}
	return programs, nil
}

// goBuild builds the program in a directory into a new folder, and returns its path
// there.
func goBuild(ctx context.Context, source, folder string) (path string, err error) {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", folder+string(filepath.Separator), ".")
	cmd.Dir = source
	cmd.Env = append(cmd.Environ(), "GOTMPDIR="+filepath.Dir(folder)) // what a build that is ended leaves is there
	cmd.SysProcAttr = apart()                                         // Ctrl-C is for this program, which then ends the build
	cmd.Cancel = func() error { return killApart(cmd.Process) }
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			killApart(cmd.Process) // what it has started a moment before its end
		}
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, bytes.TrimSpace(out))
	}
	files, err := os.ReadDir(folder) // one: go fails where there is no program to build
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, files[0].Name()), nil
}
