package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"lockstep/common/text"
)

// String returns the most important figures in six lines of at most 80 columns, without
// a newline at the end.
func (s Snapshot) String() string { return strings.Join(s.lines()[:6], "\n") }

// Detail returns all figures, beginning with those of String.
func (s Snapshot) Detail() string { return strings.Join(s.lines(), "\n") }

func (s Snapshot) lines() (all []string) {
	line := func(label, format string, args ...any) {
		all = append(all, fmt.Sprintf("%-11s ", label)+fmt.Sprintf(format, args...))
	}
	var errors int64
	for _, n := range s.Errors {
		errors += n
	}
	peak := "not known"
	if s.PeakMemory > 0 {
		peak = text.Bytes(s.PeakMemory)
	}
	rate := float64(s.Requests) / max(s.Uptime.Seconds(), 1e-9)
	line("requests", "%s in %s (%s/s); operations %s; refused %s",
		text.ShortCount(s.Requests), text.Duration(s.Uptime), text.ShortCount(int64(rate)), text.ShortCount(s.Ops), text.ShortCount(s.Refusals))
	line("connections", "accepted %s, open %s; errors %s; panics %s",
		text.ShortCount(s.Connections), text.ShortCount(s.Open), text.ShortCount(errors), text.ShortCount(s.Panics))
	line("queue", "turns %s; mean wait to begin %s", text.ShortCount(s.QueueWait.Count), text.Duration(s.QueueWait.Mean()))
	line("locks", "%s", s.Locks.text())
	line("time", "per request: CPU %s, in the table %s; CPU in all %s",
		text.Duration(mean(s.CPU, s.Requests)), text.Duration(s.Table.Mean()), text.Duration(s.CPU))
	line("memory", "heap %s, peak %s; goroutines %s", text.Bytes(s.Heap), peak, text.ShortCount(int64(s.Goroutines)))
	line("serving", "%v", s.Serving)
	line("suspended", "%s, %s in all", text.Plural(s.Suspended.Count, "time"), text.Duration(s.Suspended.Total))
	line("waited", "for a worker %s, for memory %s, for locks %s, in all",
		text.Duration(s.QueueWait.Total), text.Duration(s.MemoryWait.Total), text.Duration(s.Locks.Waited))
	line("turns", "%s in all, including decoding and encoding", text.Duration(s.Turn.Total))
	line("table", "%s in %s that were timed", text.Duration(s.Table.Total), text.Plural(s.Table.Count, "request"))
	line("held", "%s, the most used about %.1f %% of the time", text.Plural(int64(s.Watched), "lock"), 100*s.Held())
	line("hot lock", "%s", s.Hot.text())
	for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
		line("error", "%s: %s", kind, text.ShortCount(s.Errors[kind]))
	}
	return all
}

func (c Contention) text() string {
	percent := 100 * float64(c.Contended) / float64(max(c.Acquired, 1))
	return fmt.Sprintf("taken %s, contended %s (%.1f %%); mean wait %s", text.ShortCount(c.Acquired), text.ShortCount(c.Contended), percent, text.Duration(c.Mean()))
}
