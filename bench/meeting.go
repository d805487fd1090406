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

	"lockstep/common/barrier"
)

// A meeting is where the client processes of a run start and stop together: meet
// returns when all have come, with what each of them brought.
type meeting func(ctx context.Context, mine *Result) ([]*Result, error)

// company joins the other client processes that properties.json names. Where there
// are none, every meeting is over at once.
func (o *options) company(line *progress) (meet meeting, leave func() error, err error) {
	if len(o.cfg.Clients) <= 1 {
		alone := func(_ context.Context, mine *Result) ([]*Result, error) { return []*Result{mine}, nil }
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
	meet = func(ctx context.Context, mine *Result) ([]*Result, error) {
		line.Say("waiting for the other clients")
		payload, err := mine.pack()
		if err != nil {
			return nil, err
		}
		payloads, err := b.Wait(ctx, payload)
		if err != nil {
			return nil, err
		}
		var all []*Result
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
	return p.line.Print(p.w, "bench: "+r.Message+"\n")
}

// pack makes a result small enough for a barrier's payload: the histograms of an hour
// of overload have 100 KB, and less than half of that when they are compressed. nil is nothing.
func (r *Result) pack() ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
	err := errors.Join(json.NewEncoder(z).Encode(r), z.Close())
	return b.Bytes(), err
}

func unpack(payload []byte) (*Result, error) {
	r := new(Result)
	if len(payload) == 0 {
		return r, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	return r, json.NewDecoder(z).Decode(r)
}

// together is the result of all clients: each has seen the same servers work, and
// the round lasted until the last of them was done.
func together(all []*Result, local bool) *Result {
	sum := new(Result)
	for _, r := range all {
		sum.Merge(r)
		sum.Dur = max(sum.Dur, r.Dur)
		sum.ServerCPU = max(sum.ServerCPU, r.ServerCPU)
		if sum.Nodes == nil {
			sum.Nodes = r.Nodes
		}
		if local {
			sum.ClientCPU += r.ClientCPU
		} else {
			sum.ClientCPU = max(sum.ClientCPU, r.ClientCPU) // each has cores of its own
		}
	}
	return sum
}
