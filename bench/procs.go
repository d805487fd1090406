package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// servers are the processes of one stage, one a node, on ports of their own.
type servers struct {
	stage string
	cfg   cluster.Config // with their addresses
	procs []*proc
}

// A proc is one server process. It stops at the end of its standard input, and so
// at the latest when this program ends, however that happens.
type proc struct {
	cmd   *exec.Cmd
	stdin io.Closer
	said  *tail         // the last that it wrote
	dead  chan struct{} // closed when it has ended; err is set before
	err   error
}

// startServers starts p as every node of cfg, nodes of them, on free ports, and
// waits until they serve.
func startServers(ctx context.Context, p program, cfg cluster.Config, nodes int) (*servers, error) {
	const tries = 5
	for try := 1; ; try++ {
		s, err := tryServers(ctx, p, cfg, nodes)
		if err == nil || try == tries || !errors.Is(err, errPortTaken) {
			return s, err
		}
	}
}

var errPortTaken = errors.New("a port that was free has been taken")

func tryServers(ctx context.Context, p program, cfg cluster.Config, nodes int) (_ *servers, err error) {
	s := &servers{stage: p.name, cfg: cfg}
	addrs, err := freeAddrs(2 * nodes)
	if err != nil {
		return nil, err
	}
	s.cfg.Nodes = nil
	s.cfg.Clients = nil
	for i := range nodes {
		s.cfg.Nodes = append(s.cfg.Nodes, cluster.Node{Addr: addrs[2*i], Control: addrs[2*i+1]})
	}
	file := p.path + ".json"
	if err := s.cfg.Save(file); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.kill()
		}
	}()
	for i := range nodes {
		proc, err := startProc(p.path, "-child", "-config", file, "-node", fmt.Sprint(i))
		if err != nil {
			return nil, fmt.Errorf("starting %s: %w", p.name, err)
		}
		s.procs = append(s.procs, proc)
	}
	for i := range nodes {
		if err := s.waitServing(ctx, i); err != nil {
			if errors.Is(err, errDied) && !free(addrs[2*i]) || !free(addrs[2*i+1]) {
				err = fmt.Errorf("%w: %w", errPortTaken, err)
			}
			return nil, err
		}
	}
	return s, nil
}

func startProc(path string, args ...string) (*proc, error) {
	p := &proc{cmd: exec.Command(path, args...), said: new(tail), dead: make(chan struct{})}
	p.cmd.Dir = filepath.Dir(path)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process; stop and kill wait for it
		p.err = p.cmd.Wait()
		close(p.dead)
	}()
	return p, nil
}

var errDied = errors.New("died")

// died says how a process ended that should not have.
func (s *servers) died(i int) error {
	how := "exit status 0"
	if err := s.procs[i].err; err != nil {
		how = err.Error()
	}
	return fmt.Errorf("%s, node %d, %w (%s); its last words:\n%s", s.stage, i, errDied, how, s.procs[i].said)
}

// waitServing waits until a node has passed the barrier, for 10 s at most.
func (s *servers) waitServing(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		snapshot, err := client.Stats(ctx, s.cfg, i)
		if err == nil && snapshot.Serving {
			return nil
		}
		select {
		case <-s.procs[i].dead:
			return s.died(i)
		case <-ctx.Done():
			if ctx.Err() == context.DeadlineExceeded {
				return fmt.Errorf("%s, node %d, does not serve after 10s (%v); its last words:\n%s", s.stage, i, err, s.procs[i].said)
			}
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// watch returns a context that ends, with the cause, when one of the servers does.
// The caller ends it when it has no more use for them.
func (s *servers) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	for i, p := range s.procs {
		go func() { // ends with ctx
			select {
			case <-p.dead:
				cancel(s.died(i))
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(context.Canceled) }
}

// statsOf asks every node of a cluster what it has counted.
func statsOf(ctx context.Context, cfg cluster.Config) (nodes []metrics.Snapshot, err error) {
	for i := range cfg.Nodes {
		snapshot, err := client.Stats(ctx, cfg, i)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, snapshot)
	}
	return nodes, nil
}

// stop asks the servers to drain, and waits until they have. What does not end by
// itself is killed.
func (s *servers) stop() error {
	for _, p := range s.procs {
		p.stdin.Close()
	}
	late := time.After(s.cfg.Server.DrainTimeout + 5*time.Second)
	var errs []error
	for i, p := range s.procs {
		select {
		case <-p.dead:
		case <-late:
			p.cmd.Process.Kill()
			<-p.dead
			errs = append(errs, fmt.Errorf("%s, node %d, did not stop when asked to, and was killed", s.stage, i))
			continue
		}
		if p.err != nil {
			errs = append(errs, s.died(i))
		}
	}
	return errors.Join(errs...)
}

// kill ends the servers at once.
func (s *servers) kill() {
	for _, p := range s.procs {
		p.cmd.Process.Kill()
		<-p.dead
	}
}

// freeAddrs returns n different loopback addresses whose ports are free now. Their
// ports are below the ephemeral range, in which a client's socket could take one
// between now and the server's start.
func freeAddrs(n int) ([]string, error) {
	const low, high = 20_000, 32_000
	var addrs []string
	taken := make(map[int]bool)
	for range 100 * n {
		port := low + rand.IntN(high-low)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if taken[port] || !free(addr) {
			continue
		}
		taken[port] = true
		if addrs = append(addrs, addr); len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports on 127.0.0.1 between %d and %d", n, low, high)
}

func free(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

// A tail keeps the last lines that were written to it.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

const tailSize = 2 << 10 // bytes

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if cut := len(t.text) - tailSize; cut > 0 {
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
