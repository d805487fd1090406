package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A program is a stage, built.
type program struct {
	name string // of its directory
	path string // of the executable
}

// moduleRoot is the directory of the go.mod that the stages belong to.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("asking go for the module: %w (the go command is needed to build the stages)", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("this is no directory of the project: the stages are built from their source, so run bench inside it")
	}
	return filepath.Dir(mod), nil
}

// stageDir is the directory of a stage that is named by its number, by its
// directory's name, or by a path: "4", "stage4_bucketlock", "./mine".
func stageDir(root, stage string) (string, error) {
	if n, err := strconv.Atoi(stage); err == nil {
		found, _ := filepath.Glob(filepath.Join(root, fmt.Sprintf("stage%d_*", n)))
		if len(found) != 1 {
			return "", usageErrorf("there is no stage %d: no directory stage%d_* in %s", n, n, root)
		}
		return found[0], nil
	}
	for _, dir := range []string{stage, filepath.Join(root, stage)} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return filepath.Abs(dir)
		}
	}
	return "", usageErrorf("there is no stage %q: -stages takes numbers, directory names and paths, such as 1,stage4_bucketlock,./mine", stage)
}

// build builds stages into dir. Two that have directories of the same name get
// different names.
func build(ctx context.Context, stages []string, dir string, say func(string)) ([]program, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	var programs []program
	taken := make(map[string]bool)
	for _, stage := range stages {
		source, err := stageDir(root, stage)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(source)
		for i := 2; taken[name]; i++ {
			name = fmt.Sprintf("%s-%d", filepath.Base(source), i)
		}
		taken[name] = true
		p := program{name: name, path: filepath.Join(dir, name)}
		if runtime.GOOS == "windows" {
			p.path += ".exe"
		}
		say("building " + name)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", p.path, ".")
		cmd.Dir = source
		cmd.Env = append(cmd.Environ(), "GOTMPDIR="+dir) // an interrupted build leaves its files there
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it tidies up
		cmd.WaitDelay = 5 * time.Second
		if out, err := cmd.CombinedOutput(); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		} else if err != nil {
			return nil, fmt.Errorf("%s does not build: %w\n%s", name, err, bytes.TrimSpace(out))
		}
		programs = append(programs, p)
	}
	return programs, nil
}
