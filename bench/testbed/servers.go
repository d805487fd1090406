package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
)

// servers are the processes of one stage, one a node, on ports of their own; or of a
// yardstick.
type Servers struct {
	Stage    string // or the yardstick's name
	Cfg      cluster.Config
	Target   load.Target
	Procs    []*Proc // none of a yardstick that is not this program's
	patience time.Duration
}

var (
	errDied      = errors.New("died")
	errPortTaken = errors.New("a port that was free has been taken")
)

// newServers returns servers that are not started yet, one for each two of addrs.
func NewServers(stage string, cfg cluster.Config, addrs []string, patience time.Duration) *Servers {
	s := &Servers{Stage: stage, Cfg: cfg, patience: patience}
	s.Cfg.Nodes, s.Cfg.Clients = nil, nil
	for i := 0; i < len(addrs); i += 2 {
		s.Cfg.Nodes = append(s.Cfg.Nodes, cluster.Node{Addr: addrs[i], Control: addrs[i+1]})
	}
	s.Target = load.NewLockstep(s.Cfg)
	return s
}

// startStage starts the program at path as every node, and returns when they serve.
func (s *Servers) startStage(ctx context.Context, path string, addrs []string) error {
	file := path + ".json"
	if err := s.Cfg.Save(file); err != nil {
		return err
	}
	var cmds []*exec.Cmd
	for i := range s.Cfg.Nodes {
		cmds = append(cmds, exec.Command(path, "-child", "-config", file, "-node", strconv.Itoa(i)))
	}
	return s.Start(ctx, addrs, cmds, func(ctx context.Context, node int) error { return waitServing(ctx, s.Cfg, node) })
}

// start starts a process for each node, and returns when they serve, which wait waits
// for. Where one does not, none is left.
func (s *Servers) Start(ctx context.Context, addrs []string, cmds []*exec.Cmd, wait func(ctx context.Context, node int) error) error {
	err := s.tryStart(ctx, cmds, wait)
	if err == nil {
		return nil
	}
	s.Kill()
	for _, addr := range addrs {
		if errors.Is(err, errDied) && !free(addr) {
			return fmt.Errorf("%w: %w", errPortTaken, err)
		}
	}
	return err
}

func (s *Servers) tryStart(ctx context.Context, cmds []*exec.Cmd, wait func(ctx context.Context, node int) error) error {
	for _, cmd := range cmds {
		p, err := StartProc(cmd)
		if err != nil {
			return fmt.Errorf("starting %s: %w", s.Stage, err)
		}
		s.Procs = append(s.Procs, p)
	}
	ctx, stopWatch := watch(ctx, s)
	defer stopWatch()
	errLate := fmt.Errorf("after %v", s.patience)
	ctx, cancel := context.WithTimeoutCause(ctx, s.patience, errLate)
	defer cancel()
	for i := range cmds {
		last := wait(ctx, i)
		if cause := context.Cause(ctx); cause == errLate {
			return fmt.Errorf("%s, node %d, does not serve %w (%v)\nits last words:\n%s", s.Stage, i, errLate, last, s.Procs[i].Said)
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
		load.Pause(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			return last
		}
	}
}

// watch returns a context that ends, with the cause, when one of the processes does.
func watch(ctx context.Context, all ...*Servers) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	for _, s := range all {
		for i, p := range s.Procs {
			go func() { // ends with ctx
				select {
				case <-p.Dead:
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
func Reason(ctx context.Context, err error) error {
	if err != nil {
		load.Pause(ctx, time.Second)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// died says how a process ended that should not have.
func (s *Servers) died(i int) error {
	how := "exit status 0"
	if err := s.Procs[i].Err; err != nil {
		how = err.Error()
	}
	return fmt.Errorf("%s, node %d, %w (%s)\nits last words:\n%s", s.Stage, i, errDied, how, s.Procs[i].Said)
}

// lastWords is what the servers said last, if err is that no answer came.
func (s *Servers) LastWords(err error) (text string) {
	if errors.Is(err, load.ErrNoAnswer) {
		for i, p := range s.Procs {
			text += fmt.Sprintf("\nthe last words of node %d:\n%s", i, p.Said)
		}
	}
	return text
}

// stop asks the servers to drain, and waits until they have. What does not end by
// itself is killed.
func (s *Servers) stop() error {
	for _, p := range s.Procs {
		p.Stdin.Close()
	}
	late, cancel := context.WithTimeout(context.Background(), s.Cfg.Server.DrainTimeout+s.patience)
	defer cancel()
	var errs []error
	for i, p := range s.Procs {
		select {
		case <-p.Dead:
			if p.Err != nil {
				errs = append(errs, s.died(i))
			}
		case <-late.Done():
			p.Kill()
			errs = append(errs, fmt.Errorf("%s, node %d, did not stop when asked to, and was killed", s.Stage, i))
		}
	}
	return errors.Join(errs...)
}

// kill ends the servers at once.
func (s *Servers) Kill() {
	for _, p := range s.Procs {
		p.Kill()
	}
}
