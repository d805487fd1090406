package barrier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"lockstep/common/cluster"
	"lockstep/common/text"
	"lockstep/common/wire"
)

// ErrVoid is returned by Wait if a process of the run has restarted, or has gone on without
// this one. The error names the process.
var ErrVoid = errors.New("the run is void")

// lost stands in Seen for the incarnation of a client that is missing.
const lost = math.MaxUint64

// A core is one process's part in the barrier as a state machine without clock,
// network or goroutines: answers of others go in through learn, its own come out of
// answer. So the search in the tests can drive the code that runs in production
// through every order of events.
//
// It is safe because a message states only facts about the incarnation that sends
// it, such as "I have arrived" and "I have seen these incarnations ready". They stay
// true however late or often the message arrives. A process passes when each of the
// incarnations that it has seen has seen exactly the same ones. So what was said
// before a restart never counts for the restarted process.
//
// A client that gives up another says so to the rest, and then waits only for those that have
// given up the same ones. One that has passed with more of them decides for those that it
// passed with: they have seen the same ones, and adopt them. So clients that do not give each
// other up all pass with the same ones.
type core struct {
	group       string
	self        int
	incarnation uint64 // never 0
	fingerprint string
	oneRun      bool // a process that restarts after round 1 voids the run (clients) or rejoins (nodes)

	round   int            // the last round arrived at; 0: none yet
	passed  bool           // that round is passed
	brought [][]byte       // this process's payloads, by round
	heard   []wire.Control // by number: the last message of each process about round, its own included
	members []uint64       // the incarnations with which the last round was passed; or lost
	gone    []bool         // by number: given up for this round and all that follow
}

// arrive begins the next round.
func (c *core) arrive(payload []byte) {
	if c.round++; c.round == 1 {
		c.gone = make([]bool, len(c.heard))
	}
	c.passed = false
	c.brought = append(c.brought, payload)
	c.heard = make([]wire.Control, len(c.heard))
	c.heard[c.self] = wire.Control{Ready: true, Incarnation: c.incarnation, Payload: payload}
	c.look()
}

// question returns what to ask a peer. A question has no effect on its receiver:
// anyone could have sent it.
func (c *core) question(peer int) wire.Control {
	return wire.Control{Kind: wire.Barrier, Group: c.group, Round: c.round, From: c.self, To: peer,
		Incarnation: c.incarnation, Fingerprint: c.fingerprint}
}

// answer answers question q, about this round or an earlier one. It changes nothing,
// so a question can do no harm.
func (c *core) answer(q wire.Control) wire.Control {
	a := c.question(q.From)
	a.Round = q.Round
	if a.Ready = 1 <= q.Round && q.Round <= c.round; a.Ready {
		a.Passed = q.Round < c.round || c.passed
		a.Payload = c.brought[q.Round-1]
		a.Seen = c.seen()
		if a.Passed {
			a.Seen = c.members
		}
	}
	return a
}

// learn takes in what came back when this process dialled peer and asked. It returns
// an error if the answer is to be ignored.
func (c *core) learn(peer int, m wire.Control) error {
	switch {
	case m.Kind != wire.Barrier, m.Group != c.group, m.From != peer, m.To != c.self, m.Round != c.round:
		return fmt.Errorf("%w: this is number %d of %s, and answers number %d about round %d",
			wire.ErrMismatch, m.From, text.Quote(m.Group, 20), m.To, m.Round)
	case m.Fingerprint != c.fingerprint:
		return fmt.Errorf("%w: %s", wire.ErrMismatch, difference(c.fingerprint, m.Fingerprint))
	case c.gone[peer], !m.Ready && c.heard[peer].Ready && c.heard[peer].Incarnation == m.Incarnation: // or it comes late
		return nil
	case c.oneRun && c.members != nil && c.members[peer] != m.Incarnation:
		return fmt.Errorf("%w: it restarted after the run began", ErrVoid)
	}
	c.heard[peer] = m // replaces what it said before: a new incarnation leaves both sets
	if c.oneRun && len(m.Seen) == len(c.heard) {
		if err := c.follow(m); err != nil {
			return err
		}
	}
	c.look()
	return nil
}

