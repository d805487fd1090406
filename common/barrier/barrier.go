// Package barrier makes the processes of a group wait for each other: Wait
// returns in each of them once it has been called in all of them, and hands
// everybody what everybody brought. Servers meet there before they serve, the
// client processes of one benchmark before they start and when they stop.
//
// It has no leader. In each process one goroutine listens and answers, and while
// the process waits one more for each peer dials it and asks, again and again:
// are you ready, and whom have you seen ready?
//
//	ready       I have arrived. A peer is in this set, by its number, when it has
//	            said so in answer to my own dial.
//	all ready   I have seen everybody ready, and these are they. A peer is in this
//	            set when it names exactly those that I have seen. When all are, I go on.
//
// What it promises:
//
//   - Nobody goes on before all have arrived, and before everybody, this very
//     incarnation of everybody, has seen everybody: who goes on knows that all can
//     reach all.
//   - Nobody is stuck for longer than what is broken stays broken. Answers may be
//     lost, come late or twice; a link may work one way; a process may crash and
//     be started again, as another incarnation, and takes its place anew.
//   - A node that is started again when the others have gone on joins them. Among
//     clients that would spoil a measurement, so it voids the run: see ErrVoid.
//   - What others send unasked counts for nothing, and costs little.
//
// Why not count? A barrier that counts messages, each process writing "ready" to
// the others and waiting for as many as there are others, is the obvious first
// one. Two messages that arrive twice make it start without a process; one write
// that nobody reads, or one restart, makes it wait for ever. And one goroutine
// that first asks and then answers never gets an answer. The tests search every
// order of events for that, in this barrier and in those:
//
//	go test ./common/barrier -v -run 'Search|Fields|Specimen'
package barrier

import (
	"bytes"
	"context"
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

	"lockstep/common/wire"
)

// MaxPayload is the most that a process can bring to a round, in bytes.
const MaxPayload = 48 << 10

const (
	minPause    = time.Millisecond       // between two questions to a peer, doubling
	maxPause    = 100 * time.Millisecond // up to this
	firstReport = time.Second
	reportEvery = 3 * time.Second
	lingerTime  = 2 * time.Second
	maxReasons  = 8 // logged of each peer: one that makes them up fills no memory, and drowns no other's
)

// A Config says which process this is, and of which group.
type Config struct {
	Group       string                                                   // "nodes" or "clients"
	Self        int                                                      // this process's number in the group, from 0
	Peers       []string                                                 // the control addresses of the whole group, by number
	Fingerprint string                                                   // what all must agree on, a name and a value on each line: a mismatch shows the first that differs
	Secret      string                                                   // as in wire.Hello
	Log         *slog.Logger                                             // nil: nothing is logged
	Stats       func() []byte                                            // answers AskStats, at most 60 KiB, at any time; nil: an empty answer
	Dial        func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP
}

// A Barrier is one process's place in its group. It has one lock, and does
// nothing under it that can wait.
type Barrier struct {
	cfg        Config
	ln         net.Listener
	ctx        context.Context // ends in Close
	stop       context.CancelFunc
	goroutines sync.WaitGroup // the listener and its connections

	mu     sync.Mutex // guards what follows
	core   core
	why    []error    // by peer: why the last question to it came to nothing
	logged [][]string // by peer: reasons for a mismatch, at most maxReasons
}

// New begins to answer on ln, the control port, and does so until Close, which
// also closes ln.
func New(ln net.Listener, cfg Config) *Barrier {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
	b := &Barrier{
		cfg: cfg, ln: ln, why: make([]error, len(cfg.Peers)), logged: make([][]string, len(cfg.Peers)),
		core: core{group: cfg.Group, self: cfg.Self, incarnation: max(1, rand.Uint64()), fingerprint: cfg.Fingerprint,
			oneRun: cfg.Group == "clients", heard: make([]wire.Control, len(cfg.Peers))},
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.goroutines.Go(b.listen) // until Close, which waits for it
	return b
}

// Wait arrives at the next round with a payload of at most MaxPayload bytes, and
// returns everybody's, by number, once everybody has arrived. Meanwhile it logs
// for whom it waits and why, first after one second and then every three. Where
// ctx ends first, the error says that, too. The process has arrived all the same,
// and the others may go on; its next Wait is for the same round, with the payload
// that it brought first. ErrVoid says that these clients cannot go on together.
// One Wait at a time.
func (b *Barrier) Wait(ctx context.Context, payload []byte) ([][]byte, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("barrier: a payload of %d bytes is not in 0..%d", len(payload), MaxPayload)
	}
	b.mu.Lock()
	if b.core.round == 0 || b.core.passed {
		b.core.arrive(bytes.Clone(payload))
	}
	passed := b.core.passed // at once, where there is nobody else
	b.mu.Unlock()

	since := time.Now()
	if !passed {
		var end context.CancelCauseFunc
		ctx, end = context.WithCancelCause(ctx)
		defer end(nil)
		defer context.AfterFunc(b.ctx, func() { end(net.ErrClosed) })()
		// All of them end with ctx, and it ends when the round is passed, when the
		// run is void, or at Close. Who has said all that is needed is asked on: it
		// may restart, and what it has said is void then.
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
		payloads[i] = bytes.Clone(m.Payload) // the core goes on answering with its own
	}
	return payloads, nil
}

