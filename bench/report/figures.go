package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/stats"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// Figures follow from what was counted in a round; those of a Summary are the medians of
// its rounds.
type Figures struct {
	Latency             Times   `json:"latency_ns"`                // response time: from when a request was due until it was answered
	Service             Times   `json:"service_ns"`                // open loop: from when it was sent; null: the same as Latency
	Slip                Times   `json:"slip_ns"`                   // open loop: how late the client was; or null
	Connect             Times   `json:"connect_ns"`                // a connection for each request: until it was greeted; or null
	Where               Times   `json:"where_ns"`                  // where the mean service time goes, by Parts; null: the servers did not say
	OpsPerSecond        float64 `json:"ops_per_s,omitempty"`       // of a Run
	ServerCPUPerRequest float64 `json:"server_cpu_ns_per_request"` // requests answered or failed; 0: not known
	ClientCPUPerRequest float64 `json:"client_cpu_ns_per_request"`
	LockHeld            float64 `json:"lock_held"`   // the share of the round that the most contended lock was held, 0 to 1
	BytesPerSecond      float64 `json:"bytes_per_s"` // keys and values, sent and received; 0: not known
	OtherCores          float64 `json:"other_cores"` // that programs other than servers and client kept busy on this machine; 0: not known

	// The quantiles of Latency that are lower bounds: as many requests were never answered that
	// they may lie among those, which took longer. The other times are those of what was done.
	AtLeast []string `json:"at_least,omitempty"`
}

func (f *Figures) times() []*Times {
	return []*Times{&f.Latency, &f.Service, &f.Slip, &f.Connect, &f.Where}
}

// Times are the quantiles p50, p90, p99 and p999 of a kind of time, its max and its mean;
// or the parts of a mean. The max of a Summary is the greatest of its rounds.
type Times map[string]time.Duration

var levels = map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1}

// quantiles returns those of a kind of time, and the names of those that are only bounds
// since c counts requests that were never answered.
func quantiles(c *load.Counts, h *metrics.Histogram) (t Times, atLeast []string) {
	if h == nil {
		return nil, nil
	}
	t = Times{"mean": h.Mean()}
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		known := false
		if t[name], known = c.Quantile(h, levels[name]); !known {
			atLeast = append(atLeast, name)
		}
	}
	if c.Unanswered() > 0 {
		atLeast = append(atLeast, "mean")
	}
	return t, slices.Sorted(slices.Values(atLeast))
}

// Parts are the parts of the time of a request: waiting for a worker, waiting for memory,
// waiting for locks, in the table with its work, the rest of the server's turn, and the rest:
// network, kernel, scheduling, client.
var Parts = []string{"queue", "memory", "lock", "table", "codec", "rest"}

// parts splits the mean service time of a round, without the parts that no server has: a
// queue, locks, or requests so large that they wait for memory. A request to several nodes
// counts as several requests. The parts are not known where requests share a turn: each of
// them waits for all of it.
func parts(r *load.Result, service time.Duration) Times {
	var requests, turn time.Duration
	t := Times{}
	add := func(name string, has bool, total time.Duration) {
		if has {
			t[name] += total
		}
	}
	for _, n := range r.Nodes {
		requests += time.Duration(n.Requests)
		add("queue", n.QueueWait.Count > 0, n.QueueWait.Total)
		add("memory", n.MemoryWait.Count > 0, n.MemoryWait.Total)
		add("lock", n.Watched > 0, n.Locks.Waited)
		add("table", n.Table.Count > 0, n.Table.Mean()*time.Duration(n.Requests)) // the mean of a sample
		turn += n.Turn.Total
	}
	if requests == 0 || r.Client == load.Pipelined {
		return nil
	}
	t["codec"] = max(turn-t["memory"]-t["lock"]-t["table"], 0)
	rest := service
	for name := range t {
		t[name] /= requests
		rest -= t[name]
	}
	t["rest"] = max(rest, 0) // the servers have other clocks
	return t
}

// derive sets the figures that follow from the result. There are none of no requests.
// shared says that the servers and the client share the cores of this machine.
func (run *Run) derive(shared bool) {
	r := &run.Result
	run.Figures = Figures{}
	if r.Requests == 0 {
		return
	}
	run.Latency, run.AtLeast = quantiles(&r.Counts, &r.ResponseTimes)
	var none load.Counts // what was not answered may not have been sent
	run.Service, _ = quantiles(&none, r.ServiceTimes)
	run.Slip, _ = quantiles(&none, r.Slips)
	run.Connect, _ = quantiles(&none, r.ConnectTimes)
	requests := float64(max(r.Requests+r.Failed(), 1))
	run.OpsPerSecond = float64(r.OK) / max(r.Dur, 1).Seconds()
	run.ServerCPUPerRequest, run.ClientCPUPerRequest = float64(r.ServerCPU)/requests, float64(r.ClientCPU)/requests
	run.LockHeld, run.BytesPerSecond = r.Held(), float64(r.Bytes)/max(r.Dur, 1).Seconds()
	others := r.MachineCPU - r.ClientCPU
	if shared {
		others -= r.ServerCPU
	}
	if r.MachineCPU > 0 && (r.ServerCPU > 0 || !shared) {
		run.OtherCores = max(busyCores(r, others), 0)
	}
	run.Where = parts(r, cmp.Or(r.ServiceTimes, &r.ResponseTimes).Mean())
}

