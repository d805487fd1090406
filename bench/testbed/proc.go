package testbed

import (
	"bytes"
	"cmp"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

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
