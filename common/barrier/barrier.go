// Package barrier makes the processes of a group wait for each other: Wait returns
// in each of them once it has been called in all of them, and gives each process
// the payloads of all. Servers meet there before they serve; the client processes of
// a benchmark meet before they start and when they stop.
//
// The barrier has no leader. In each process one goroutine listens and answers, and
// while the process waits, one goroutine for each peer dials it again and again and
// asks: have you arrived, and whom have you seen ready?
//
//	ready       I have arrived. A peer joins this set, by its number, when it says
//	            so in answer to my own dial.
//	all ready   I have seen everyone ready, namely these incarnations. A peer joins
//	            this set when it names exactly those that I have seen. Once all
//	            peers are in it, I go on.
//
// What it promises:
//
//   - No process goes on before all have arrived and each of them, in its present
//     incarnation, has seen all the others. So a process that goes on knows that
//     all can reach each other.
//   - No process is stuck for longer than a fault lasts. Answers may be lost,
//     delayed or duplicated; a link may work in one direction only; a process may
//     crash and restart, as another incarnation.
//   - A node that restarts after the others have gone on joins them. A client that
//     restarts would spoil the measurement, so it voids the run: see ErrVoid.
//   - Once clients have met, one that dies or is stopped holds up the others for seconds
//     only. They go on without it, and agree on who is missing.
//   - Unsolicited messages change nothing and cost little.
//
// Why not count messages? The obvious barrier has each process write "ready" to the
// others and wait for as many "ready" messages as it has peers. Two duplicated
// messages make it start without a process; one write that is never read, or one
// restart, makes it wait forever. And a barrier of one goroutine that first asks
// and then answers deadlocks. The tests search all orders of events for such
// faults, in this barrier and in those two:
//
//	go test ./common/barrier -v -run 'Search|Fields|Specimen'
package barrier

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"lockstep/common/control"
	"lockstep/common/wire"
)

// MaxPayload is the maximum size in bytes of a process's payload for a round.
const MaxPayload = 48 << 10

const (
	minPause    = time.Millisecond       // between two questions to a peer, doubling
	maxPause    = 100 * time.Millisecond // up to this
	firstReport = time.Second
	reportEvery = 3 * time.Second
	lingerTime  = 2 * time.Second
	refusedTime = 2 * time.Second // a client that refuses connections for this long is missing,
	silentTime  = 5 * time.Second // and so is one that gives no answer for this long; the last question then takes up to 3 s
	maxReasons  = 8               // distinct mismatches logged for a peer: a peer that makes them up fills neither memory nor the log
)

// A Config says which process this is, and of which group.
type Config struct {
	Group       string           // "nodes" or "clients"
	Self        int              // this process's number in the group, from 0
	Peers       []string         // the control addresses of the whole group, by number
	Fingerprint string           // what all must agree on, a NAME=VALUE on each line; a mismatch shows the first that differs
	Secret      string           // as in wire.Hello
	Log         *slog.Logger     // nil: nothing is logged
	Dial        control.DialFunc // nil: that of a net.Dialer
	Strangers   int              // as for control.Serve; 0: control.MaxStrangers
	// Answers are to other questions than the barrier's, at any time. They travel in JSON, of at
	// most 60 KiB each. A question without one ends its connection.
	Answers map[wire.ControlKind]func() any
}

// A Barrier is one process's part in the barrier of its group. It has one lock, and
// never blocks while holding it.
type Barrier struct {
	cfg    Config
	ctx    context.Context // ends in Close, or at Hurry
	stop   context.CancelFunc
	server sync.WaitGroup // the control port; ends when ctx does

	mu     sync.Mutex // guards what follows
	core   core
	why    []error     // by peer: why the last question to it failed
	heard  []time.Time // by peer: when it last answered in this round, or the round began
	logged [][]string  // by peer: the mismatches logged, at most maxReasons
}

