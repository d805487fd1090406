// Package report turns the rounds of a measurement into summaries, ratios and a verdict.
// It writes a report as text, as JSON and as lines for benchstat, and reads the JSON again.
//
// # The JSON
//
// What -o writes is one object, a [Report]. The paths below are those of jq. A name that ends
// in _ns is in nanoseconds; so are the members of an object whose name does.
//
//	.schema            2, the version of this format
//	.verdict           ok, interrupted, or "invalid: …", "failed: …", "wrong data: …"
//	.stages            names in the order of the tables, the baseline first
//	.nodes             servers of each stage; 0: bench did not start them
//	.aa                the second stage is the first one again
//	.config            the properties.json that was used, without the secret
//	.sweep.property    the property that has several values; no .sweep: none has
//	.sweep.points      these values
//
//	.env               an Environment: the machine, the command, the programs
//
//	.runs[]            a Run, one round of one stage, in the order of time
//	  .stage           its name
//	  .point           the value of the swept property
//	  .round           from 1
//	  .client          what sent the requests: client.Client or pipeline
//	  .dur_ns          how long the load lasted
//	  .requests        answered
//	  .ok              operations answered, misses and mismatches included
//	  .bytes           of keys and values in these, sent and received
//	  .misses          operations on a key that had no value
//	  .mismatches      compare-and-swaps whose comparison failed
//	  .errors          requests that failed, by kind
//	  .refusals        answers "busy"; the request was sent again, or failed
//	  .unfinished      requests without an answer when the round ended
//	  .wrong           answers that no correct server gives
//	  .connections     as many as -c asks for
//	  .starved         connections on which no request was completed
//	  .never_greeted   of these, those that no server greeted
//	  .refused_dials   connections refused, and dialled again
//	  .failed_dials    other dials that failed, by reason, if each request has one
//	  .not_served      why the first connection was not greeted
//	  .first_error     the first error
//	  .first_wrong     the first wrong answer
//	  .restarted       which server restarted
//	  .invalid         why the client was measured and not the servers
//	  .warnings        what else to know
//	  .clients         several client processes: the counts and figures of each, by
//	                   number; missing: it did not bring its result
//	  .ops_per_s       operations answered a second
//	  .bytes_per_s     the same in bytes
//	  .latency_ns      p50, p90, p99, p999, max and mean of the response time
//	  .service_ns      the same from when a request was sent; open loops only
//	  .slip_ns         how late the client sent it; open loops only
//	  .connect_ns      the time to connect, where each request has a connection
//	  .where_ns        its mean by part: queue, memory, lock, table, codec, rest
//	  .at_least        the members of latency_ns that are only lower bounds
//	  .lock_held       the share of dur_ns that the most used lock was held
//	  .server_cpu_ns   of all servers in dur_ns
//	  .client_cpu_ns   of the client
//	  .machine_cpu_ns  of all programs on the client's machine; 0: not known
//	  .server_cpu_ns_per_request
//	  .client_cpu_ns_per_request
//	  .other_cores     cores kept busy by other programs; 0: none, or not known
//	  .client_cores    cores that the client may keep busy
//	  .stalled_ns      how long the client did not run although it should have
//	  .longest_stall_ns
//	  .failed_ns       time spent in the requests that failed; closed loops only
//	  .ok_each_second  operations answered in each second of the round
//	  .time_wait       the client's sockets in TIME_WAIT at the end; 0: not known
//	  .samples[]       with -samples, up to 2000 requests that were sent, drawn by lot:
//	                   due_ns, sent_ns and done_ns from the start of the round, and
//	                   outcome: answered, unfinished, or a kind of .errors
//	  .histogram       response times: sum_ns, max_ns, buckets [[edge, count], …]
//	  .service_histogram
//	  .slip_histogram
//	  .connect_histogram
//	  .nodes           what each server counted: see metrics.Snapshot
//
//	.summary[]         a Summary of the rounds of a stage, at one point: the counts
//	                   of a run, added up, the medians of its figures, and:
//	  .ops_per_s       median, low, high, level, rounds: see stats.Interval
//	  .p99_ns          the same of the response time
//	  .ratio           a Ratio to the first stage: ops_per_s; open loops: p99
//	  .p99_ratio       the same, of p99 in any loop
package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/machine"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// A Report is what one command of bench measured. Its JSON is the content of the file
// that -o names; all times in it are in nanoseconds.
type Report struct {
	Schema  int                 `json:"schema"`
	Env     machine.Environment `json:"env"`
	Config  cluster.Config      `json:"config"`          // without the secret
	Sweep   *experiment.Sweep   `json:"sweep,omitempty"` // the property of Config that has several values
	Runs    []Run               `json:"runs"`            // every round, in the order in which they ran
	Summary []Summary           `json:"summary"`
	Verdict string              `json:"verdict"` // "ok", "interrupted", or "invalid: …", "failed: …", "wrong data: …"

	Stages []string `json:"stages"`       // in the order of the tables; the first is the baseline
	Nodes  int      `json:"nodes"`        // of each stage; 0: bench did not start the servers
	AA     bool     `json:"aa,omitempty"` // the second stage is the first one again
}

