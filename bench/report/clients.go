package report

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"lockstep/bench/load"
	"lockstep/common/text"
)

// A Client is what one of several client processes did in a round.
type Client struct {
	Missing bool `json:"missing,omitempty"` // it did not bring its result
	load.Counts
	Figures
	OpsPerSecond float64 `json:"ops_per_s,omitempty"`
	Invalid      string  `json:"invalid,omitempty"` // why it was measured, and not the servers
}

// AddClients is Add for the result of all client processes, nil if they are missing, and their
// sum. Each of them is judged by itself, as it has CPU time of its own. A round is not complete
// without all of them.
func (rep *Report) AddClients(stage string, round int, sum *load.Result, all []*load.Result) {
	if len(all) == 1 {
		rep.Add(stage, round, sum)
		return
	}
	run, laws := Run{Stage: stage, Round: round, Result: *sum}, []string(nil)
	for i, r := range all {
		if r == nil {
			run.Clients = append(run.Clients, Client{Missing: true})
			continue
		}
		one := Run{Result: *r}
		one.derive(false)
		c := Client{Counts: r.Counts, Figures: one.Figures, OpsPerSecond: one.OpsPerSecond, Invalid: invalid(r, int(math.Ceil(r.Cores)))}
		if run.Clients = append(run.Clients, c); c.Invalid != "" {
			run.Invalid = cmp.Or(run.Invalid, fmt.Sprintf("client %d: %s", i, c.Invalid))
		}
		for _, law := range brokenLaws(r, rep.depth(""), 0) {
			laws = append(laws, fmt.Sprintf("client %d: %s", i, law))
		}
	}
	if rep.Env.Shared { // one CPU time for all
		run.Invalid = cmp.Or(run.Invalid, invalid(sum, rep.Env.CPUs))
		laws = append(laws, brokenLaws(sum, 0, max(rep.Env.Cores, rep.Env.CPUs))...)
	}
	rep.add(run, laws)
}

// missing says which clients are missing from a round; "" if none is.
func (rep *Report) missing(run *Run) string {
	var all []string
	for i, c := range run.Clients {
		if c.Missing {
			all = append(all, rep.client(i))
		}
	}
	if all == nil {
		return ""
	}
	return "missing: " + strings.Join(all, ", ")
}

func (rep *Report) client(number int) string {
	name := fmt.Sprintf("client %d", number)
	if number < len(rep.Config.Clients) {
		name += " (" + rep.Config.Clients[number].Control + ")"
	}
	return name
}

// clients returns a table with a row for each client, if there are several, so that one that is
// worse off than the others is seen.
func (rep *Report) clients() []Table {
	rounds := rep.Summary[0].Runs
	if len(rep.Summary) > 1 || len(rounds[0].Clients) < 2 {
		return nil
	}
	t := Table{Head: []string{"client", "ops/s", "p99", "CPU/request", "notes"}}
	for i := range rounds[0].Clients {
		var took []*Run
		for _, run := range rounds {
			if i < len(run.Clients) && !run.Clients[i].Missing {
				c := &run.Clients[i]
				took = append(took, &Run{Result: load.Result{Counts: c.Counts}, Figures: c.Figures, OpsPerSecond: c.OpsPerSecond, Invalid: c.Invalid})
			}
		}
		row, notes := []string{rep.client(i), "", "", ""}, []string(nil)
		note := func(n int64, what string) {
			if n > 0 {
				notes = append(notes, text.Count(n)+" "+what)
			}
		}
		if took != nil {
			s := summarize(took)
			if row[1] = text.Sig3(s.OpsPerSecond.Median); s.Requests > 0 {
				row[2], row[3] = s.written(s.Latency, "", "p99"), text.Duration(time.Duration(s.ClientCPUPerRequest))
			}
			if s.invalid() {
				notes = append(notes, "INVALID")
			}
			note(int64(s.Starved), fmt.Sprintf("of %d starved", s.Connections))
			note(s.Failed(), "failed")
			note(s.Misses, "missed")
			note(s.Wrong, "wrong")
		}
		note(int64(len(rounds)-len(took)), "× MISSING")
		t.Rows = append(t.Rows, append(row, strings.Join(notes, ", ")))
	}
	return []Table{t}
}