// follow takes in whom another client has given up, and with whom it has passed.
func (c *core) follow(m wire.Control) error {
	switch self := m.Seen[c.self]; {
	case self == lost:
		return fmt.Errorf("%w: it has gone on without this client, which did not answer", ErrVoid)
	case m.Passed && self == c.incarnation && !c.saw(m.Seen):
		return fmt.Errorf("%w: it began with a client that has restarted", ErrVoid)
	case m.Passed && self == c.incarnation:
		c.passed, c.members = true, m.Seen
	}
	for i, incarnation := range m.Seen {
		c.gone[i] = c.gone[i] || incarnation == lost
	}
	return nil
}

// saw reports whether this process has seen all of these incarnations ready, but for those
// that are lost.
func (c *core) saw(all []uint64) bool {
	for i, m := range c.heard {
		if all[i] != lost && !(m.Ready && m.Incarnation == all[i]) {
			return false
		}
	}
	return true
}

// giveUp goes on without a client that does not answer. All clients have to meet once first.
func (c *core) giveUp(peer int) {
	if c.oneRun && c.members != nil && !c.passed {
		c.gone[peer] = true
		c.look()
	}
}

// difference names the first line of one fingerprint that is another in the other, and says what
// to do about it.
func difference(here, there string) string {
	first, _, _ := strings.Cut(cluster.Differences(here, there), "; ")
	name, _, _ := strings.Cut(first, " ")
	todo := map[string]string{"version": "build both from one source", "stage": "start the same stage on both"}[name]
	return cmp.Or(first, "the configuration") + ": " + cmp.Or(todo, "give both the same properties.json and flags")
}

// seen lists the incarnations that this process has seen ready, by number, its own
// included; 0: not yet; or lost.
func (c *core) seen() []uint64 {
	seen := make([]uint64, len(c.heard))
	for i, m := range c.heard {
		if c.gone[i] {
			seen[i] = lost
		} else if m.Ready {
			seen[i] = m.Incarnation
		}
	}
	return seen
}

// missing lists the processes that this one waits for: those that are not ready, and
// those that have not seen exactly the incarnations that this one has seen. A node
// that has passed agrees with all incarnations: it passed with all others, and those
// it does not know have restarted since.
func (c *core) missing() (numbers []int) {
	seen := c.seen()
	for i, m := range c.heard {
		agrees := i == c.self || m.Passed && !c.oneRun || slices.Equal(m.Seen, seen)
		if seen[i] == 0 || !agrees && !c.gone[i] {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

// rejoined reports whether a peer has passed the round, with another incarnation of this
// process.
func (c *core) rejoined() bool {
	return slices.ContainsFunc(c.heard, func(m wire.Control) bool { return m.Passed && !slices.Contains(m.Seen, c.incarnation) })
}

// look passes the round if no process is missing.
func (c *core) look() {
	if !c.passed && c.missing() == nil {
		c.passed, c.members = true, c.seen()
	}
}

// MaxGathered limits what all processes together bring to Gather, in bytes.
const MaxGathered = 64 << 20

// Gather is Wait for a payload of any size: it takes a round for each MaxPayload bytes of the
// longest one, and a part that is shorter is the last. A process that goes missing on the way
// brings nothing.
func (b *Barrier) Gather(ctx context.Context, payload []byte) ([][]byte, error) {
	whole, size := make([][]byte, len(b.cfg.Peers)), 0
	for more := true; more; {
		part := payload[:min(len(payload), MaxPayload)]
		payload = payload[len(part):]
		parts, err := b.Wait(ctx, part)
		if err != nil {
			return nil, err
		}
		more = false
		for i, p := range parts {
			more = more || len(p) == MaxPayload
			size += len(p)
			if whole[i] == nil || p == nil {
				whole[i] = p
			} else {
				whole[i] = append(whole[i], p...)
			}
		}
		if size > MaxGathered {
			return nil, fmt.Errorf("barrier: the payloads have more than %d MiB", MaxGathered>>20)
		}
	}
	return whole, nil
}