// A Run is one round of one stage.
type Run struct {
	Stage string `json:"stage"`
	Point string `json:"point,omitempty"` // the value of the swept property
	Round int    `json:"round"`           // from 1; the stages ran next to each other in each round
	load.Result
	Figures
	Invalid  string   `json:"invalid,omitempty"`  // why the client was measured and not the servers
	Warnings []string `json:"warnings,omitempty"` // suspended nodes, missing keys, the first error, broken laws
	Clients  []Client `json:"clients,omitempty"`  // what each of several client processes did, by number
}

// A Client is what one of several client processes did in a round.
type Client struct {
	Missing bool `json:"missing,omitempty"` // it did not bring its result
	load.Counts
	Figures
	Invalid string `json:"invalid,omitempty"` // why it was measured, and not the servers
}

const schema = 2 // the version of the JSON

// New returns an empty report. shared says that the servers and the client share the
// cores of this machine.
func New(cfg cluster.Config, stages []string, shared bool) *Report {
	cfg.Secret = ""
	return &Report{Schema: schema, Env: machine.New(shared), Config: cfg, Verdict: "ok", Stages: stages, Runs: []Run{}, Summary: []Summary{}}
}

// Workload returns the workload at a point of the sweep. Without a sweep, the only point
// is "".
func (rep *Report) Workload(point string) cluster.Workload {
	if rep.Sweep == nil {
		return rep.Config.Workload
	}
	return rep.Sweep.At(point)
}

// Add adds a round of a stage, and brings Verdict up to date. Summary is made again only when
// it is needed, since that takes longer with each round.
func (rep *Report) Add(stage string, round int, r *load.Result) { rep.AddAt("", stage, round, r) }

// AddAt is Add for a point of a sweep. Some points of a sweep may measure the client, so
// an invalid round there does not make the report invalid.
func (rep *Report) AddAt(point, stage string, round int, r *load.Result) {
	rep.add(Run{Stage: stage, Point: point, Round: round, Result: *r, Invalid: invalid(r, rep.Env.CPUs)}, littlesLaw(r, rep.Workload(point)), nil)
}

