package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

func tourFlags(o *options, fs *flag.FlagSet) {
	fs.BoolVar(&o.quiet, "quiet", false, "no progress line")
}

// The scenarios of the tour, in the order of the table's columns.
const (
	tourClients  = 8
	tourRequests = 1000 // with a connection each: other systems have 16 384 ports for them
	tourKept     = 1500 * time.Millisecond
	stallTime    = 250 * time.Millisecond
	stallRate    = 24 // requests a second of the others, so that fewer are due in a stall than there are clients
	stallLength  = 4 * time.Second
	overClients  = 1000
	overRate     = 2000 // requests a second
	overLength   = 1500 * time.Millisecond
	overGrace    = 2500 * time.Millisecond
	tourWork     = time.Millisecond
	lastRounds   = 6
	lastRound    = 400 * time.Millisecond
)

const tourHeader = `
Lockstep is one hash table, served four ways. What breaks each of them, and what
the next one cures, measured now, on this machine:

  A  8 clients, a new connection for each request       requests/s
  B  8 clients, each keeps its connection               requests/s
  C  as A, beside one that stops in mid-request, for    the others' p99, from
     250 ms, again and again                            when a request was due
  D  overload: 2 000 requests/s due, over 1 000 kept    p99 of the answered,
     connections, 1 ms of work each, a queue of 64      and the share refused
  E  as B, with 1 ms of work                            requests/s

`

// A tourRow is what one stage did.
type tourRow struct {
	name                           string
	churn, kept, stall, over, work *result
	crowded                        metrics.Snapshot // of the server, with 1 000 connections
}

var tourWidths = []int{14, 6, 13, 6, 18, 13}

