package testbed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
)

// Servers are the processes of one stage, one for each node, or of a yardstick.
type Servers struct {
	Name    string // of the stage or yardstick
	Version string // of a yardstick, "" if it is part of bench
	Config  cluster.Config
	Target  load.Target
	Procs   []*Proc // none if the servers were running before
}

var errDied = errors.New("died")

// start starts a process for each node, and returns when all are serving. After
// an error some processes may be running.
func (s *Servers) start(ctx context.Context, cmds []*exec.Cmd, patience time.Duration, serves ServingFunc) error {
	for _, cmd := range cmds {
		p, err := StartProc(cmd)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: if the file system of %s does not allow programs, set TMPDIR or GOTMPDIR to a directory of one that does", err, cmd.Dir)
		}
		if err != nil {
			return fmt.Errorf("starting %s: %w", s.Name, err)
		}
		s.Procs = append(s.Procs, p)
	}
	ctx, stopWatch := watch(ctx, s)
	defer stopWatch()
	errLate := fmt.Errorf("after %v", patience)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errLate)
	defer cancel()
	for i, p := range s.Procs {
		last := errors.New("no answer")
		for err := serves(ctx, s.Config, i); err != nil && ctx.Err() == nil; err = serves(ctx, s.Config, i) {
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) { // a timeout at the end says less than the error before it
				last = err
			}
			control.Pause(ctx, 5*time.Millisecond)
		}
		if cause := context.Cause(ctx); cause == errLate {
			return fmt.Errorf("%s, node %d, does not serve %w (%v)\nits last output:\n%s", s.Name, i, errLate, last, p.Output)
		} else if cause != nil {
			return cause
		}
	}
	return nil
}

// serving is the ServingFunc of a stage, which serves when the node has passed the barrier.
func serving(ctx context.Context, cfg cluster.Config, node int) error {
	snapshot, err := client.Stats(ctx, cfg, node)
	if err == nil && !snapshot.Serving {
		err = errors.New("it waits for its peers")
	}
	return err
}

// watch returns a context that ends when a process does, with that as its cause.
func watch(ctx context.Context, s *Servers) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	for i, p := range s.Procs {
		go func() { // ends with ctx
			select {
			case <-p.Done:
				cancel(s.died(i))
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(context.Canceled) }
}

// died returns an error that says why a process ended, as far as its output shows it.
func (s *Servers) died(i int) error {
	p := s.Procs[i]
	why := p.Cmd.ProcessState.String()
	if p.Cmd.ProcessState.ExitCode() > 0 { // otherwise it was killed, or has ended without an error
		why = cmp.Or(p.Output.cause(), why)
	}
	return fmt.Errorf("%s, node %d, %w: %s\nits last output:\n%s", s.Name, i, errDied, why, p.Output)
}

// WithOutput adds the last output of each node to err, unless err is nil, is about a wrong
// answer, or already says that they are stuck.
func (s *Servers) WithOutput(err error) error {
	if err == nil || errors.Is(err, load.ErrWrong) || errors.As(err, new(stuckError)) {
		return err
	}
	for i, p := range s.Procs {
		err = fmt.Errorf("%w\nlast output of node %d:\n%s", err, i, p.Output)
	}
	return err
}

// A stuckError means that a server is stuck, and would not drain.
type stuckError struct{ error }

// Guard calls f with a context that ends when a server says that it is stuck. A fault
// that a server reports meanwhile is an error, and takes precedence over one of f.
func Guard(ctx context.Context, to load.Target, f func(context.Context) error) error {
	before, err := to.Stats(ctx)
	if err != nil {
		return f(ctx)
	}
	guarded, end := context.WithCancelCause(ctx)
	defer end(nil)
	faults := func() (all error) {
		stuck := false
		after, _ := to.Stats(ctx) // nothing from servers that have ended
		for i := range after {
			if node := after[i].Sub(before[i]); len(node.Faults) > 0 {
				all = errors.Join(all, fmt.Errorf("node %d: %s", i, node.Faulted()))
				stuck = stuck || node.Faults["stuck"] != ""
			}
		}
		if stuck {
			all = stuckError{all}
			end(all)
		}
		return all
	}
	var watching sync.WaitGroup
	watching.Go(func() { // ends with guarded
		for guarded.Err() == nil {
			faults()
			control.Pause(guarded, time.Second)
		}
	})
	err = f(guarded)
	end(nil)
	watching.Wait()
	all := faults()
	if all != nil && err != nil && strings.Contains(err.Error(), all.Error()) {
		return err
	}
	return errors.Join(all, err)
}

// A Proc is a server process. It stops at the end of its standard input, and so no later
// than this program, however this program ends.
type Proc struct {
	Cmd    *exec.Cmd
	Stdin  io.Closer
	Output *tail         // the last of what it wrote
	Done   chan struct{} // closed when the process has ended and Err is set
	Err    error
}

// StartProc starts a process in the directory of its program.
func StartProc(cmd *exec.Cmd) (p *Proc, err error) {
	p = &Proc{Cmd: cmd, Output: new(tail), Done: make(chan struct{})}
	cmd.Dir = filepath.Dir(cmd.Path)
	cmd.Stdout, cmd.Stderr = p.Output, p.Output
	cmd.SysProcAttr = newGroup() // Ctrl-C goes to this program alone, which then stops the servers
	if p.Stdin, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	go func() { // ends with the process
		p.Err = cmd.Wait()
		close(p.Done)
	}()
	return p, nil
}

// Kill kills the process and waits for its end.
func (p *Proc) Kill() {
	killGroup(p.Cmd.Process)
	<-p.Done
}

// A tail keeps the last lines that were written to it. From a crash on it keeps the first
// lines, which say more than the stacks of many goroutines.
type tail struct {
	mu    sync.Mutex // guards what follows
	text  []byte
	crash bool
}

const tailSize = 2 << 10 // bytes

var crashBegins = regexp.MustCompile(`(?m)^(panic|fatal error|runtime): `)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if at := crashBegins.FindIndex(t.text); at != nil && !t.crash {
		t.text, t.crash = t.text[at[0]:], true
	}
	if cut := len(t.text) - tailSize; cut > 0 && t.crash {
		t.text = t.text[:tailSize]
	} else if cut > 0 {
		cut += bytes.IndexByte(t.text[cut:], '\n') + 1 // whole lines, if there is an end of line
		t.text = append(t.text[:0], t.text[cut:]...)
	}
	return len(p), nil
}

var stageCall = regexp.MustCompile(`(?m)^main\..*\n\s+\S*?([^/\s]+/[^/\s]+\.go:\d+)`)

// cause returns the line that says why the process ended, and the line of the stage in which it
// crashed, as in "fatal error: sync: unlock of unlocked mutex, mine/store.go:43". Without a
// crash, it is the last line.
func (t *tail) cause() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	if !t.crash {
		return text[strings.LastIndex(text, "\n")+1:]
	}
	line, stacks, _ := strings.Cut(text, "\n")
	if call := stageCall.FindStringSubmatch(stacks); call != nil {
		line += ", " + call[1]
	}
	return line
}

// String returns the text, indented.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := cmp.Or(strings.TrimRight(string(t.text), "\n"), "(none)")
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}
