package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// sayTime is how long a server that was stuck during the grace may still take to say so.
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
		r.Answers.Add(workload.Answers{Wrong: warm.Wrong, FirstWrong: warm.FirstWrong})
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
	if ctx.Err() == nil && r.Unfinished > 0 && g.cfg.Workload.Duration == 0 && g.cfg.Workload.Rate == 0 {
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

// A Result is what was measured in one round of one stage, or by one worker: each worker
// counts its own, and Merge adds those of workers and of client processes. It is also what a
// saved report holds of a round. The zero Result is empty and ready to use.
type Result struct {
	Counts
	Client     string        `json:"client,omitempty"` // what sent the requests, see Target.Client
	Dur        time.Duration `json:"dur_ns"`
	ServerCPU  time.Duration `json:"server_cpu_ns"`  // in Dur; 0 if not known
	MachineCPU time.Duration `json:"machine_cpu_ns"` // of all programs where the client runs; 0 if not known
	ClientCPU  time.Duration `json:"client_cpu_ns"`
	Cores      float64       `json:"client_cores"`        // that the client may keep busy; 0: not known
	Stalled    time.Duration `json:"stalled_ns"`          // how long the client did not run although it should have, see watch
	Stall      time.Duration `json:"longest_stall_ns"`    // the longest of those times
	FailedTime time.Duration `json:"failed_ns"`           // closed loop: time spent in the requests that failed
	Restarted  string        `json:"restarted,omitempty"` // which server restarted in the round, or since bench run began; Nodes and ServerCPU are then left out

	ResponseTimes metrics.Histogram  `json:"histogram"`         // of answered requests: from when one was due, or in a closed loop sent
	ServiceTimes  *metrics.Histogram `json:"service_histogram"` // open loop: from when one was sent; nil in a closed loop, where it is the same
	Slips         *metrics.Histogram `json:"slip_histogram"`    // open loop: how late the client itself was; nil in a closed loop
	ConnectTimes  *metrics.Histogram `json:"connect_histogram"` // until a connection was greeted, part of ResponseTimes; nil if they are kept

	Series   []int64            `json:"ok_each_second"`      // operations answered, by second of the round
	TimeWait int64              `json:"time_wait,omitempty"` // sockets in TIME_WAIT when the round ended, where the client runs; 0 if not known
	Samples  []Sample           `json:"samples,omitempty"`   // if the workload asks for them, MaxSamples at most
	Nodes    []metrics.Snapshot `json:"nodes"`               // what each server counted in Dur; nil if not known
}

// MaxSamples is how many samples a Result has at most.
const MaxSamples = 2000

// Answered and unfinished are outcomes of samples. The others are kinds of Errors.
const Answered, unfinished = "answered", "unfinished"

// A Sample is what came of one of the requests that were sent. Its times are from the start of
// the round.
type Sample struct {
	Due     time.Duration `json:"due_ns"` // in a closed loop, when it was sent
	Sent    time.Duration `json:"sent_ns"`
	Done    time.Duration `json:"done_ns"` // when it was answered, failed, or was given up
	Outcome string        `json:"outcome"` // Answered, unfinished, or a kind of Errors
}

// lot is a number drawn by lot for a sample. It is a hash of the times, so that it is the same
// wherever samples are merged.
func (s Sample) lot() (lot uint64) {
	for _, t := range []time.Duration{s.Due, s.Sent, s.Done} {
		lot = (lot ^ uint64(t)) * 0x9e3779b97f4a7c15 // 2^64 by the golden ratio, as in Fibonacci hashing
		lot ^= lot >> 32
	}
	return lot
}

// Counts are what Merge adds of a Result, and the first of each kind of trouble.
type Counts struct {
	workload.Answers
	Connections  int           `json:"connections"`            // each worker counts 1
	Starved      int           `json:"starved"`                // of Connections: no request was completed
	NeverGreeted int           `json:"never_greeted"`          // of Starved: no server greeted them
	Requests     int64         `json:"requests"`               // answered, each with a time in ResponseTimes
	Errors       metrics.Tally `json:"errors"`                 // requests that failed, by kind: a word or two such as "server busy"
	Refusals     int64         `json:"refusals"`               // Busy answers, whether the request was sent again or failed
	Unfinished   int64         `json:"unfinished"`             // requests that were due or in flight when the round ended
	RefusedDials int64         `json:"refused_dials"`          // connections that a server refused, and that were dialled again
	FailedDials  metrics.Tally `json:"failed_dials,omitempty"` // a connection for each request: dials that failed, by reason, and were tried again
	NotServed    string        `json:"not_served,omitempty"`   // why the first of NeverGreeted was not
	FirstError   string        `json:"first_error,omitempty"`
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	c.Answers.Add(o.Answers)
	c.Connections += o.Connections
	c.Starved += o.Starved
	c.NeverGreeted += o.NeverGreeted
	c.Requests += o.Requests
	c.Refusals += o.Refusals
	c.Unfinished += o.Unfinished
	c.RefusedDials += o.RefusedDials
	c.NotServed = cmp.Or(c.NotServed, o.NotServed)
	c.FirstError = cmp.Or(c.FirstError, o.FirstError)
	c.Errors.Add(o.Errors)
	c.FailedDials.Add(o.FailedDials)
}

// Failed returns the number of requests that failed.
func (c *Counts) Failed() int64 { return c.Errors.Sum() }

// Unanswered returns the number of requests without an outcome, which are in no
// percentile: those that are unfinished, and one of each connection that was never greeted.
func (c *Counts) Unanswered() int64 { return c.Unfinished + int64(c.NeverGreeted) }

// Quantile returns a quantile of the times in h, of the requests that were answered, and of
// those that were never answered, which took longer. If it is one of these, known is false.
func (c *Counts) Quantile(h *metrics.Histogram, level float64) (d time.Duration, known bool) {
	level *= 1 + float64(c.Unanswered())/float64(max(h.Count(), 1))
	return h.Quantile(min(level, 1)), level <= 1
}

// Fail counts a request that failed.
func (c *Counts) Fail(kind string, err error) {
	c.Add(Counts{Errors: metrics.Tally{kind: 1}, FirstError: err.Error()})
}

// errorKind puts an error into a word or two.
func errorKind(err error) string {
	for _, kind := range []error{client.ErrBusy, client.ErrDown, client.ErrUnknown, client.ErrWrongNode} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return "other"
}

// Answered counts operations that were answered at this time of the round.
func (r *Result) Answered(ops int, at time.Duration) {
	second := max(int(at/time.Second), 0)
	for len(r.Series) <= second {
		r.Series = append(r.Series, 0)
	}
	r.Series[second] += int64(ops)
}

// Merge adds what another worker counted at the same time. It leaves Client, Dur, the CPU
// times and Nodes alone, which belong to the round as a whole.
func (r *Result) Merge(o *Result) {
	r.Add(o.Counts)
	r.FailedTime += o.FailedTime
	for second, n := range o.Series {
		r.Answered(int(n), time.Duration(second)*time.Second)
	}
	r.sample(MaxSamples, o.Samples...)
	r.ResponseTimes.Merge(&o.ResponseTimes)
	merge(&r.ServiceTimes, o.ServiceTimes)
	merge(&r.Slips, o.Slips)
	merge(&r.ConnectTimes, o.ConnectTimes)
}

// sample adds samples. When there are more than limit, only the MaxSamples with the lowest lots
// stay: of all requests that have come, each has the same chance to be one of them.
func (r *Result) sample(limit int, more ...Sample) {
	if r.Samples = append(r.Samples, more...); len(r.Samples) > limit {
		slices.SortFunc(r.Samples, func(a, b Sample) int { return cmp.Compare(a.lot(), b.lot()) })
		r.Samples = r.Samples[:MaxSamples]
	}
}

// Record records d in an optional histogram of a Result.
func Record(h **metrics.Histogram, d time.Duration) {
	if *h == nil {
		*h = new(metrics.Histogram)
	}
	(*h).Record(d)
}

func merge(h **metrics.Histogram, o *metrics.Histogram) {
	if o != nil {
		*h = cmp.Or(*h, new(metrics.Histogram))
		(*h).Merge(o)
	}
}

// InFlight returns the average number of requests in flight during the round, by Little's
// law: requests a second × mean response time. In a closed loop this is the number of
// connections that were served × depth; otherwise the generator is wrong, or was
// itself too slow.
func (r *Result) InFlight() float64 {
	busy := time.Duration(r.ResponseTimes.Count())*r.ResponseTimes.Mean() + r.FailedTime
	return float64(busy) / float64(max(r.Dur, 1))
}

// watch wakes every 10 ms until ctx ends. If it is late by more than 20 ms and the process
// did not keep half a core busy meanwhile, the process was stopped, or had no CPU: then it did
// not see answers in time either. A process that is busy may be late only in waking watch, as
// it runs one goroutine after another.
func (r *Result) watch(ctx context.Context, c clock) {
	const every, tolerated = 10 * time.Millisecond, 20 * time.Millisecond
	for ctx.Err() == nil {
		due, used := c.now()+every, c.cpu()
		control.Pause(ctx, every)
		if late := c.now() - due; late > tolerated && c.cpu()-used <= (every+late)/2 {
			r.Stalled, r.Stall = r.Stalled+late, max(r.Stall, late)
		}
	}
}

// Broken reports why further rounds of the stage are pointless, or nil.
func (r *Result) Broken() error {
	for i, node := range r.Nodes {
		if len(node.Faults) > 0 {
			return fmt.Errorf("node %d: %s", i, node.Faulted())
		}
	}
	switch {
	case r.Restarted != "":
		return errors.New(r.Restarted)
	case r.Requests == 0:
		return errors.New(strings.TrimSuffix("no request was answered: "+cmp.Or(r.FirstError, r.NotServed), ": "))
	}
	return nil
}

// Held returns the share of the round, from 0 to 1, that a lock was held, of the node
// where that was longest.
func (r *Result) Held() (share float64) {
	for _, n := range r.Nodes {
		share = max(share, n.Held())
	}
	return share
}
