package yardstick

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"lockstep/bench/workload"
	"lockstep/common/cluster"
)

// ParseYardsticks returns those that a list names, such as echo,redis=HOST:PORT, for servers of
// so many nodes and this workload.
func Parse(list string, cfg cluster.Config, nodes int, work *workload.Workload) (all []*Yardstick, err error) {
	if list == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(list, ",") {
		word, addr, reached := strings.Cut(strings.TrimSpace(word), "=")
		var y *Yardstick
		switch word {
		case "echo":
			y = newEcho(work)
		case "netrpc":
			y = newNetRPC()
		case "redis":
			y = newRedis(work.Workload)
		case "memcached":
			y = newMemcached(work.Workload)
		default:
			return nil, fmt.Errorf("there is no yardstick %q: echo, netrpc, redis and memcached are", word)
		}
		if y.addr = addr; reached {
			if _, _, err := net.SplitHostPort(addr); err != nil || y.program == "" {
				return nil, fmt.Errorf("%s=%s: redis and memcached can be reached at HOST:PORT", word, addr)
			}
		}
		if err := y.can(cfg, nodes); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other *Yardstick) bool { return other.Name == y.Name }) {
			return nil, fmt.Errorf("%s is there twice", word)
		}
		all = append(all, y)
	}
	return all, nil
}

// can says what is asked for that the yardstick cannot do.
func (y *Yardstick) can(cfg cluster.Config, nodes int) error {
	switch {
	case nodes > 1:
		return fmt.Errorf("%s is one process, and -nodes is %d", y.Name, nodes)
	case cfg.Workload.Mix.CAS > 0 && y.noCAS != "":
		return fmt.Errorf("%s does no compare-and-swap, and -mix has cas=%d: %s", y.Name, cfg.Workload.Mix.CAS, y.noCAS)
	case cfg.Server.Work.Time > 0:
		return fmt.Errorf("%s does no work in its table, and -work is %v: only a stage can be told to", y.Name, cfg.Server.Work)
	}
	return nil
}