// AddClients is Add for the result of all client processes, nil if they are missing, and their
// sum. Each of them is judged by itself, as it has CPU time of its own. A round is not complete
// without all of them.
func (rep *Report) AddClients(stage string, round int, sum *load.Result, all []*load.Result) {
	if len(all) == 1 {
		rep.Add(stage, round, sum)
		return
	}
	run := Run{Stage: stage, Round: round, Result: *sum, Clients: make([]Client, len(all))}
	var laws, missing []string
	for i, r := range all {
		if r == nil {
			run.Clients[i].Missing, missing = true, append(missing, rep.client(i))
			continue
		}
		one := Run{Result: *r, Invalid: invalid(r, int(math.Ceil(r.Cores)))}
		one.derive(false)
		if run.Clients[i] = (Client{false, r.Counts, one.Figures, one.Invalid}); one.Invalid != "" {
			run.Invalid = cmp.Or(run.Invalid, fmt.Sprintf("client %d: %s", i, one.Invalid))
		}
		for _, law := range littlesLaw(r, rep.Workload("")) {
			laws = append(laws, fmt.Sprintf("client %d: %s", i, law))
		}
	}
	if rep.Env.Shared { // one CPU time for all
		run.Invalid = cmp.Or(run.Invalid, invalid(sum, rep.Env.CPUs))
	}
	rep.add(run, laws, missing)
}

func (rep *Report) client(number int) string {
	name := fmt.Sprintf("client %d", number)
	if number < len(rep.Config.Clients) {
		name += " (" + rep.Config.Clients[number].Control + ")"
	}
	return name
}

