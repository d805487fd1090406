package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String says the most important in six lines of at most 80 columns, without a
// newline at the end.
func (s Snapshot) String() string {
	var p page
	rate := float64(s.Requests) / max(s.Uptime.Seconds(), 1e-9)
	p.line("requests", "%s in %s (%s/s), %s operations, %s refused", count(s.Requests),
		short(s.Uptime), count(int64(rate)), count(s.Ops), count(s.Refusals))
	var errors int64
	for _, n := range s.Errors {
		errors += n
	}
	p.line("connections", "%s accepted, %s open, %s errors, %s panics",
		count(s.Connections), count(s.Open), count(errors), count(s.Panics))
	p.line("queue", "%s turns, begun %s after they were ready, in the mean",
		count(s.QueueWait.Count), short(s.QueueWait.Mean()))
	p.line("locks", "%s taken, %s contended (%.1f %%), mean wait then %s",
		count(s.Locks.Acquired), count(s.Locks.Contended), 100*share(s.Locks), short(s.Locks.Mean()))
	p.line("time", "a request: %s CPU, %s in the table; CPU in all %s",
		short(mean(s.CPU, s.Requests)), short(s.Table.Mean()), short(s.CPU))
	p.line("memory", "heap %s, peak %s; %s goroutines",
		size(s.Heap), size(s.PeakMemory), count(int64(s.Goroutines)))
	return p.String()
}

// Detail says all of it, String first.
func (s Snapshot) Detail() string {
	p := page{s.String()}
	state := "serving"
	if !s.Serving {
		state = "not serving"
	}
	p.line("up", "%s, %s", short(s.Uptime), state)
	p.line("waited", "%s for a worker, %s for locks, in all", short(s.QueueWait.Total), short(s.Locks.Waited))
	p.line("turns", "%s in all, with decoding and encoding", short(s.Turn.Total))
	p.line("table", "%s in the %s requests that were timed", short(s.Table.Total), count(s.Table.Count))
	p.line("held", "%d locks, each about %.1f %% of the time", s.Watched, 100*s.Held())
	for _, hot := range s.Hottest {
		p.line("hot bucket", "%d: %s taken, %s contended (%.1f %%), mean wait then %s", hot.Bucket,
			count(hot.Acquired), count(hot.Contended), 100*share(hot.Contention), short(hot.Mean()))
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
		p.line("error", "%s: %s", kind, count(s.Errors[kind]))
	}
	return p.String()
}

// A page is lines of text, each behind a label.
type page []string

func (p *page) line(label, format string, args ...any) {
	*p = append(*p, fmt.Sprintf("%-11s ", label)+fmt.Sprintf(format, args...))
}

func (p page) String() string { return strings.Join(p, "\n") }

// count writes n in groups of three digits, from a million on rounded to four.
func count(n int64) string {
	if n < 1_000_000 {
		digits := strconv.FormatInt(n, 10)
		if cut := len(digits) - 3; n >= 1000 {
			return digits[:cut] + " " + digits[cut:]
		}
		return digits
	}
	v, unit := float64(n)/1e6, 0
	for ; v >= 1000; unit++ {
		v /= 1000
	}
	return fmt.Sprintf("%.4g %c", v, "MGTPE"[unit])
}

// short writes d with three digits, or in whole seconds or minutes, and "-" for 0:
// there was nothing to take the mean of.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	case d >= time.Minute:
		return d.Round(time.Second).String()
	}
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}

// size writes a number of bytes, and "not known" for 0.
func size(bytes int64) string {
	if bytes == 0 {
		return "not known"
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}

// share is the share of the acquisitions that had to wait, from 0 to 1.
func share(c Contention) float64 { return float64(c.Contended) / float64(max(c.Acquired, 1)) }
