// Package testbed builds stages, and starts, watches and stops the processes of their
// servers. A Bed leaves neither a process nor a file behind.
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

	"lockstep/bench/load"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/node"
	"lockstep/common/text"
)

// A Bed holds the stages that a command has built, in a temporary directory, and the
// servers that are running.
type Bed struct {
	Dir       string
	Programs  []Program
	Variables map[string]string // of the go command: those that are set, in the environment or with go env -w
	Running   []*Servers        // in the order of their start

	Addrs    func(n int) ([]string, error) // finds free addresses
	Patience time.Duration                 // how long servers may take to start, and to stop after drain_timeout; a twentieth until a death is noticed
}

const buildTime = 10 * time.Minute // for all stages, even on a slow machine

// New returns a Bed with these stages, each named as for StageDir. It says at once how many it
// builds. The temporary directory is in GOTMPDIR, if that is set.
func New(ctx context.Context, stages []string, say func(string)) (*Bed, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, buildTime, fmt.Errorf("building took longer than %v", buildTime))
	defer cancel()
	b := &Bed{Addrs: node.FreeAddrs, Patience: 10 * time.Second}
	var sources []string
	if len(stages) > 0 {
		say("building " + text.Plural(int64(len(stages)), "server") + " (the first time takes up to a minute)")
		root, err := Root(ctx)
		if err == nil {
			err = goEnv(ctx, &b.Variables, "-changed")
		}
		for i := 0; i < len(stages) && err == nil; i++ {
			var source string
			source, err = StageDir(root, strings.TrimSpace(stages[i]))
			sources = append(sources, source)
		}
		if err != nil {
			return nil, err
		}
	}
	parent, err := filepath.Abs(cmp.Or(b.Variables["GOTMPDIR"], os.TempDir())) // builds and servers run in other directories
	if err == nil {
		b.Dir, err = os.MkdirTemp(parent, "lockstep-")
	}
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		if err := b.Build(ctx, source); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// Start starts a stage as the given number of nodes on free ports, and returns when they serve. They
// run until Stop or Close.
func (b *Bed) Start(ctx context.Context, p Program, cfg cluster.Config, nodes int) (*Servers, error) {
	return b.Launch(ctx, p.Name, cfg, nodes, func(cfg cluster.Config) (cmds []*exec.Cmd, err error) {
		file := filepath.Join(b.Dir, p.Name+".json")
		for i := range cfg.Nodes {
			cmds = append(cmds, exec.Command(p.Path, "-child", "-config", file, "-node", strconv.Itoa(i)))
		}
		return cmds, cfg.Save(file)
	}, serving)
}

// A ServingFunc returns nil if a node serves, and otherwise why not.
type ServingFunc func(ctx context.Context, cfg cluster.Config, number int) error

// Launch starts servers on free ports, with the command that commands returns for each
// node, and returns when all of them are serving. If a program takes one of the ports
// before the servers do, Launch tries again with other ports.
func (b *Bed) Launch(ctx context.Context, name string, cfg cluster.Config, nodes int,
	commands func(cluster.Config) ([]*exec.Cmd, error), serves ServingFunc) (*Servers, error) {
	for triesLeft := 4; ; triesLeft-- {
		addrs, err := b.Addrs(2 * nodes)
		if err != nil {
			return nil, err
		}
		cfg.Nodes, cfg.Clients = nil, nil
		for i := range nodes {
			cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: addrs[2*i], Control: addrs[2*i+1]})
		}
		s := &Servers{Name: name, Config: cfg, Target: load.NewLockstep(cfg)}
		cmds, err := commands(cfg)
		if err != nil {
			return nil, err
		}
		if err = s.start(ctx, cmds, b.Patience, serves); err == nil {
			b.Running = append(b.Running, s)
			return s, nil
		}
		for _, p := range s.Procs {
			p.Kill()
		}
		if triesLeft == 0 || !errors.Is(err, errDied) || !slices.ContainsFunc(addrs, node.Taken) {
			return nil, err
		}
	}
}

// With starts a stage, calls f, and stops the stage, see Use.
func (b *Bed) With(ctx context.Context, p Program, cfg cluster.Config, nodes int, f func(context.Context, *Servers) error) error {
	return b.Use(ctx, func(ctx context.Context) (*Servers, error) { return b.Start(ctx, p, cfg, nodes) }, f)
}

// A StartFunc starts servers and returns when they serve. They are among the Bed's Running.
type StartFunc func(context.Context) (*Servers, error)

// Use starts servers, calls f with a context that ends when one of them dies, and stops them.
// If f fails and a server died, Use returns how it died. If one is stuck, Use kills all.
func (b *Bed) Use(ctx context.Context, start StartFunc, f func(context.Context, *Servers) error) error {
	s, err := start(ctx)
	if err != nil {
		return err
	}
	watched, cancel := watch(ctx, s)
	defer cancel()
	if err = f(watched, s); err != nil {
		control.Pause(watched, b.Patience/20) // clients may notice a death a moment before we do
		err = cmp.Or(context.Cause(watched), err)
		for _, p := range s.Procs {
			if errors.As(err, new(stuckError)) {
				p.Kill()
			}
		}
	}
	return cmp.Or(err, b.Stop(s))
}

// Stop asks servers to drain, waits for them, and kills those that are late.
func (b *Bed) Stop(s *Servers) error {
	b.Running = slices.DeleteFunc(b.Running, func(r *Servers) bool { return r == s })
	for _, p := range s.Procs {
		p.Stdin.Close()
	}
	late, cancel := context.WithTimeout(context.Background(), s.Config.Server.DrainTimeout+b.Patience)
	defer cancel()
	var errs []error
	for i, p := range s.Procs {
		select {
		case <-p.Done:
			if p.Err != nil {
				errs = append(errs, s.died(i))
			}
		case <-late.Done():
			p.Kill()
			errs = append(errs, fmt.Errorf("%s, node %d, did not stop when asked to, and was killed", s.Name, i))
		}
	}
	return errors.Join(errs...)
}

// Close stops the running servers and removes the directory.
func (b *Bed) Close() error {
	var errs []error
	for len(b.Running) > 0 {
		errs = append(errs, b.Stop(b.Running[0]))
	}
	err := os.RemoveAll(b.Dir)
	for try := 0; err != nil && try < 20; try++ { // Windows locks a program for a moment after its end
		time.Sleep(50 * time.Millisecond)
		err = os.RemoveAll(b.Dir)
	}
	return errors.Join(append(errs, err)...)
}

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

// fromHere makes paths in the output of go build relative to the current directory, as the
// stage was named (mine/store.go), and not to source, where go build ran.
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

// Build builds the stage in a directory, under a name that no other program has.
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

// Go runs the go command in a directory and returns the start of what it prints. If ctx ends,
// it kills the command and what that has started, and returns the cause. The files that a killed
// command leaves are in the Bed's directory.
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
