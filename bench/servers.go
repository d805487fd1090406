package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
)

// servers are the processes of one stage, one a node, on ports of their own; or of a
// yardstick.
type servers struct {
	stage    string // or the yardstick's name
	cfg      cluster.Config
	target   Target
	procs    []*proc // none of a yardstick that is not this program's
	patience time.Duration
}

var (
	errDied      = errors.New("died")
	errPortTaken = errors.New("a port that was free has been taken")
)

// newServers returns servers that are not started yet, one for each two of addrs.
func newServers(stage string, cfg cluster.Config, addrs []string, patience time.Duration) *servers {
	s := &servers{stage: stage, cfg: cfg, patience: patience}
	s.cfg.Nodes, s.cfg.Clients = nil, nil
	for i := 0; i < len(addrs); i += 2 {
		s.cfg.Nodes = append(s.cfg.Nodes, cluster.Node{Addr: addrs[i], Control: addrs[i+1]})
	}
	s.target = NewLockstep(s.cfg)
	return s
}

// startStage starts the program at path as every node, and returns when they serve.
func (s *servers) startStage(ctx context.Context, path string, addrs []string) error {
	file := path + ".json"
	if err := s.cfg.Save(file); err != nil {
		return err
	}
	var cmds []*exec.Cmd
	for i := range s.cfg.Nodes {
		cmds = append(cmds, exec.Command(path, "-child", "-config", file, "-node", strconv.Itoa(i)))
	}
	return s.start(ctx, addrs, cmds, func(ctx context.Context, node int) error { return waitServing(ctx, s.cfg, node) })
}

// start starts a process for each node, and returns when they serve, which wait waits
// for. Where one does not, none is left.
func (s *servers) start(ctx context.Context, addrs []string, cmds []*exec.Cmd, wait func(ctx context.Context, node int) error) error {
	err := s.tryStart(ctx, cmds, wait)
	if err == nil {
		return nil
	}
	s.kill()
	for _, addr := range addrs {
		if errors.Is(err, errDied) && !free(addr) {
			return fmt.Errorf("%w: %w", errPortTaken, err)
		}
	}
	return err
}

func (s *servers) tryStart(ctx context.Context, cmds []*exec.Cmd, wait func(ctx context.Context, node int) error) error {
	for _, cmd := range cmds {
		p, err := startProc(cmd)
		if err != nil {
			return fmt.Errorf("starting %s: %w", s.stage, err)
		}
		s.procs = append(s.procs, p)
	}
	ctx, stopWatch := watch(ctx, s)
	defer stopWatch()
	errLate := fmt.Errorf("after %v", s.patience)
	ctx, cancel := context.WithTimeoutCause(ctx, s.patience, errLate)
	defer cancel()
	for i := range cmds {
		last := wait(ctx, i)
		if cause := context.Cause(ctx); cause == errLate {
			return fmt.Errorf("%s, node %d, does not serve %w (%v)\nits last words:\n%s", s.stage, i, errLate, last, s.procs[i].said)
		} else if cause != nil {
			return cause
		}
	}
	return nil
}

// waitServing waits until a node has passed the barrier, or ctx has ended: then it
// returns what the last try came to.
func waitServing(ctx context.Context, cfg cluster.Config, node int) error {
	last := errors.New("no answer")
	for {
		snapshot, err := client.Stats(ctx, cfg, node)
		var timeout net.Error
		switch {
		case err == nil && snapshot.Serving:
			return nil
		case err == nil:
			last = errors.New("it waits for its peers")
		case !errors.As(err, &timeout) || !timeout.Timeout(): // which says nothing new at the end
			last = err
		}
		pause(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			return last
		}
	}
}

// watch returns a context that ends, with the cause, when one of the processes does.
func watch(ctx context.Context, all ...*servers) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	for _, s := range all {
		for i, p := range s.procs {
			go func() { // ends with ctx
				select {
				case <-p.dead:
					cancel(s.died(i))
				case <-ctx.Done():
				}
			}()
		}
	}
	return ctx, func() { cancel(context.Canceled) }
}

// reason is why something went wrong: err, or that one of the servers that ctx
// watches is dead. What came of that is often known a moment before it.
func reason(ctx context.Context, err error) error {
	if err != nil {
		pause(ctx, time.Second)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// died says how a process ended that should not have.
func (s *servers) died(i int) error {
	how := "exit status 0"
	if err := s.procs[i].err; err != nil {
		how = err.Error()
	}
	return fmt.Errorf("%s, node %d, %w (%s)\nits last words:\n%s", s.stage, i, errDied, how, s.procs[i].said)
}

// lastWords is what the servers said last, if err is that no answer came.
func (s *servers) lastWords(err error) (text string) {
	if errors.Is(err, ErrNoAnswer) {
		for i, p := range s.procs {
			text += fmt.Sprintf("\nthe last words of node %d:\n%s", i, p.said)
		}
	}
	return text
}

// stop asks the servers to drain, and waits until they have. What does not end by
// itself is killed.
func (s *servers) stop() error {
	for _, p := range s.procs {
		p.stdin.Close()
	}
	late, cancel := context.WithTimeout(context.Background(), s.cfg.Server.DrainTimeout+s.patience)
	defer cancel()
	var errs []error
	for i, p := range s.procs {
		select {
		case <-p.dead:
			if p.err != nil {
				errs = append(errs, s.died(i))
			}
		case <-late.Done():
			p.kill()
			errs = append(errs, fmt.Errorf("%s, node %d, did not stop when asked to, and was killed", s.stage, i))
		}
	}
	return errors.Join(errs...)
}

// kill ends the servers at once.
func (s *servers) kill() {
	for _, p := range s.procs {
		p.kill()
	}
}
