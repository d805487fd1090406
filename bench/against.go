package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strings"

	"lockstep/common/cluster"
)

const notFound = "not found in PATH"

// yardsticks are those that -against names, for this workload.
func (o *options) yardsticks(work *workload) (all []*yardstick, err error) {
	if o.against == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(o.against, ",") {
		word, addr, reached := strings.Cut(strings.TrimSpace(word), "=")
		var y *yardstick
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
			return nil, usageErrorf("-against: there is no yardstick %q: echo, netrpc, redis and memcached are", word)
		}
		if y.addr = addr; reached {
			if _, _, err := net.SplitHostPort(addr); err != nil || y.program == "" {
				return nil, usageErrorf("-against: %s=%s: redis and memcached can be reached at HOST:PORT", word, addr)
			}
		}
		if err := o.can(y); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other *yardstick) bool { return other.name == y.name }) {
			return nil, usageErrorf("-against: %s is there twice", word)
		}
		all = append(all, y)
	}
	return all, nil
}

// can says what is asked for that the yardstick cannot do.
func (o *options) can(y *yardstick) error {
	switch {
	case o.nodes > 1:
		return usageErrorf("-against: %s is one process, and -nodes is %d", y.name, o.nodes)
	case o.cfg.Workload.Mix.CAS > 0 && y.noCAS != "":
		return usageErrorf("-against: %s does no compare-and-swap, and -mix has cas=%d: %s", y.name, o.cfg.Workload.Mix.CAS, y.noCAS)
	case o.cfg.Server.Work.Time > 0:
		return usageErrorf("-against: %s does no work in its table, and -work is %v: only a stage can be told to", y.name, o.cfg.Server.Work)
	}
	return nil
}

// addYardsticks starts the yardsticks, and notes in the report what they are. Those
// that are not installed are left out.
func (h *house) addYardsticks(ctx context.Context, all []*yardstick, cfg cluster.Config, rep *Report, line *progress) error {
	for _, y := range all {
		if slices.Contains(rep.Stages, y.name) {
			return usageErrorf("-against: a stage is called %s, too", y.name)
		}
		line.say("starting " + y.name)
		version, err := h.startYardstick(ctx, y, cfg)
		switch {
		case errors.Is(err, exec.ErrNotFound):
			version = fmt.Sprintf("%s; %s=HOST:PORT reaches one that runs", notFound, y.name)
		case err != nil:
			return err
		default:
			rep.Stages = append(rep.Stages, y.name)
		}
		if version != "" {
			rep.Env.Yardsticks[y.name] = version
		}
	}
	if len(h.running) == 0 {
		return fmt.Errorf("there is nothing to measure: %s", strings.Join(rep.Env.absent(), ", "))
	}
	return nil
}

// absent says which yardsticks have no row in the report, and why.
func (e Environment) absent() (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(e.Yardsticks)) {
		if is := e.Yardsticks[name]; strings.HasPrefix(is, notFound) {
			lines = append(lines, name+": "+is)
		}
	}
	return lines
}

// versions are those of the yardsticks that are no part of this program.
func (e Environment) versions() (text string) {
	for _, name := range slices.Sorted(maps.Keys(e.Yardsticks)) {
		if is := e.Yardsticks[name]; !strings.HasPrefix(is, notFound) {
			text += ", " + name + " " + is
		}
	}
	return text
}