// medians returns the figures of several rounds.
func medians(runs []*Run) (f Figures) {
	for _, run := range runs {
		f.AtLeast = slices.Compact(slices.Sorted(slices.Values(append(f.AtLeast, run.AtLeast...))))
	}
	f.ServerCPUPerRequest = over(runs, func(r *Run) float64 { return r.ServerCPUPerRequest }).Median
	f.ClientCPUPerRequest = over(runs, func(r *Run) float64 { return r.ClientCPUPerRequest }).Median
	f.LockHeld = over(runs, func(r *Run) float64 { return r.LockHeld }).Median
	f.BytesPerSecond = over(runs, func(r *Run) float64 { return r.BytesPerSecond }).Median
	f.OtherCores = over(runs, func(r *Run) float64 { return r.OtherCores }).Median
	for i, kind := range f.times() {
		found := make(map[string][]float64)
		for _, run := range runs {
			for name, d := range *run.times()[i] {
				found[name] = append(found[name], float64(d))
				*kind = make(Times)
			}
		}
		for name, all := range found {
			(*kind)[name] = time.Duration(stats.NewInterval(all).Median)
			if name == "max" {
				(*kind)[name] = time.Duration(slices.Max(all))
			}
		}
	}
	return f
}

// over returns the interval of a figure over several rounds.
func over(runs []*Run, figure func(*Run) float64) stats.Interval {
	var samples []float64
	for _, run := range runs {
		samples = append(samples, figure(run))
	}
	return stats.NewInterval(samples)
}

// busyCores returns how many cores a CPU time kept busy during the round. By the
// utilization law, requests a second × CPU time of a request cannot exceed the cores.
func busyCores(r *load.Result, used time.Duration) float64 {
	return float64(used) / float64(max(r.Dur, 1))
}

// littlesLaw says how a round breaks this law, if w is a closed loop.
func littlesLaw(r *load.Result, w cluster.Workload) (broken []string) {
	want, got := float64((r.Connections-r.Starved)*w.Depth), r.InFlight()
	// The last request of each connection is cut off, or there is none left to send.
	cut := want * float64(r.ResponseTimes.Max()) / float64(max(r.Dur, 1))
	switch {
	case w.Rate > 0 || r.Errors[client.ErrDown.Error()]+r.Errors[client.ErrUnknown.Error()] > 0:
		// In an open loop, and while a server is down, connections wait between two requests.
	case got > 1.05*want:
		broken = append(broken, fmt.Sprintf("Little's law: throughput × mean response time is %s, and at most %s requests were in flight", text.Sig3(got), text.Sig3(want)))
	case got < 0.9*want-cut && r.Requests > 0:
		broken = append(broken, fmt.Sprintf("Little's law: throughput × mean response time is only %s of %s requests in flight: "+
			"the client needed the rest of the time itself", text.Sig3(got), text.Sig3(want)))
	}
	return broken
}

// invalid says why a round measured the client, which may use so many cores, and not the
// servers; "" if it did not.
func invalid(r *load.Result, cores int) string {
	took, slip := time.Duration(math.MaxInt64), time.Duration(0) // a closed loop sends when it can
	if r.Slips != nil && r.Requests > 0 {
		took, slip = r.ResponseTimes.Quantile(0.99), r.Slips.Quantile(0.99)
	}
	clientCores, serverCores := busyCores(r, r.ClientCPU), busyCores(r, r.ServerCPU)
	switch {
	case r.Stalled > r.Dur/10:
		return fmt.Sprintf("the client was stopped or had no CPU for %s of %s: stop other programs on this machine, or give the client more CPU",
			text.Duration(r.Stalled), text.Duration(r.Dur))
	case r.Stall > took/4:
		return fmt.Sprintf("the client was stopped or had no CPU for %s, and the response time is %s at p99", text.Duration(r.Stall), text.Duration(took))
	case slip > time.Millisecond && slip > took/4: // all systems can wait for a millisecond, but some not for less
		return fmt.Sprintf("the client was late although a connection was free: by %s at p99, in a response time of %s "+
			"(stop other programs on this machine, or lower -rate)", text.Duration(slip), text.Duration(took))
	case 0 < r.Cores && r.Cores < float64(cores) && clientCores >= 0.9*r.Cores:
		return fmt.Sprintf("the client used up its CPU, %s of the %s cores that its quota allows", text.Sig3(clientCores), text.Sig3(r.Cores))
	case serverCores > 0 && clientCores >= 0.9*float64(cores) && serverCores < clientCores/2:
		return fmt.Sprintf("the client used up its CPU, %s of %s, and the servers only %s",
			text.Sig3(clientCores), text.Plural(int64(cores), "core"), text.Sig3(serverCores))
	}
	return ""
}
