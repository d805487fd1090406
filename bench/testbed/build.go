package testbed

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Program is a stage that has been built.
type Program struct {
	Name  string // of its source directory, made unique
	Path  string // of the executable
	Built *debug.BuildInfo
}

// shipped are the directories of Lockstep's own stages.
var shipped = []string{"stage1_singlethread", "stage2_coarselock", "stage3_threadpool", "stage4_bucketlock"}

// ErrNoStage is the error for a stage that does not exist.
var ErrNoStage = errors.New("there is no stage")

// Root returns the root of the Lockstep checkout that the current directory is in.
func Root(ctx context.Context) (string, error) {
	var vars struct{ GOMOD string }
	if err := goEnv(ctx, &vars, "GOMOD"); err != nil {
		return "", err
	}
	if vars.GOMOD == "" || vars.GOMOD == os.DevNull {
		return "", errors.New("not inside the Lockstep checkout: the stages are built from source, so run bench inside it")
	}
	return filepath.Dir(vars.GOMOD), nil
}

// goEnv sets vars to the variables of the go command that args name, as in go env.
func goEnv(ctx context.Context, vars any, args ...string) error {
	cmd := exec.Command("go", append([]string{"env", "-json"}, args...)...) // takes milliseconds; killed, it would leave a directory
	cmd.SysProcAttr = newGroup()
	out, err := cmd.Output()
	if err = cmp.Or(err, json.Unmarshal(out, vars), ctx.Err()); err != nil {
		return fmt.Errorf("running go env: %w (bench needs the go command to build the stages)", err)
	}
	return nil
}

// StageDir returns the directory of a stage of the module in root, named by its number, by its
// directory's name or by a path: "4", "stage4_bucketlock", "./mine".
func StageDir(root, stage string) (string, error) {
	if n, err := strconv.Atoi(stage); err == nil {
		found, _ := fs.Glob(os.DirFS(root), fmt.Sprintf("stage%d_*", n))
		found = slices.DeleteFunc(found, func(name string) bool { return !isDir(filepath.Join(root, name)) })
		if i := slices.IndexFunc(found, func(name string) bool { return slices.Contains(shipped, name) }); i >= 0 {
			found = found[i : i+1] // whatever was copied from it
		}
		if len(found) != 1 {
			return "", fmt.Errorf("%w %d: want one directory stage%d_* in %s, found %q", ErrNoStage, n, n, root, found)
		}
		return filepath.Join(root, found[0]), nil
	}
	for _, dir := range []string{stage, filepath.Join(root, stage)} {
		if stage != "" && isDir(dir) {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("%w %q: give numbers, directory names or paths, as in 1,stage4_bucketlock,./mine", ErrNoStage, stage)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

var place = regexp.MustCompile(`(?m)^\.{1,2}[/\\][^:\n]+`)

// fromHere names the files in the output of go build from the current directory on, as the
// stage was named, and not from source on, where go build ran.
func fromHere(out []byte, source string) []byte {
	here, _ := os.Getwd()
	return place.ReplaceAllFunc(out, func(file []byte) []byte {
		path := filepath.Join(source, string(file))
		if short, err := filepath.Rel(here, path); err == nil {
			path = short
		}
		return []byte(path)
	})
}

// Build builds the stage in a directory, under a name that no other program has. It runs where
// bench does, so that go build names files as the user does: mine/store.go.
func (b *Bed) Build(ctx context.Context, source string) error {
	p := Program{Name: filepath.Base(source)}
	taken := func(other Program) bool { return strings.EqualFold(other.Name, p.Name) } // some file systems ignore case
	for i := 2; slices.ContainsFunc(b.Programs, taken); i++ {
		p.Name = fmt.Sprintf("%s-%d", filepath.Base(source), i)
	}
	folder := filepath.Join(b.Dir, p.Name)
	out, err := b.Go(ctx, source, "build", "-buildvcs=false", "-o", folder+string(filepath.Separator), ".") // source may be in another module
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("%s does not build:\n%s", p.Name, cmp.Or(string(bytes.TrimSpace(fromHere(out, source))), err.Error()))
	}
	files, err := os.ReadDir(folder) // one: go build fails if the package is not a program
	if err != nil {
		return err
	}
	p.Path = filepath.Join(folder, files[0].Name())
	p.Built, err = buildinfo.ReadFile(p.Path)
	b.Programs = append(b.Programs, p)
	return err
}

// Go runs the go command in a directory and returns the first of what it prints. At the end of
// ctx, whose cause it then returns, it has killed the command and what that has started. The files
// that a killed command leaves are in the Bed's directory.
func (b *Bed) Go(ctx context.Context, dir string, args ...string) (out []byte, err error) {
	var said head
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
	cmd.Env = append(cmd.Environ(), "GOTMPDIR="+b.Dir, "TMPDIR="+b.Dir)
	cmd.SysProcAttr = newGroup() // Ctrl-C goes to this program alone, which then kills the command
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	cmd.WaitDelay = 5 * time.Second // for a process outside the group that holds on to the output
	if err = cmd.Run(); ctx.Err() != nil {
		if cmd.Process != nil {
			killGroup(cmd.Process) // processes that started while it was being killed
		}
		err = context.Cause(ctx)
	}
	return said, err
}

// A head keeps the first 64 KiB of what is written to it: a program may print without end.
type head []byte

func (h *head) Write(p []byte) (int, error) {
	*h = append(*h, p[:min(len(p), 64<<10-len(*h))]...)
	return len(p), nil
}
