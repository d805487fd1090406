package yardstick

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/wire"
)

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
// with stages that run as so many nodes under this workload.
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

// noVersion is that of what is part of bench.
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
