package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/text"
	"lockstep/common/wire"
)

// stuckAfter is how long a node may have requests in progress and finish none, not
// counting the work that it was configured with.
const stuckAfter, lookEvery = 10 * time.Second, 100 * time.Millisecond

// watchStuck logs, once each time, that requests are in progress and none was finished
// for a long time, and where the goroutines of the stage are: what its author has to
// know of a lock that is never freed. It also logs and counts when the process did not run:
// a pause was a second longer than asked for, or more. It returns at the end of ctx.
func (n *Node) watchStuck(ctx context.Context, pause func(context.Context, time.Duration)) {
	limit := stuckAfter + wire.MaxOps*n.Config.Server.Work.Time
	before, looks := int64(-1), time.Duration(0) // looks without progress: a clock would count the time in which the process was suspended
	for {
		began := metrics.Now()
		if pause(ctx, lookEvery); ctx.Err() != nil {
			return
		}
		if late := metrics.Now() - began - lookEvery; late >= time.Second {
			n.Stats.Suspended.Add(late)
			n.Log.Warn(fmt.Sprintf("this process did not run for %s: it was stopped, had no processor, or the machine slept", text.Duration(late)))
		}
		turns := n.Stats.Turn.Load().Count
		done := turns + n.Stats.Requests.Load() + n.Stats.Panics.Load() // a turn may have many requests
		if looks++; done != before || n.Stats.QueueWait.Load().Count <= turns {
			before, looks = done, 0
		} else if looks == limit/lookEvery {
			n.Stats.Error("stuck")
			n.Log.Error(fmt.Sprintf("no request was finished for %v, and some are in progress: a deadlock? Goroutines are at: %s",
				limit, whereabouts(Stacks("main."))))
		}
	}
}

// Stacks returns the stacks of the goroutines in which one of the words occurs, such as
// the name of a package with a dot after it.
func Stacks(words ...string) (found []string) {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(stack, word) }) {
			found = append(found, strings.TrimSpace(stack))
		}
	}
	return found
}

// whereabouts lists the places in the program's own code at which goroutines are, and
// how many are there, the most crowded place first.
func whereabouts(stacks []string) string {
	counts := make(map[string]int)
	for _, stack := range stacks {
		counts[place(stack)]++
	}
	delete(counts, "")
	places := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, at := range places {
		places[i] = fmt.Sprintf("%d × %s", counts[at], at)
	}
	return strings.Join(places, "; ")
}

var (
	stateOf = regexp.MustCompile(`\[([^],]*)`)
	inMain  = regexp.MustCompile(`(?m)^main\.(.+)\(.*\n\s+(\S+)`) // a function, without its arguments, and its place
)

// place returns where in the stage a goroutine is, by its stack, such as
// "(*store).apply store.go:26, in sync.Mutex.Lock"; or "" if it is only in main.
func place(stack string) string {
	for _, call := range inMain.FindAllStringSubmatch(stack, -1) {
		if call[1] != "main" {
			return fmt.Sprintf("%s %s, in %s", call[1], filepath.Base(call[2]), stateOf.FindStringSubmatch(stack)[1])
		}
	}
	return ""
}

// panicSite returns the calls from a panic up to answer, innermost first, as attributes
// for the log. The deferred function that recovers calls it.
func panicSite() (args []any) {
	pcs := make([]uintptr, 50)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if !more || strings.HasSuffix(f.Function, "(*Node).answer") {
			return args
		}
		if !strings.HasPrefix(f.Function, "runtime.") {
			args = append(args, "at", fmt.Sprintf("%s %s:%d", path.Base(f.Function), filepath.Base(f.File), f.Line))
		}
	}
}