// tour shows what breaks each stage, and what the next one cures.
func tour(ctx context.Context, o *options) (err error) {
	line := newProgress(o.stderr, o.quiet)
	defer line.stop()
	line.say("building four stages (the first time takes longer)")
	h, err := newHouse(ctx, []string{"1", "2", "3", "4"}, line.say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := line.print(o.stdout, tourHeader+tourLine("stage", "A", "B", "C", "D", "E")); err != nil {
		return err
	}
	left := 60 * time.Second
	var rows []*tourRow
	for _, p := range h.programs {
		t := &tourist{ctx: ctx, house: h, program: p, line: line, expect: left}
		row, err := t.row()
		if err != nil {
			return err
		}
		if err := line.print(o.stdout, row.String()); err != nil {
			return err
		}
		rows = append(rows, row)
		left -= 13 * time.Second
	}
	line.expect(6 * time.Second)
	gain, held, err := noWork(ctx, h, line)
	if err != nil {
		return err
	}
	line.stop()
	return conclude(o, rows, gain, held)
}

// tourLine is a line of the table: the first cell to the left, the others to the right.
func tourLine(cells ...string) string {
	var b strings.Builder
	for i, cell := range cells {
		width := tourWidths[i]
		if i == 0 {
			width = -width
		} else {
			b.WriteString("  ")
		}
		fmt.Fprintf(&b, "%*s", width, cell)
	}
	return strings.TrimRight(b.String(), " ") + "\n"
}

func (r *tourRow) String() string {
	return tourLine(r.name, throughputCell(r.churn), throughputCell(r.kept), responseCell(r.stall), overCell(r.over), throughputCell(r.work))
}

func (r *result) perSecond() float64 { return float64(r.requests) / max(r.dur, 1).Seconds() }

func (r *result) starves() string {
	if r.starved == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d starve", r.starved, r.connections)
}

func (r *result) p99() time.Duration { return r.latency.Quantile(0.99) }

func (r *result) refused() float64 {
	busy := r.errors[client.ErrBusy.Error()]
	return 100 * float64(busy) / float64(max(r.requests+busy, 1))
}

func throughputCell(r *result) string {
	if s := r.starves(); s != "" {
		return s
	}
	return three(r.perSecond())
}

func responseCell(r *result) string {
	if s := r.starves(); s != "" {
		return s
	}
	return span(r.p99())
}

func overCell(r *result) string {
	if s := r.starves(); s != "" {
		return s
	}
	cell := fmt.Sprintf("%s, %.0f %%", span(r.p99()), r.refused())
	if r.unfinished > 0 {
		cell = ">" + cell // the slowest are not in it
	}
	return cell
}

// A tourist takes one stage through the scenarios.
type tourist struct {
	ctx     context.Context
	house   *house
	program program
	line    *progress
	expect  time.Duration
}

func (t *tourist) say(what string) {
	t.line.say(t.program.name + ": " + what)
}

func (t *tourist) row() (_ *tourRow, err error) {
	n, kind, _ := strings.Cut(strings.TrimPrefix(t.program.name, "stage"), "_")
	names := map[string]string{"singlethread": "single thread", "coarselock": "coarse lock", "threadpool": "thread pool", "bucketlock": "bucket locks"}
	row := &tourRow{name: n + " " + names[kind]}
	t.line.expect(t.expect)

	cfg := cluster.Default()
	cfg.Workload.Connections = tourClients
	err = t.with(cfg, func(ctx context.Context, cfg cluster.Config) (err error) {
		t.say("connections kept")
		kept := cfg
		kept.Workload.Duration = tourKept
		if row.kept, err = t.measure(ctx, kept); err != nil {
			return err
		}
		t.say("a connection for each request")
		churn := cfg
		churn.Workload.Conn = "per-request"
		churn.Workload.Ops = tourRequests
		if row.churn, err = t.measure(ctx, churn); err != nil {
			return err
		}
		t.say("beside a client that stops")
		churn.Workload.Rate, churn.Workload.Duration = stallRate, stallLength
		ctx, stopped := context.WithCancel(ctx)
		var staller sync.WaitGroup
		staller.Go(func() { stall(ctx, cfg) }) // ends with ctx
		row.stall, err = t.measure(ctx, churn)
		stopped()
		staller.Wait()
		return err
	})
	if err != nil {
		return nil, err
	}
	cfg.Server.Work.Time = tourWork
	err = t.with(cfg, func(ctx context.Context, cfg cluster.Config) (err error) {
		t.say("1 ms of work")
		work := cfg
		work.Workload.Duration = tourKept
		if row.work, err = t.measure(ctx, work); err != nil {
			return err
		}
		t.say("overload")
		over := cfg
		over.Workload.Connections, over.Workload.Rate, over.Workload.Duration = overClients, overRate, overLength
		row.over, row.crowded, err = t.overload(ctx, over)
		return err
	})
	return row, err
}

// with runs f while the stage serves.
func (t *tourist) with(cfg cluster.Config, f func(context.Context, cluster.Config) error) error {
	t.say("starting")
	s, err := t.house.start(t.ctx, t.program, cfg, 1)
	if err != nil {
		return err
	}
	ctx, cancel := s.watch(t.ctx)
	err = f(ctx, s.cfg)
	cancel()
	return errors.Join(err, t.house.stop(s))
}

func (t *tourist) measure(ctx context.Context, cfg cluster.Config) (*result, error) {
	work, err := newWorkload(cfg.Workload)
	if err != nil {
		return nil, err
	}
	l := newLoad(ctx, cfg, work, 0)
	defer l.close()
	if cfg.Workload.Conn == "persistent" {
		l.run(ctx, warmup(cfg.Workload.Duration)/2, 0)
	}
	return t.checked(l.measured(ctx, cfg.Workload.Duration, cfg.Workload.Ops))
}

// checked makes a wrong answer an error: there is no use in how fast it came.
func (t *tourist) checked(r *result, err error) (*result, error) {
	if err == nil && r.wrong > 0 {
		err = codeError{exitWrongData, fmt.Errorf("%s gave a wrong answer: %w", t.program.name, r.firstWrong)}
	}
	return r, err
}

func (t *tourist) overload(ctx context.Context, cfg cluster.Config) (*result, metrics.Snapshot, error) {
	work, err := newWorkload(cfg.Workload)
	if err != nil {
		return nil, metrics.Snapshot{}, err
	}
	l := newLoad(ctx, cfg, work, 0)
	defer l.close()
	l.once, l.grace = true, overGrace
	r, err := t.checked(l.measured(ctx, cfg.Workload.Duration, 0))
	if err != nil {
		return nil, metrics.Snapshot{}, err
	}
	crowded, err := client.Stats(ctx, cfg, 0)
	return r, crowded, err
}

// stall is a client that sends half a request, stops for 250 ms, sends the rest,
// reads the answer and leaves, again and again until ctx ends.
func stall(ctx context.Context, cfg cluster.Config) {
	request, err := wire.AppendRequest(nil, &wire.Request{Ops: []wire.Op{{Kind: wire.Get, Key: "stall"}}})
	if err != nil {
		panic(err)
	}
	for ctx.Err() == nil {
		stallOnce(ctx, cfg.Nodes[0].Addr, request)
	}
}

func stallOnce(ctx context.Context, addr string, request []byte) {
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		pause(ctx, time.Millisecond)
		return
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	greeting := make([]byte, 64)
	if _, err := io.ReadFull(nc, greeting); err != nil {
		return
	}
	half := len(request) / 2
	nc.Write(request[:half])
	pause(ctx, stallTime)
	nc.Write(request[half:])
	var length [4]byte
	if _, err := io.ReadFull(nc, length[:]); err == nil {
		io.CopyN(io.Discard, nc, int64(binary.BigEndian.Uint32(length[:])))
	}
}

// noWork compares stages 3 and 4 without work under the lock, in interleaved
// rounds, and returns what stage 4 gains, and how much of the time stage 3's lock
// was held.
func noWork(ctx context.Context, h *house, line *progress) (gain *Ratio, held float64, err error) {
	cfg := cluster.Default()
	cfg.Workload.Duration = lastRound
	var running [2]*servers
	for i, p := range h.programs[2:4] {
		if running[i], err = h.start(ctx, p, cfg, 1); err != nil {
			return nil, 0, err
		}
	}
	work, err := newWorkload(cfg.Workload)
	if err != nil {
		return nil, 0, err
	}
	watched, cancel := h.watch(ctx)
	defer cancel()
	rep := newReport(cfg, []string{running[0].stage, running[1].stage}, true)
	for round := range lastRounds {
		for i := range running {
			i = (i + round) % 2 // each comes first as often as second
			line.say(fmt.Sprintf("stages 3 and 4 without work: round %d of %d", round+1, lastRounds))
			before, err := statsOf(watched, running[i].cfg)
			if err != nil {
				return nil, 0, err
			}
			r, err := measure(watched, running[i].cfg, work, 0)
			if err != nil {
				return nil, 0, err
			}
			if r.wrong > 0 {
				return nil, 0, codeError{exitWrongData, r.firstWrong}
			}
			after, err := statsOf(watched, running[i].cfg)
			if err != nil {
				return nil, 0, err
			}
			if i == 0 {
				held = max(held, after[0].Sub(before[0]).Held())
			}
			rep.add(running[i].stage, round+1, r)
		}
	}
	return rep.Summary[1].Ratio, held, nil
}
