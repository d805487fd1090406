package testbed

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// A proc is a server process. It stops at the end of its standard input, and so at
// the latest when this program ends, however that happens.
type Proc struct {
	Cmd   *exec.Cmd
	Stdin io.Closer
	Said  *tail         // the last that it wrote
	Dead  chan struct{} // closed when it has ended; err is set before
	Err   error
}

func StartProc(cmd *exec.Cmd) (*Proc, error) {
	p := &Proc{Cmd: cmd, Said: new(tail), Dead: make(chan struct{})}
	cmd.Dir = filepath.Dir(cmd.Path)
	cmd.Stdout, cmd.Stderr = p.Said, p.Said
	cmd.SysProcAttr = apart() // Ctrl-C is for this program, which then stops the servers
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.Stdin = stdin
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process, which stop and kill wait for
		p.Err = cmd.Wait()
		close(p.Dead)
	}()
	return p, nil
}

// kill ends the process at once.
func (p *Proc) Kill() {
	killApart(p.Cmd.Process)
	<-p.Dead
}

// A tail keeps the last lines that were written to it; but of a crash, of which the
// first lines say more than many goroutines' stacks, the first ones.
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
	switch cut := len(t.text) - tailSize; {
	case cut <= 0:
	case t.crash:
		t.text = t.text[:tailSize]
	default:
		if line := bytes.IndexByte(t.text[cut:], '\n'); line >= 0 {
			cut += line + 1
		}
		t.text = append(t.text[:0], t.text[cut:]...)
	}
	return len(p), nil
}

// String is what was kept, indented.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.text) == 0 {
		return "    (none)"
	}
	return "    " + strings.ReplaceAll(strings.TrimRight(string(t.text), "\n"), "\n", "\n    ")
}