// New serves the control port ln, which it closes in Close.
func New(ln net.Listener, cfg Config) *Barrier {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	b := &Barrier{
		cfg: cfg, why: make([]error, len(cfg.Peers)), heard: make([]time.Time, len(cfg.Peers)), logged: make([][]string, len(cfg.Peers)),
		core: core{group: cfg.Group, self: cfg.Self, incarnation: max(1, rand.Uint64()), fingerprint: cfg.Fingerprint,
			oneRun: cfg.Group == "clients", heard: make([]wire.Control, len(cfg.Peers))},
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.server.Go(func() {
		control.Serve(b.ctx, ln, control.Hello(cfg.Group, cfg.Self, cfg.Secret), cmp.Or(cfg.Strangers, control.MaxStrangers), b.answer)
	}) // until Close, which waits for it
	return b
}

func (b *Barrier) answer(question wire.Control) (answer wire.Control, ok bool) {
	if other := b.cfg.Answers[question.Kind]; other != nil {
		payload, _ := json.Marshal(other()) // none has a part that can fail
		return wire.Control{Kind: question.Kind, Group: b.cfg.Group, From: b.cfg.Self, Payload: payload}, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.core.answer(question), question.Kind == wire.Barrier
}

// Wait arrives at the next round with a payload of at most MaxPayload bytes. Once
// all processes have arrived it returns their payloads, by number; that of a client is
// nil if it is missing, and only then. While it waits it logs for whom and why, after
// one second and then every three seconds. The error at the end of ctx says the same.
// The process has then arrived nevertheless, and the others may go on; its next Wait is
// for the same round, with the payload of the first. With ErrVoid, these clients cannot
// go on together. Only one Wait may run at a time.
func (b *Barrier) Wait(ctx context.Context, payload []byte) ([][]byte, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("barrier: the payload has %d bytes, the limit is %d", len(payload), MaxPayload)
	}
	b.mu.Lock()
	if b.core.round == 0 || b.core.passed {
		b.core.arrive(bytes.Clone(payload))
	}
	since := time.Now()
	for peer := range b.heard {
		b.heard[peer] = since
	}
	b.mu.Unlock()

	if !b.passed() { // a group of one passes immediately
		var end context.CancelCauseFunc
		ctx, end = context.WithCancelCause(ctx)
		defer end(nil)
		defer context.AfterFunc(b.ctx, func() { end(net.ErrClosed) })()
		// These goroutines end with ctx, which ends when the round is passed, when
		// the run is void, or at Close. A peer that has said all that is needed is
		// still asked: it may restart, which voids what it has said.
		var waiting sync.WaitGroup
		waiting.Go(func() { b.report(ctx, since) })
		b.pursue(ctx, &waiting, func(peer int, err error) (enough bool) {
			if errors.Is(err, ErrVoid) {
				end(fmt.Errorf("%s: %w", b.name(peer), err))
			}
			if b.passed() {
				end(nil)
			}
			return false
		})
		waiting.Wait()
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.core.passed {
		err := context.Cause(ctx)
		if !errors.Is(err, ErrVoid) {
			err = fmt.Errorf("%s (%w)", b.status(since), err)
		}
		return nil, fmt.Errorf("barrier of %s, round %d: %w", b.cfg.Group, b.core.round, err)
	}
	payloads := make([][]byte, len(b.core.heard))
	for i, m := range b.core.heard {
		if b.core.members[i] != lost {
			payloads[i] = append([]byte{}, m.Payload...) // the core still answers with its own
		}
	}
	return payloads, nil
}

// Close leaves the barrier and closes the control port. A peer that has not passed
// the last round may still need an answer, so Close first lingers until each peer
// has said that it has passed or cannot be dialled, for 2 seconds at most, or until
// Hurry. A Wait in progress ends with net.ErrClosed. The error is always nil.
func (b *Barrier) Close() error {
	if b.passed() {
		time.AfterFunc(lingerTime, b.Hurry)
		var lingering sync.WaitGroup // each ends when its peer has passed, or at Hurry
		b.pursue(b.ctx, &lingering, func(peer int, err error) (enough bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.core.heard[peer].Passed ||
				errors.As(err, new(control.DialError)) || errors.Is(err, wire.ErrMismatch) || errors.Is(err, ErrVoid)
		})
		lingering.Wait()
	}
	b.stop()
	b.server.Wait()
	return nil
}

// Hurry cuts short the lingering of Close, which may be in progress or still to come.
func (b *Barrier) Hurry() { b.stop() }

// Rejoined reports whether peers had passed the last round before this process arrived:
// then it is a node that was restarted while they ran.
func (b *Barrier) Rejoined() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.core.rejoined()
}

func (b *Barrier) passed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.core.passed
}

// pursue starts a goroutine for each peer that asks it again and again, and passes
// each outcome to then. The goroutine ends when then returns true, or when ctx ends.
func (b *Barrier) pursue(ctx context.Context, wg *sync.WaitGroup, then func(peer int, err error) (enough bool)) {
	for peer := range b.cfg.Peers {
		if peer == b.cfg.Self {
			continue
		}
		hello := control.Hello(b.cfg.Group, peer, b.cfg.Secret)
		wg.Go(func() {
			for pause := minPause; ; pause = min(2*pause, maxPause) {
				b.mu.Lock()
				question, gone := b.core.question(peer), b.core.gone[peer]
				b.mu.Unlock()
				if gone {
					return
				}
				answer, err := control.Ask(ctx, b.cfg.Dial, b.cfg.Peers[peer], hello, question)
				if ctx.Err() != nil || then(peer, b.learn(peer, answer, err)) {
					return
				}
				control.Pause(ctx, pause/2+rand.N(pause/2))
			}
		})
	}
}

