package load

import (
	"context"
	"fmt"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/metrics"
)

// measure is one round: new connections, a warm-up of those that are kept, and the
// load. The connections are numbered from first, which no others of the run are. Where
// ctx ends in the middle, there is a result beside the error.
func Measure(ctx context.Context, to Target, work *workload.Workload, first int) (*Result, error) {
	l, err := New(ctx, to, work, first)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	warm := new(Result)
	if w := to.Config().Workload; w.Conn == "persistent" {
		warm = l.run(ctx, Warmup(w.Duration), 0)
	}
	r, err := l.Measured(ctx)
	if r != nil && warm.Wrong > 0 { // an answer that cannot be right counts whenever it comes
		r.Wrong += warm.Wrong
		r.FirstWrong = warm.FirstWrong
	}
	return r, err
}

// warmup is how long connections are used before it counts.
func Warmup(round time.Duration) time.Duration {
	return min(max(round/4, 100*time.Millisecond), time.Second)
}

// measured is run, as the workload says, with what it took the servers and this
// process. Where ctx ends in the middle, there is a result beside the error.
func (l *Load) Measured(ctx context.Context) (*Result, error) {
	before, err := l.target.Stats(ctx)
	if err != nil {
		return nil, err
	}
	mine := ClientCPU()
	r := l.run(ctx, l.cfg.Workload.Duration, l.cfg.Workload.Ops)
	r.ClientCPU = ClientCPU() - mine
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	if r.Unfinished > 0 && l.cfg.Workload.Duration == 0 && l.cfg.Workload.Rate == 0 {
		return r, fmt.Errorf("%w to %d requests: are the servers stuck?", ErrNoAnswer, r.Unfinished)
	}
	after, err := l.target.Stats(ctx)
	if err != nil {
		return r, fmt.Errorf("after the load: %w", err)
	}
	for i := range after {
		used := after[i].Sub(before[i])
		r.Nodes = append(r.Nodes, used)
		r.ServerCPU += used.CPU
	}
	return r, nil
}

// clientCPU is the CPU time of this process so far.
func ClientCPU() time.Duration { return new(metrics.Stats).Snapshot().CPU }
