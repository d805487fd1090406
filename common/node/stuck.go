package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// stuckAfter is how long no request may be done while some are under way, the work that
// was asked for aside.
const stuckAfter = 10 * time.Second

// watchStuck says, once each time, that requests are under way and none has been done for a long
// time, and where the goroutines of the stage are: what its author has to know of a lock
// that nobody frees. It ends with ctx.
func (n *Node) watchStuck(ctx context.Context) {
	limit := stuckAfter + wire.MaxOps*n.Config.Server.Work.Time
	look := time.NewTicker(time.Second)
	defer look.Stop()
	before, looks := int64(-1), time.Duration(0) // looks without progress: a clock would count a process that was suspended
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		turns := n.Stats.Turn.Load().Count
		done := turns + n.Stats.Requests.Load() + n.Stats.Panics.Load() // a turn may have many requests
		if looks++; done != before || n.Stats.QueueWait.Load().Count <= turns {
			before, looks = done, 0
		} else if looks == limit/time.Second {
			n.Stats.Error("stuck")
			n.Log.Error(fmt.Sprintf("requests are under way, and none was done for %v; a deadlock? Goroutines are at: %s",
				limit, whereabouts(metrics.Stacks("main."))))
		}
	}
}

// whereabouts names the places in the program's own code at which goroutines are, and
// how many, the most first.
func whereabouts(stacks []string) string {
	counts := make(map[string]int)
	for _, stack := range stacks {
		if at := place(stack); at != "" {
			counts[at]++
		}
	}
	var places []string
	for _, at := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	}) {
		places = append(places, fmt.Sprintf("%d × %s", counts[at], at))
	}
	return strings.Join(places, "; ")
}

// place is where a goroutine is, by its stack: "(*store).apply store.go:26, in
// sync.Mutex.Lock"; "" if it is in main alone.
func place(stack string) string {
	lines := strings.Split(stack, "\n")
	_, state, _ := strings.Cut(lines[0], "[")
	state, _, _ = strings.Cut(strings.TrimRight(state, "]:"), ",")
	for i, line := range lines[:len(lines)-1] {
		name, own := strings.CutPrefix(line, "main.")
		if !own || strings.HasPrefix(name, "main(") {
			continue
		}
		if end := strings.LastIndex(name, "("); end > 0 {
			name = name[:end] // its arguments
		}
		at, _, _ := strings.Cut(strings.TrimSpace(lines[i+1]), " ")
		return fmt.Sprintf("%s %s, in %s", name, filepath.Base(at), state)
	}
	return ""
}