var errGivenUp = errors.New("another client says so")

// learn hands the answer of a peer, or the error in place of one, to the core. It
// returns why the answer is ignored, or nil.
func (b *Barrier) learn(peer int, answer wire.Control, err error) error {
	b.mu.Lock()
	silent, before := time.Since(b.heard[peer]), slices.Clone(b.core.gone)
	if err == nil {
		b.heard[peer] = time.Now()
		err = b.core.learn(peer, answer)
	} else if silent >= silentTime || silent >= refusedTime && control.Refused(err) {
		b.core.giveUp(peer)
	}
	b.why[peer] = err
	var missing []string // those that this process or the peer has given up just now
	for i, gone := range b.core.gone {
		if gone && !before[i] {
			missing = append(missing, b.name(i)+" is missing: "+reason(cmp.Or(b.why[i], errGivenUp))+"; going on without it")
		}
	}
	logged := b.logged[peer]
	isNew := errors.Is(err, wire.ErrMismatch) && len(logged) < maxReasons && !slices.Contains(logged, err.Error())
	if isNew {
		b.logged[peer] = append(logged, err.Error())
	}
	b.mu.Unlock()
	for _, line := range missing {
		b.cfg.Log.Warn(line)
	}
	if isNew {
		b.cfg.Log.Warn(fmt.Sprintf("%s: %v", b.name(peer), err))
	}
	return err
}

// report logs the status every few seconds until ctx ends.
func (b *Barrier) report(ctx context.Context, since time.Time) {
	for control.Pause(ctx, firstReport); ctx.Err() == nil; control.Pause(ctx, reportEvery) {
		b.mu.Lock()
		status := b.status(since)
		b.mu.Unlock()
		b.cfg.Log.Info(status)
	}
}

// status says how many processes are ready, and for whom this one waits and why.
// The caller holds b.mu.
func (b *Barrier) status(since time.Time) string {
	all := slices.DeleteFunc(b.core.seen(), func(incarnation uint64) bool { return incarnation == lost })
	ready := slices.DeleteFunc(slices.Clone(all), func(incarnation uint64) bool { return incarnation == 0 })
	var waiting []string
	for _, peer := range b.core.missing() {
		why := b.core.lacks(peer)
		if err := b.why[peer]; err != nil {
			why = reason(err)
		}
		waiting = append(waiting, b.name(peer)+": "+why)
	}
	if n := len(waiting) - 4; n > 1 {
		waiting = append(waiting[:4], fmt.Sprintf("%d more", n))
	}
	return fmt.Sprintf("%d/%d ready after %v; waiting for %s", len(ready), len(all),
		time.Since(since).Round(time.Second), strings.Join(waiting, "; "))
}

func (b *Barrier) name(peer int) string {
	return fmt.Sprintf("%s %d (%s)", singular(b.cfg.Group), peer, b.cfg.Peers[peer])
}

func singular(group string) string { return strings.TrimSuffix(group, "s") }

// lacks says why a peer that has answered is still missing.
func (c *core) lacks(peer int) string {
	m := c.heard[peer]
	switch {
	case m.Kind == 0: // it has not answered
		return "no answer yet"
	case !m.Ready:
		return "not ready yet"
	}
	if len(m.Seen) != len(c.heard) {
		return fmt.Sprintf("it counts %d %s, and this process %d: give both the same properties.json", len(m.Seen), c.group, len(c.heard))
	}
	seen, i := c.seen(), 0
	for i < len(seen)-1 && m.Seen[i] == seen[i] {
		i++ // to where they differ: otherwise the peer would not be missing
	}
	if m.Passed {
		return fmt.Sprintf("it has started with an earlier %s %d", singular(c.group), i)
	}
	return fmt.Sprintf("it has not seen %s %d ready", singular(c.group), i)
}

// reason is the part of a network error that is news to a reader of the status.
func reason(err error) string {
	why := err.Error()
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		why = errno.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		why = "no answer"
	}
	if errors.As(err, new(control.DialError)) {
		why = "cannot be reached: " + why
	}
	return why
}
