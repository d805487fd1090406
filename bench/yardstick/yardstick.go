package yardstick

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// A yardstick is something that is no stage, measured beside the stages: by the same
// load, with every answer verified in the same way.
type Yardstick struct {
	Name    string
	addr    string // HOST:PORT of one that runs; "": it is to be started
	program string // that starts it; "": this one
	args    func(host, port, dir string) []string
	noCAS   string // why there is no compare-and-swap; "": there is

	dial func(ctx context.Context, addr string) (load.Asker, error)
	// version is what the one at addr calls itself; nil: it is part of this program.
	version func(ctx context.Context, addr string) (string, error)
}

// Start starts a yardstick, or makes sure that the one to be reached answers,
// and returns its version. One that is not installed is an exec.ErrNotFound.
func (y *Yardstick) Start(ctx context.Context, h *testbed.Bed, cfg cluster.Config) (version string, err error) {
	if y.addr != "" {
		ctx, cancel := context.WithTimeout(ctx, load.ConnectTime)
		defer cancel()
		if version, err = y.ask(ctx, y.addr); err != nil {
			return "", fmt.Errorf("%s at %s: %w", y.Name, y.addr, err)
		}
		cfg.Nodes = []cluster.Node{{Addr: y.addr}}
		h.Running = append(h.Running, &testbed.Servers{Name: y.Name, Config: cfg, Target: &yardTarget{y, cfg, 0}})
		return version + " at " + y.addr, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	if y.program != "" {
		if y.program, err = exec.LookPath(y.program); err != nil {
			return "", err
		}
	}
	commands := func(cfg cluster.Config) ([]*exec.Cmd, error) {
		return []*exec.Cmd{y.command(path, cfg.Nodes[0].Addr, h.Dir)}, nil
	}
	s, err := h.Launch(ctx, y.Name, cfg, 1, commands, func(ctx context.Context, cfg cluster.Config, _ int) (err error) {
		version, err = y.wait(ctx, cfg.Nodes[0].Addr)
		return err
	})
	if err == nil {
		s.Target = &yardTarget{y, s.Config, s.Procs[0].Cmd.Process.Pid}
	}
	return version, err
}

// command is how a yardstick is started: by this program, at path, which is it or keeps it.
func (y *Yardstick) command(path, addr, dir string) *exec.Cmd {
	if y.program == "" {
		return exec.Command(path, Command, y.Name, addr)
	}
	host, port, _ := net.SplitHostPort(addr)
	return exec.Command(path, append([]string{Command, "keep", y.program}, y.args(host, port, dir)...)...)
}

// ask makes sure that the yardstick at addr answers.
func (y *Yardstick) ask(ctx context.Context, addr string) (version string, err error) {
	if y.version != nil {
		return y.version(ctx, addr)
	}
	a, err := y.dial(ctx, addr)
	if err != nil {
		return "", err
	}
	return "", a.Close()
}

// wait waits until the yardstick at addr answers, or ctx has ended.
func (y *Yardstick) wait(ctx context.Context, addr string) (version string, err error) {
	for {
		if version, err = y.ask(ctx, addr); err == nil {
			return version, nil
		}
		load.Pause(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			return "", err
		}
	}
}

// A yardTarget is the Target of a yardstick that runs.
type yardTarget struct {
	*Yardstick
	cfg cluster.Config
	pid int // of its process; 0: it is not this program's
}

func (t *yardTarget) Config() cluster.Config { return t.cfg }

func (t *yardTarget) Dial(ctx context.Context) (load.Asker, error) {
	return t.dial(ctx, t.cfg.Nodes[0].Addr)
}

func (t *yardTarget) Open(ctx context.Context) (load.Asker, error) { return t.Dial(ctx) }

// Stats is what the yardstick's process has used.
func (t *yardTarget) Stats(context.Context) ([]metrics.Snapshot, error) {
	if t.pid == 0 {
		return nil, nil
	}
	cpu, peak := usageOf(t.pid)
	return []metrics.Snapshot{{Stage: t.Name, Serving: true, CPU: cpu, PeakMemory: peak}}, nil
}
