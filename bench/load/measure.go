package load

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// sayTime is how long a server that was stuck during the grace still takes to say so.
const sayTime = 7 * time.Second

// Measure connects as New does, and measures one round: see Round.
func Measure(ctx context.Context, to Target, work *workload.Workload, first int, told Told) (*Result, error) {
	g, err := New(ctx, to, work, first)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	g.Told = told
	return g.Round(ctx)
}

// Round warms up the connections that are kept, and puts the load on the servers. If ctx ends
// meanwhile, there is a result beside the error.
func (g *Generator) Round(ctx context.Context) (*Result, error) {
	if err := g.Meet(ctx); err != nil {
		return nil, err
	}
	warm := new(Result)
	if g.cfg.Workload.Conn == "persistent" {
		warm = g.warmUp(ctx)
	}
	if err := g.Meet(ctx); err != nil {
		return nil, err
	}
	r, err := g.Measure(ctx)
	if r != nil && warm.Wrong > 0 { // counts at any time
		r.Add(Counts{Wrong: warm.Wrong, FirstWrong: warm.FirstWrong})
	}
	return r, err
}

// warmUp uses the connections before a round. Of the requests that are due, those that are not
// sent when its time is over are dropped: the grace is only for requests in flight, whose
// connections would otherwise be lost.
func (g *Generator) warmUp(ctx context.Context) *Result {
	g.warming = true
	defer func() { g.warming = false }()
	return g.run(ctx, Warmup(g.cfg.Workload.Duration), 0)
}

// Warmup returns how long connections are used before a round of this length.
func Warmup(round time.Duration) time.Duration {
	return min(max(round/4, 100*time.Millisecond), time.Second)
}

// Measure puts the load on the servers that the workload asks for, and measures also what the
// servers and this process have used. If ctx ends meanwhile, there is a result beside
// the error.
func (g *Generator) Measure(ctx context.Context) (*Result, error) {
	before, err := g.target.Stats(ctx)
	if err == nil {
		err = g.Meet(ctx)
	}
	if err != nil {
		return nil, err
	}
	mine, machine := metrics.CPU(), metrics.MachineCPU()
	r := g.run(ctx, g.cfg.Workload.Duration, g.cfg.Workload.Ops)
	r.Client, r.ClientCPU, r.Cores = g.target.Client(), metrics.CPU()-mine, metrics.Cores()
	r.MachineCPU, r.TimeWait = metrics.MachineCPU()-machine, metrics.TimeWait()
	if r.NeverGreeted > 0 {
		why, refused := g.endDials()
		r.Add(Counts{NotServed: why, RefusedDials: refused})
	}
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if r.Unfinished > 0 && g.cfg.Workload.Duration == 0 && g.cfg.Workload.Rate == 0 {
		return r, fmt.Errorf("%w to %s: are the servers stuck?", ErrNoAnswer, text.Plural(r.Unfinished, "request"))
	}
	after, err := g.target.Stats(ctx)
	if stuck := func(n metrics.Snapshot) bool { return n.QueueWait.Count > n.Turn.Count }; r.Unfinished > 0 && slices.ContainsFunc(after, stuck) {
		control.Pause(ctx, sayTime)
		after, err = g.target.Stats(ctx)
	}
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if client.Unreachable(err) {
		return r, fmt.Errorf("a server has ended during the load: %w", err)
	} else if err != nil {
		return r, fmt.Errorf("after the load: %w", err)
	}
	r.Restarted = Restarted(before, after)
	for i := 0; i < len(after) && r.Restarted == ""; i++ {
		r.Nodes = append(r.Nodes, after[i].Sub(before[i]))
		r.ServerCPU += r.Nodes[i].CPU
	}
	return r, nil
}

// Restarted says which node is not the process that it was before; "" if all are.
func Restarted(before, after []metrics.Snapshot) string {
	for i := range after {
		if after[i].Incarnation != before[i].Incarnation {
			return fmt.Sprintf("node %d was restarted, and its table is empty: it has run for %s", i, text.Duration(after[i].Uptime))
		}
	}
	return ""
}