// add adds a round, the laws that it broke, and the clients that are missing from it.
func (rep *Report) add(run Run, laws, missing []string) {
	r, w, point, stage := &run.Result, rep.Workload(run.Point), run.Point, run.Stage
	run.derive(rep.Env.Shared)
	if run.Errors == nil {
		run.Errors = map[string]int64{} // "errors": {} rather than null
	}
	for i, n := range r.Nodes {
		if n.Suspended.Total > r.Dur/10 {
			run.Warnings = append(run.Warnings, fmt.Sprintf("node %d did not run for %s", i, text.Duration(n.Suspended.Total)))
		}
		if differ := cluster.Differences(r.Nodes[0].Server, n.Server); differ != "" {
			run.Warnings = append(run.Warnings, fmt.Sprintf("nodes 0 (here) and %d (there) work differently: %s", i, differ))
		}
	}
	if r.Misses > 0 && w.Mix.Delete == 0 {
		const lost = "stored keys were missing, and the workload deletes none"
		if _, foreign := rep.Env.Yardsticks[stage]; rep.Nodes > 0 && !foreign { // nobody else uses these servers
			run.FoundWrong(errors.New(lost))
		} else {
			run.Warnings = append(run.Warnings, lost)
		}
	}
	if busy := r.Errors[client.ErrBusy.Error()]; r.FirstError != "" && busy < r.Failed() {
		run.Warnings = append(run.Warnings, "the first error: "+r.FirstError)
	}
	run.Warnings = append(run.Warnings, laws...)
	cores := max(rep.Env.Cores, rep.Env.CPUs)
	if used := busyCores(r, r.ServerCPU+r.ClientCPU); rep.Env.Shared && used > 1.05*float64(cores) {
		run.Warnings = append(run.Warnings, fmt.Sprintf("utilization law: throughput × CPU of a request is %s cores, of %d", text.Sig3(used), cores))
	}
	where := fmt.Sprintf("%s, round %d: ", rep.name(point, stage), run.Round)
	if run.Wrong > 0 && !strings.HasPrefix(rep.Verdict, "wrong data") {
		rep.Verdict = "wrong data: " + where + run.FirstWrong
	} else if err := r.Broken(); err != nil && (rep.Verdict == "ok" || strings.HasPrefix(rep.Verdict, "invalid")) {
		rep.Verdict = "failed: " + where + err.Error()
	} else if missing != nil && (rep.Verdict == "ok" || strings.HasPrefix(rep.Verdict, "invalid")) {
		rep.Verdict = "failed: " + where + "missing: " + strings.Join(missing, ", ")
	} else if run.Invalid != "" && rep.Verdict == "ok" && rep.Sweep == nil {
		rep.Verdict = "invalid: " + where + run.Invalid
	}
	rep.Runs, rep.Summary = append(rep.Runs, run), nil
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

// invalid says why a round measured the client, which may use this many cores, and not the
// servers; "" if it measured the servers.
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

// JSON returns the content of the file that -o names.
func (rep *Report) JSON() ([]byte, error) {
	rep.Summarize()
	data, err := json.Marshal(rep)
	return append(data, '\n'), err
}

// MaxSize limits a file, in bytes, and MaxRounds the rounds in it, which compare respects. A
// round with all its histograms takes less than 100 KB, and with samples twice that.
const (
	MaxSize   = 1 << 30
	MaxRounds = 10_000
)

// Read reads a file that -o has written. It refuses a file that it cannot show.
func Read(path string) (rep *Report, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > MaxSize {
		err = fmt.Errorf("it is larger than %d MiB", MaxSize>>20)
	} else if err == nil {
		data, unread := io.ReadAll(io.LimitReader(f, MaxSize)) // a pipe has no size; what is cut off has wrong syntax
		rep, err = Parse(data)
		err = cmp.Or(unread, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a report that bench -o has written: %w", path, err)
	}
	return rep, nil
}

// possible reports whether no count and no time is negative, no request was answered in no
// time, and no more connections starved than there were.
func (run *Run) possible() bool {
	return slices.Min(slices.Concat(run.Series, slices.Collect(maps.Values(run.Errors)), slices.Collect(maps.Values(run.FailedDials)), []int64{
		int64(run.Starved), int64(run.NeverGreeted), int64(run.Connections - run.Starved), run.Requests, run.OK, run.Bytes, run.Misses, run.Mismatches,
		run.Refusals, run.Unfinished, run.Wrong, run.RefusedDials, int64(run.Dur), int64(run.Dur) - min(run.Requests, 1),
		int64(run.ServerCPU), int64(run.ClientCPU), int64(run.MachineCPU), int64(run.Stalled), int64(run.Stall), int64(run.FailedTime), run.TimeWait})) >= 0
}

// Parse reads a report. It computes the summary and the figures of the rounds again.
func Parse(data []byte) (*Report, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors put this before UTF-8
	var outer struct {
		Schema int
		Runs   []struct{}
		Stages []string
		Sweep  struct{ Points []string }
	}
	if err := json.Unmarshal(data, &outer); err != nil {
		return nil, err
	}
	if outer.Schema != schema {
		return nil, fmt.Errorf("its schema is %d, and this program reads schema %d", outer.Schema, schema)
	}
	// Memory is bounded: a round takes 100 KiB and a node 300 bytes even if the file says
	// little about them, and each line of a table is as wide as the longest name.
	const objects, names = 1 << 22, 8 << 10
	if len(outer.Runs) > MaxRounds || bytes.Count(data, []byte("{")) > objects || len(strings.Join(append(outer.Stages, outer.Sweep.Points...), ",")) > names {
		return nil, fmt.Errorf("it has more than %d rounds, %d objects or %d bytes of names", MaxRounds, objects, names)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	rep := &Report{Runs: make([]Run, 0, len(outer.Runs))} // a Run is large, and is not copied to grow
	if err := dec.Decode(rep); err != nil {
		return nil, err
	}
	if err := rep.Config.Validate(workload.Rules()); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if rep.Sweep != nil {
		if err := rep.Sweep.Restore(rep.Config); err != nil {
			return nil, fmt.Errorf("sweep: %w", err)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(rep.Stages)))) < len(rep.Stages) {
		return nil, fmt.Errorf("a stage is listed twice: %q", rep.Stages)
	}
	for i := range rep.Runs {
		if !rep.Runs[i].possible() {
			return nil, fmt.Errorf("run %d has negative counts or times, answers in no time, or more starved connections than there were", i+1)
		}
		rep.Runs[i].derive(rep.Env.Shared)
	}
	rep.Summary = nil
	if rep.Summarize(); len(rep.Runs) > 0 && len(rep.Summary) == 0 {
		return nil, errors.New("its rounds are of none of its stages")
	}
	return rep, nil
}
