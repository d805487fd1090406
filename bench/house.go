package main

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
type house struct {
	dir      string
	programs []program
	running  []*servers // in the order in which they were started

	addrs    func(n int) ([]string, error) // finds free ones
	patience time.Duration                 // how long servers may take to serve, and to stop after drain_timeout
}

// newHouse builds the stages in these directories.
func newHouse(ctx context.Context, sources []string, say func(string)) (*house, error) {
	dir, err := os.MkdirTemp("", "lockstep-")
	if err != nil {
		return nil, err
	}
	h := &house{dir: dir, addrs: freeAddrs, patience: 10 * time.Second}
	if h.programs, err = build(ctx, sources, dir, say); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// start starts a stage, as so many nodes on ports of their own, and returns when it
// serves. It runs until stop or close.
func (h *house) start(ctx context.Context, p program, cfg cluster.Config, nodes int) (*servers, error) {
	return h.place(2*nodes, func(addrs []string) (*servers, error) {
		s := newServers(p.name, cfg, addrs, h.patience)
		return s, s.startStage(ctx, p.path, addrs)
	})
}

// place has start start servers on so many ports, and tries again where one of them
// has been taken meanwhile.
func (h *house) place(ports int, start func(addrs []string) (*servers, error)) (*servers, error) {
	const tries = 5
	for try := 1; ; try++ {
		addrs, err := h.addrs(ports)
		if err != nil {
			return nil, err
		}
		s, err := start(addrs)
		if err == nil {
			h.running = append(h.running, s)
			return s, nil
		}
		if try == tries || !errors.Is(err, errPortTaken) {
			return nil, err
		}
	}
}

// with runs f while a stage serves.
func (h *house) with(ctx context.Context, p program, cfg cluster.Config, nodes int, f func(context.Context, cluster.Config) error) error {
	s, err := h.start(ctx, p, cfg, nodes)
	if err != nil {
		return err
	}
	watched, cancel := watch(ctx, s)
	err = reason(watched, f(watched, s.cfg))
	cancel()
	if e := h.stop(s); err == nil {
		err = e
	}
	return err
}

// stop stops a stage.
func (h *house) stop(s *servers) error {
	h.running = slices.DeleteFunc(h.running, func(r *servers) bool { return r == s })
	return s.stop()
}

// watch returns a context that ends, with the cause, when one of the running servers
// does. The caller ends it when it has no more use for them.
func (h *house) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	return watch(ctx, h.running...)
}

// close stops what runs, and removes the folder.
func (h *house) close() error {
	var errs []error
	for _, s := range h.running {
		errs = append(errs, s.stop())
	}
	err := os.RemoveAll(h.dir)
	for range 20 { // Windows keeps a program that has just ended for a moment
		if err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		err = os.RemoveAll(h.dir)
	}
	return errors.Join(append(errs, err)...)
}
