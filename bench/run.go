package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"lockstep/common/barrier"
	"lockstep/common/client"
	"lockstep/common/metrics"
)

func runFlags(o *options, fs *flag.FlagSet) {
	fs.IntVar(&o.rounds, "rounds", 1, "rounds of the workload")
	fs.IntVar(&o.client, "client", -1, "this process's `number` in clients, from 0, where properties.json has several: they start together")
	o.outFlags(fs)
	o.cfg.WorkloadFlags(fs)
}

// runWorkload puts the workload on servers that run already.
func runWorkload(ctx context.Context, o *options) (err error) {
	if o.rounds < 1 || o.rounds > 1000 {
		return usageErrorf("-rounds: %d is not in 1..1000", o.rounds)
	}
	if o.client < 0 && len(o.cfg.Clients) <= 1 {
		o.client = 0
	}
	if o.client < 0 || o.client >= max(len(o.cfg.Clients), 1) {
		return usageErrorf("-client: %s has clients 0 to %d: which one is this?", o.config, len(o.cfg.Clients)-1)
	}
	work, err := newWorkload(o.cfg.Workload)
	if err != nil {
		return usageErrorf("%w", err)
	}
	var stage string
	for i := range o.cfg.Nodes {
		s, err := client.Stats(ctx, o.cfg, i)
		if err != nil {
			return fmt.Errorf("%w\n(is the server running? go run ./stage4_bucketlock starts one)", err)
		}
		stage = s.Stage
	}
	line := newProgress(o.stderr, o.quiet)
	defer line.stop()
	meet, leave, err := o.company(line)
	if err != nil {
		return err
	}
	defer leave()

	line.say("storing the keys")
	if o.client == 0 {
		if err := preload(ctx, o.cfg, work); err != nil {
			return fmt.Errorf("storing the keys: %w", err)
		}
	}
	mine := o.cfg
	mine.Workload.Rate /= float64(max(len(o.cfg.Clients), 1))
	rep := newReport(o.cfg, []string{stage}, o.local())
	for round := 1; round <= o.rounds && err == nil; round++ {
		line.say(fmt.Sprintf("round %d of %d on %s", round, o.rounds, stage))
		if _, err = meet(ctx, nil); err != nil { // start together
			break
		}
		var r *result
		if r, err = measure(ctx, mine, work, o.client*o.cfg.Workload.Connections); err != nil {
			break
		}
		var all []*result
		if all, err = meet(ctx, r); err != nil { // stop together, with everybody's results
			break
		}
		rep.add(stage, round, together(all, o.local()))
	}
	line.stop()
	return o.finish(ctx, rep, err)
}

// local reports whether servers and client share this machine.
func (o *options) local() bool {
	for _, n := range o.cfg.Nodes {
		host, _, _ := net.SplitHostPort(n.Addr)
		if ip := net.ParseIP(host); host != "localhost" && !ip.IsLoopback() {
			return false
		}
	}
	return true
}

// A meeting is where the client processes of a run start and stop together: meet
// returns when all have come, with what each of them brought.
type meeting func(ctx context.Context, mine *result) ([]*result, error)

// company joins the other client processes that properties.json names. Where there
// are none, every meeting is over at once.
func (o *options) company(line *progress) (meet meeting, leave func() error, err error) {
	if len(o.cfg.Clients) <= 1 {
		alone := func(_ context.Context, mine *result) ([]*result, error) { return []*result{mine}, nil }
		return alone, func() error { return nil }, nil
	}
	ln, err := net.Listen("tcp", o.cfg.Clients[o.client].Control)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: is client %d running already?", err, o.client)
	}
	var peers []string
	for _, c := range o.cfg.Clients {
		peers = append(peers, c.Control)
	}
	b := barrier.New(ln, barrier.Config{
		Group: "clients", Self: o.client, Peers: peers, Fingerprint: o.cfg.Describe("bench run"), Secret: o.cfg.Secret,
		Log: slog.New(slog.NewTextHandler(printer{line, o.stderr}, nil)),
	})
	meet = func(ctx context.Context, mine *result) ([]*result, error) {
		line.say("waiting for the other clients")
		payload, err := json.Marshal(mine.share())
		if err != nil {
			return nil, err
		}
		payloads, err := b.Wait(ctx, payload)
		if err != nil {
			return nil, err
		}
		var all []*result
		for i, payload := range payloads {
			var s share
			if err := json.Unmarshal(payload, &s); err != nil {
				return nil, fmt.Errorf("the result of client %d: %w", i, err)
			}
			all = append(all, s.result())
		}
		return all, nil
	}
	return meet, b.Close, nil
}

// A printer writes log lines without disturbing the progress line.
type printer struct {
	line *progress
	w    io.Writer
}

func (p printer) Write(text []byte) (int, error) { return len(text), p.line.print(p.w, string(text)) }

// A share is a result on its way to another process.
type share struct {
	Connections, Starved, NeverGreeted                  int
	Requests, OK, Misses, Mismatches, Unfinished, Wrong int64
	FirstError, FirstWrong                              string           `json:",omitempty"`
	Errors                                              map[string]int64 `json:",omitempty"`
	Latency                                             metrics.Histogram
	Slip                                                *metrics.Histogram `json:",omitempty"`
	Failed, Dur, ServerCPU, ClientCPU                   time.Duration
}

func (r *result) share() *share {
	if r == nil {
		return new(share)
	}
	s := &share{
		Connections: r.connections, Starved: r.starved, NeverGreeted: r.neverGreeted,
		Requests: r.requests, OK: r.ok, Misses: r.misses, Mismatches: r.mismatches, Errors: r.errors,
		Unfinished: r.unfinished, Wrong: r.wrong,
		Latency: r.latency, Slip: r.slip, Failed: r.failed,
		Dur: r.dur, ServerCPU: r.serverCPU, ClientCPU: r.clientCPU,
	}
	if r.firstError != nil {
		s.FirstError = r.firstError.Error()
	}
	if r.firstWrong != nil {
		s.FirstWrong = r.firstWrong.Error()
	}
	return s
}

func (s *share) result() *result {
	r := &result{
		connections: s.Connections, starved: s.Starved, neverGreeted: s.NeverGreeted,
		requests: s.Requests, ok: s.OK, misses: s.Misses, mismatches: s.Mismatches, errors: s.Errors,
		unfinished: s.Unfinished, wrong: s.Wrong,
		latency: s.Latency, slip: s.Slip, failed: s.Failed,
		dur: s.Dur, serverCPU: s.ServerCPU, clientCPU: s.ClientCPU,
	}
	if s.FirstError != "" {
		r.firstError = errors.New(s.FirstError)
	}
	if s.FirstWrong != "" {
		r.firstWrong = errors.New(s.FirstWrong)
	}
	return r
}

// together is the result of all clients: each has seen the same servers work, and
// the round lasted until the last of them was done.
func together(all []*result, local bool) *result {
	sum := new(result)
	for _, r := range all {
		sum.merge(r)
		sum.dur = max(sum.dur, r.dur)
		sum.serverCPU = max(sum.serverCPU, r.serverCPU)
		if local {
			sum.clientCPU += r.clientCPU
		} else {
			sum.clientCPU = max(sum.clientCPU, r.clientCPU) // each has cores of its own
		}
	}
	return sum
}
