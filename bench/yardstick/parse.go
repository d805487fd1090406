package yardstick

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"lockstep/bench/workload"
	"lockstep/common/cluster"
)

// Parse returns the yardsticks that a list names, such as echo,redis=HOST:PORT, to compare
// with stages that run as so many nodes under this workload.
func Parse(list string, cfg cluster.Config, nodes int, work *workload.Workload) (all []*Yardstick, err error) {
	if list == "" {
		return nil, nil
	}
	for item := range strings.SplitSeq(list, ",") {
		word, addr, reached := strings.Cut(strings.TrimSpace(item), "=")
		program, ok := programs[word]
		y := &program
		switch {
		case word == "echo":
			y = newEcho(work)
		case word == "netrpc":
			y = newNetRPC()
		case !ok:
			return nil, fmt.Errorf("unknown yardstick %q: use echo, netrpc, redis or memcached", word)
		}
		if y.addr = addr; reached {
			if _, _, err := net.SplitHostPort(addr); err != nil || y.program == "" {
				return nil, fmt.Errorf("%s=%s: only redis=HOST:PORT and memcached=HOST:PORT can be reached", word, addr)
			}
		}
		if err := y.check(cfg, nodes); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other *Yardstick) bool { return other.Name == y.Name }) {
			return nil, fmt.Errorf("%s is named twice", word)
		}
		all = append(all, y)
	}
	return all, nil
}

// check returns an error if the yardstick cannot do what is asked for.
func (y *Yardstick) check(cfg cluster.Config, nodes int) error {
	switch {
	case nodes > 1:
		return fmt.Errorf("%s runs as one process, not as -nodes %d", y.Name, nodes)
	case cfg.Workload.Mix.CAS > 0 && y.noCAS != "":
		return fmt.Errorf("%s has no compare-and-swap for the cas=%d of -mix: %s", y.Name, cfg.Workload.Mix.CAS, y.noCAS)
	case cfg.Server.Work.Time > 0:
		return fmt.Errorf("%s cannot do -work %v: only a stage can", y.Name, cfg.Server.Work)
	}
	return nil
}