// Close ends the process's part in the barrier and closes the control port. A
// peer that has not passed the last round yet may still need an answer, so Close
// first lingers until each has said that it has passed or cannot be dialled, for
// 2 seconds at most, or until Hurry. A Wait in progress ends with net.ErrClosed.
func (b *Barrier) Close() error {
	if b.passed() {
		ctx, cancel := context.WithTimeout(b.ctx, lingerTime)
		var lingering sync.WaitGroup // each ends when its peer has gone on, or ctx ends
		b.pursue(ctx, &lingering, func(peer int, err error) (enough bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.core.heard[peer].Passed ||
				errors.As(err, new(dialError)) || errors.Is(err, wire.ErrMismatch) || errors.Is(err, ErrVoid)
		})
		lingering.Wait()
		cancel()
	}
	b.stop()
	err := b.ln.Close()
	b.goroutines.Wait()
	return err
}

// Hurry cuts short the lingering of a Close, in progress or to come.
func (b *Barrier) Hurry() { b.stop() }

func (b *Barrier) passed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.core.passed
}

// pursue starts a goroutine for each peer, which asks it over and over until
// then, told what came of it, says that it was enough, or ctx ends.
func (b *Barrier) pursue(ctx context.Context, wg *sync.WaitGroup, then func(peer int, err error) (enough bool)) {
	for peer := range b.cfg.Peers {
		if peer == b.cfg.Self {
			continue
		}
		wg.Go(func() {
			for pause := minPause; ; pause = min(2*pause, maxPause) {
				b.mu.Lock()
				question := b.core.question(peer)
				b.mu.Unlock()
				answer, err := ask(ctx, b.cfg.Dial, b.cfg.Peers[peer], b.hello(peer), question)
				if ctx.Err() != nil || then(peer, b.learn(peer, answer, err)) {
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause/2 + rand.N(pause/2)):
				}
			}
		})
	}
}

// learn takes in the answer to a question, or the error that came instead, and
// returns why it counts for nothing.
func (b *Barrier) learn(peer int, answer wire.Control, err error) error {
	b.mu.Lock()
	if err == nil {
		err = b.core.learn(peer, answer)
	}
	b.why[peer] = err
	logged := b.logged[peer]
	tell := errors.Is(err, wire.ErrMismatch) && len(logged) < maxReasons && !slices.Contains(logged, err.Error())
	if tell {
		b.logged[peer] = append(logged, err.Error())
	}
	b.mu.Unlock()
	if tell {
		b.cfg.Log.Warn(fmt.Sprintf("%s: %v", b.name(peer), err))
	}
	return err
}

// report says every few seconds for whom this process waits, until ctx ends.
func (b *Barrier) report(ctx context.Context, since time.Time) {
	for pause := firstReport; ; pause = reportEvery {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		b.mu.Lock()
		status := b.status(since)
		b.mu.Unlock()
		b.cfg.Log.Info(status)
	}
}

// status is how far the round is. The caller holds b.mu.
func (b *Barrier) status(since time.Time) string {
	ready := 0
	for _, m := range b.core.heard {
		if m.Ready {
			ready++
		}
	}
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
	return fmt.Sprintf("%d/%d ready after %v; waiting for %s", ready, len(b.core.heard),
		time.Since(since).Round(time.Second), strings.Join(waiting, "; "))
}

func (b *Barrier) name(peer int) string {
	return fmt.Sprintf("%s %d (%s)", singular(b.cfg.Group), peer, b.cfg.Peers[peer])
}

func singular(group string) string { return strings.TrimSuffix(group, "s") }

// lacks says why a peer is missing that has answered.
func (c *core) lacks(peer int) string {
	m := c.heard[peer]
	if !m.Ready {
		return "not ready yet"
	}
	if len(m.Seen) != len(c.heard) {
		return fmt.Sprintf("it counts %d %s, and this process %d: give both the same properties.json", len(m.Seen), c.group, len(c.heard))
	}
	for i, incarnation := range c.seen() {
		switch {
		case m.Seen[i] == incarnation:
		case m.Passed:
			return fmt.Sprintf("it has started with an earlier %s %d", singular(c.group), i)
		default:
			return fmt.Sprintf("it has not seen %s %d ready", singular(c.group), i)
		}
	}
	return "it has not seen all ready"
}

// reason is the part of a network error that tells a reader something new.
func reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer"
	}
	return err.Error()
}
