// Package yardstick measures other servers beside the stages: an echo server as the limit
// of what a stage can reach, net/rpc, Redis and memcached. It starts and stops them, and
// holds the codecs with which package load speaks to them.
package yardstick

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A Yardstick is a server that is not a stage. It gets the same load as the stages, and
// each of its answers is verified in the same way.
type Yardstick struct {
	Name    string
	addr    string // HOST:PORT of one that runs already; "" if it has to be started
	program string // that has to be started; "" if it is this one
	args    func(host, port, dir string, w cluster.Workload) []string
	noCAS   string // why it has no compare-and-swap; "" if it has

	codec   func(in *bufio.Reader) load.Codec
	hello   string                                 // a request for the version
	version func(in *bufio.Reader) (string, error) // reads the answer to hello
}

const bufferSize = 16 << 10 // bytes

// Start starts the yardstick, or makes sure that the one to be reached answers. The error of
// a program that is not installed is exec.ErrNotFound.
func (y *Yardstick) Start(ctx context.Context, bed *testbed.Bed, cfg cluster.Config) (*testbed.Servers, error) {
	if y.addr != "" {
		asking, cancel := context.WithTimeout(ctx, load.ConnectTime)
		defer cancel()
		version, err := y.ask(asking, y.addr)
		if err != nil {
			return nil, fmt.Errorf("%s at %s: %w", y.Name, y.addr, err)
		}
		cfg.Nodes = []cluster.Node{{Addr: y.addr}}
		s := &testbed.Servers{Name: y.Name, Version: version + " at " + y.addr, Config: cfg, Target: target{y, cfg, 0}}
		bed.Running = append(bed.Running, s)
		return s, nil
	}
	start := func(cfg cluster.Config) ([]*exec.Cmd, error) { return y.command(cfg, bed.Dir) }
	var version string
	s, err := bed.Launch(ctx, y.Name, cfg, 1, start, func(ctx context.Context, cfg cluster.Config, _ int) (err error) {
		version, err = y.ask(ctx, cfg.Nodes[0].Addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.Version, s.Target = version, target{y, s.Config, s.Procs[0].Cmd.Process.Pid}
	return s, nil
}

// command returns the command that starts the yardstick: this program, which serves by itself
// or keeps the yardstick's program.
func (y *Yardstick) command(cfg cluster.Config, dir string) ([]*exec.Cmd, error) {
	self, err := os.Executable()
	addr := cfg.Nodes[0].Addr
	if err != nil || y.program == "" {
		return []*exec.Cmd{exec.Command(self, Command, y.Name, addr)}, err
	}
	program, err := exec.LookPath(y.program)
	host, port, _ := net.SplitHostPort(addr)
	args := append([]string{Command, "keep", program}, y.args(host, port, dir, cfg.Workload)...)
	return []*exec.Cmd{exec.Command(self, args...)}, err
}

// ask connects to the server at addr and returns its version, if it has one.
func (y *Yardstick) ask(ctx context.Context, addr string) (version string, err error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if _, err := io.WriteString(nc, y.hello); err != nil {
		return "", err
	}
	in := bufio.NewReaderSize(nc, bufferSize)
	if y.hello != "" { // there is an answer
		in.Peek(1)
	}
	if head, _ := in.Peek(min(in.Buffered(), 8)); string(head) == "lockstep" {
		return "", errors.New("this is a Lockstep server, which -stages or bench run measures")
	}
	return y.version(in)
}

// A target is the load.Target of a yardstick that runs.
type target struct {
	*Yardstick
	cfg cluster.Config
	pid int // of its process; 0 if it was running before
}

func (t target) Config() cluster.Config { return t.cfg }

func (t target) Dial(ctx context.Context) (load.Client, error) {
	return load.Dial(ctx, t.cfg, func(_ context.Context, _ int, nc net.Conn) (load.Codec, error) {
		return t.codec(bufio.NewReaderSize(nc, bufferSize)), nil
	})
}

func (t target) Client() string { return load.Pipelined }

func (t target) Open(ctx context.Context) (load.Client, error) { return t.Dial(ctx) }

// Stats returns what the yardstick's processes have used. A keeper uses nothing while it
// waits.
func (t target) Stats(context.Context) ([]metrics.Snapshot, error) {
	if t.pid == 0 {
		return nil, nil
	}
	return []metrics.Snapshot{{Stage: t.Name, Serving: true, CPU: cpuOf(t.pid)}}, nil
}

// cpuOf returns the CPU time, user and system, that the processes of a group have used. Only
// Linux tells: elsewhere it is 0.
func cpuOf(group int) (cpu time.Duration) {
	const tick = 10 * time.Millisecond // USER_HZ, the same on all processors that Go supports
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		stat, _ := os.ReadFile(process + "/stat")      // nothing of a process that is gone
		stat = stat[bytes.LastIndexByte(stat, ')')+1:] // after the name, which may contain anything
		var its, user, system int
		var skip string
		fmt.Sscan(string(stat), &skip, &skip, &its, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system)
		if its == group {
			cpu += time.Duration(user+system) * tick
		}
	}
	return cpu
}

// Command is the command of bench that runs a yardstick, see Serve.
const Command = "yardstick"

// Serve is what bench does in a process of a yardstick:
//
//	bench yardstick echo ADDR
//	bench yardstick net/rpc ADDR
//	bench yardstick keep PROGRAM ARGUMENTS
//
// It returns at the end of stdin, like a stage with -child.
func Serve(ctx context.Context, args []string, stdin io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process, at the latest
		io.Copy(io.Discard, stdin)
		cancel()
	}()
	serve := map[string]func(net.Conn){"echo": serveEcho, "net/rpc": newRPCServer()}
	if len(args) < 2 || args[0] != "keep" && serve[args[0]] == nil {
		return fmt.Errorf("%s needs a yardstick and an address: bench starts it by itself, use compare -against", Command)
	}
	if args[0] == "keep" {
		return keep(ctx, args[1:])
	}
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	for {
		nc, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		go func() { // ends with its client, or with the process
			defer nc.Close()
			serve[args[0]](nc)
		}()
	}
}

// keep runs a program until ctx ends. The program does not stop at the end of its own
// standard input, but keep does, so that it cannot outlive the process that started keep.
// The program has nothing on disk, so it can be killed.
func keep(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s has ended: %w", args[0], cmp.Or(err, errors.New("exit status 0")))
}

// yardsticks are those that need not know the workload, by their names in -against.
var yardsticks = map[string]Yardstick{
	// What the standard library has for this purpose: package net/rpc, which speaks gob over
	// TCP and answers each request in a goroutine of its own, with one table behind one lock.
	"netrpc": {Name: "net/rpc", codec: newRPCCodec, version: noVersion},
	// without persistence
	"redis": {
		Name: "redis", program: "redis-server", noCAS: "Redis would need a script for it", codec: redis.codec,
		hello: "*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n", version: redisVersion,
		args: func(host, port, dir string, w cluster.Workload) []string {
			return []string{"--bind", host, "--port", port, "--protected-mode", "yes", "--dir", dir,
				"--save", "", "--appendonly", "no", "--maxclients", strconv.Itoa(max(10_000, 2*w.Connections))}
		},
	},
	// with so much memory that it never evicts a value
	"memcached": {
		Name: "memcached", program: "memcached", noCAS: "memcached compares versions, not values", codec: memcached.codec,
		hello: "version\r\nmn\r\n", version: memcachedVersion,
		args: func(host, port, _ string, w cluster.Workload) []string {
			memory := 64 + 2*w.Keys*wire.MaxValue>>20 // MiB; none is taken before it is needed
			args := []string{"-l", host, "-p", port, "-U", "0", "-m", strconv.Itoa(memory), "-c", strconv.Itoa(max(1024, 2*w.Connections))}
			if os.Getuid() == 0 {
				args = append(args, "-u", "root") // memcached insists on it
			}
			return args
		},
	},
}

// Parse returns the yardsticks that a list names, such as echo,redis=HOST:PORT, to compare
// with stages that run as the given number of nodes under this workload.
func Parse(list string, cfg cluster.Config, nodes int, work *workload.Workload) (all []*Yardstick, err error) {
	if list == "" {
		return nil, nil
	}
	for item := range strings.SplitSeq(list, ",") {
		word, addr, reached := strings.Cut(strings.TrimSpace(item), "=")
		found, ok := yardsticks[word]
		y := &found
		if word == "echo" {
			y = newEcho(work)
		} else if !ok {
			return nil, fmt.Errorf("unknown yardstick %q: use echo, netrpc, redis or memcached", word)
		}
		y.addr = addr
		_, _, malformedAddr := net.SplitHostPort(addr)
		switch {
		case reached && (malformedAddr != nil || y.program == ""):
			return nil, fmt.Errorf("%s=%s: only redis=HOST:PORT and memcached=HOST:PORT can be reached", word, addr)
		case nodes > 1:
			return nil, fmt.Errorf("%s runs as one process, not as -nodes %d", y.Name, nodes)
		case cfg.Workload.Mix.CAS > 0 && y.noCAS != "":
			return nil, fmt.Errorf("%s has no compare-and-swap for the cas=%d of -mix: %s", y.Name, cfg.Workload.Mix.CAS, y.noCAS)
		case cfg.Server.Work.Time > 0:
			return nil, fmt.Errorf("%s cannot do -work %v: only a stage can", y.Name, cfg.Server.Work)
		case slices.ContainsFunc(all, func(other *Yardstick) bool { return other.Name == y.Name }):
			return nil, fmt.Errorf("%s is named twice", word)
		}
		all = append(all, y)
	}
	return all, nil
}

// noVersion is the version of a yardstick that is part of bench.
func noVersion(*bufio.Reader) (string, error) { return "", nil }

func redisVersion(in *bufio.Reader) (string, error) {
	info, err := redis.read(in, wire.Get) // an answer of the same form
	_, version, ok := strings.Cut(string(info.Value), "redis_version:")
	if err == nil && !ok {
		err = errors.New("the server does not give a version of Redis")
	}
	version, _, _ = strings.Cut(version, "\r\n")
	return version, err
}

func memcachedVersion(in *bufio.Reader) (string, error) {
	line, err := readLine(in)
	version, ok := strings.CutPrefix(string(line), "VERSION ")
	if err != nil || !ok {
		return "", cmp.Or(err, malformed(line))
	}
	if line, err = readLine(in); err == nil && string(line) != "MN" {
		err = fmt.Errorf("memcached %s does not know meta commands, which came with 1.6", version)
	}
	return version, err
}
