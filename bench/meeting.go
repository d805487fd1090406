package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"lockstep/bench/load"
	"lockstep/common/barrier"
)

// A meeting is where the client processes of a run start and stop together: meet
// returns when all have come, with what each of them brought.
type meeting func(ctx context.Context, mine *load.Result) ([]*load.Result, error)

// company joins the other client processes that properties.json names. Where there
// are none, every meeting is over at once.
func (o *options) company(line *progress) (meet meeting, leave func() error, err error) {
	if len(o.cfg.Clients) <= 1 {
		alone := func(_ context.Context, mine *load.Result) ([]*load.Result, error) { return []*load.Result{mine}, nil }
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
	meet = func(ctx context.Context, mine *load.Result) ([]*load.Result, error) {
		line.Say("waiting for the other clients")
		payload, err := mine.Pack()
		if err != nil {
			return nil, err
		}
		payloads, err := b.Wait(ctx, payload)
		if err != nil {
			return nil, err
		}
		var all []*load.Result
		for i, payload := range payloads {
			r, err := load.Unpack(payload)
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
