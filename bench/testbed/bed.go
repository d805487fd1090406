package testbed

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"lockstep/common/cluster"
)

// A house is the stages that a command has built, and those that run, in a folder of
// its own. After close nothing is left of it.
type Bed struct {
	Dir      string
	Programs []Program
	Running  []*Servers // in the order in which they were started

	Addrs    func(n int) ([]string, error) // finds free ones
	Patience time.Duration                 // how long servers may take to serve, and to stop after drain_timeout
}

// newHouse builds the stages in these directories.
func New(ctx context.Context, sources []string, say func(string)) (*Bed, error) {
	dir, err := os.MkdirTemp("", "lockstep-")
	if err != nil {
		return nil, err
	}
	h := &Bed{Dir: dir, Addrs: FreeAddrs, Patience: 10 * time.Second}
	if h.Programs, err = build(ctx, sources, dir, say); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// start starts a stage, as so many nodes on ports of their own, and returns when it
// serves. It runs until stop or close.
func (h *Bed) Start(ctx context.Context, p Program, cfg cluster.Config, nodes int) (*Servers, error) {
	return h.Place(2*nodes, func(addrs []string) (*Servers, error) {
		s := NewServers(p.Name, cfg, addrs, h.Patience)
		return s, s.startStage(ctx, p.path, addrs)
	})
}

// place has start start servers on so many ports, and tries again where one of them
// has been taken meanwhile.
func (h *Bed) Place(ports int, start func(addrs []string) (*Servers, error)) (*Servers, error) {
	const tries = 5
	for try := 1; ; try++ {
		addrs, err := h.Addrs(ports)
		if err != nil {
			return nil, err
		}
		s, err := start(addrs)
		if err == nil {
			h.Running = append(h.Running, s)
			return s, nil
		}
		if try == tries || !errors.Is(err, errPortTaken) {
			return nil, err
		}
	}
}

// with runs f while a stage serves.
func (h *Bed) With(ctx context.Context, p Program, cfg cluster.Config, nodes int, f func(context.Context, cluster.Config) error) error {
	s, err := h.Start(ctx, p, cfg, nodes)
	if err != nil {
		return err
	}
	watched, cancel := watch(ctx, s)
	err = Reason(watched, f(watched, s.Cfg))
	cancel()
	if e := h.Stop(s); err == nil {
		err = e
	}
	return err
}

// stop stops a stage.
func (h *Bed) Stop(s *Servers) error {
	h.Running = slices.DeleteFunc(h.Running, func(r *Servers) bool { return r == s })
	return s.stop()
}

// watch returns a context that ends, with the cause, when one of the running servers
// does. The caller ends it when it has no more use for them.
func (h *Bed) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	return watch(ctx, h.Running...)
}

// close stops what runs, and removes the folder.
func (h *Bed) Close() error {
	var errs []error
	for _, s := range h.Running {
		errs = append(errs, s.stop())
	}
	err := os.RemoveAll(h.Dir)
	for range 20 { // Windows keeps a program that has just ended for a moment
		if err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		err = os.RemoveAll(h.Dir)
	}
	return errors.Join(append(errs, err)...)
}
