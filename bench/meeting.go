package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"lockstep/common/barrier"
	"lockstep/common/metrics"
)

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
	if err := o.cfg.CheckExposure(o.insecure); err != nil {
		return nil, nil, err
	}
	ln, err := net.Listen("tcp", o.cfg.Clients[o.client].Control)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: is client %d running already, here?", err, o.client)
	}
	var peers []string
	for _, c := range o.cfg.Clients {
		peers = append(peers, c.Control)
	}
	b := barrier.New(ln, barrier.Config{
		Group: "clients", Self: o.client, Peers: peers, Fingerprint: o.cfg.Describe("bench run"), Secret: o.cfg.Secret,
		Log: slog.New(printer{slog.DiscardHandler, line, o.stderr}),
	})
	meet = func(ctx context.Context, mine *result) ([]*result, error) {
		line.say("waiting for the other clients")
		payload, err := mine.pack()
		if err != nil {
			return nil, err
		}
		payloads, err := b.Wait(ctx, payload)
		if err != nil {
			return nil, err
		}
		var all []*result
		for i, payload := range payloads {
			r, err := unpack(payload)
			if err != nil {
				return nil, fmt.Errorf("the result of client %d: %w", i, err)
			}
			all = append(all, r)
		}
		return all, nil
	}
	return meet, b.Close, nil
}

// A printer prints what is logged, without disturbing the progress line.
type printer struct {
	slog.Handler
	line *progress
	w    io.Writer
}

func (p printer) Enabled(context.Context, slog.Level) bool { return true }

func (p printer) Handle(_ context.Context, r slog.Record) error {
	return p.line.print(p.w, "bench: "+r.Message+"\n")
}

// A share is a result on its way to another process.
type share struct {
	Connections, Starved, NeverGreeted                  int
	Requests, OK, Misses, Mismatches, Unfinished, Wrong int64
	FirstError, FirstWrong                              string
	Errors                                              map[string]int64
	Refusals                                            int64
	Series                                              []int64
	Latency                                             metrics.Histogram
	Service, Slip, Connect                              *metrics.Histogram
	Failed, Dur, ServerCPU, ClientCPU                   time.Duration
	Nodes                                               []metrics.Snapshot
}

// pack makes a result small enough for a barrier's payload: the histograms of an hour
// of overload have 100 KB, and less than half of that when they are compressed. nil is nothing.
func (r *result) pack() ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	s := &share{
		Connections: r.connections, Starved: r.starved, NeverGreeted: r.neverGreeted,
		Requests: r.requests, OK: r.ok, Misses: r.misses, Mismatches: r.mismatches,
		Unfinished: r.unfinished, Wrong: r.wrong, Errors: r.errors,
		Refusals: r.refusals, Series: r.series,
		Latency: r.latency, Service: r.service, Slip: r.slip, Connect: r.connect, Failed: r.failed,
		Dur: r.dur, ServerCPU: r.serverCPU, ClientCPU: r.clientCPU, Nodes: r.nodes,
	}
	if r.firstError != nil {
		s.FirstError = r.firstError.Error()
	}
	if r.firstWrong != nil {
		s.FirstWrong = r.firstWrong.Error()
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
	err := errors.Join(json.NewEncoder(z).Encode(s), z.Close())
	return b.Bytes(), err
}

func unpack(payload []byte) (*result, error) {
	if len(payload) == 0 {
		return new(result), nil
	}
	z, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	var s share
	if err := json.NewDecoder(z).Decode(&s); err != nil {
		return nil, err
	}
	r := &result{
		connections: s.Connections, starved: s.Starved, neverGreeted: s.NeverGreeted,
		requests: s.Requests, ok: s.OK, misses: s.Misses, mismatches: s.Mismatches,
		unfinished: s.Unfinished, wrong: s.Wrong, errors: s.Errors,
		refusals: s.Refusals, series: s.Series,
		latency: s.Latency, service: s.Service, slip: s.Slip, connect: s.Connect, failed: s.Failed,
		dur: s.Dur, serverCPU: s.ServerCPU, clientCPU: s.ClientCPU, nodes: s.Nodes,
	}
	if s.FirstError != "" {
		r.firstError = errors.New(s.FirstError)
	}
	if s.FirstWrong != "" {
		r.firstWrong = errors.New(s.FirstWrong)
	}
	return r, nil
}

// together is the result of all clients: each has seen the same servers work, and
// the round lasted until the last of them was done.
func together(all []*result, local bool) *result {
	sum := new(result)
	for _, r := range all {
		sum.merge(r)
		sum.dur = max(sum.dur, r.dur)
		sum.serverCPU = max(sum.serverCPU, r.serverCPU)
		if sum.nodes == nil {
			sum.nodes = r.nodes
		}
		if local {
			sum.clientCPU += r.clientCPU
		} else {
			sum.clientCPU = max(sum.clientCPU, r.clientCPU) // each has cores of its own
		}
	}
	return sum
}
