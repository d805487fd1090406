package barrier

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lockstep/common/wire"
)

// ErrVoid is in the error of Wait where a run has lost one of those it started
// with. The error names it.
var ErrVoid = errors.New("the run is void")

// A core is the part of one process in the barrier, as a machine without clock,
// network or goroutines: what it hears goes in through learn, what it says comes
// out of answer. So the search in the tests can take it through every order of
// events, and the process runs the very code that was searched.
//
// What makes it safe: everything a message says is a fact about the incarnation
// that says it, and stays one however late or often it arrives: "I arrived",
// "these are the incarnations that I saw ready". A process passes when each that
// it saw has seen exactly the same, so nothing said about a process before its
// restart is taken for the process after it.
type core struct {
	group       string
	self        int
	incarnation uint64 // never 0
	fingerprint string
	oneRun      bool // who restarts after round 1 voids the run (clients), or joins again (nodes)

	round   int            // arrived at; 0: at none yet
	passed  bool           // and passed
	brought [][]byte       // this process's payload, by round
	heard   []wire.Control // by number: the last word of each about round; its own, too
	members []uint64       // whom this process went on with from the last round that it passed
}

// arrive begins the next round.
func (c *core) arrive(payload []byte) {
	c.round++
	c.passed = false
	c.brought = append(c.brought, payload)
	c.heard = make([]wire.Control, len(c.heard))
	c.heard[c.self] = wire.Control{Ready: true, Incarnation: c.incarnation, Payload: payload}
	c.look()
}

// question is what to ask a peer. The question itself says nothing that counts:
// anybody could have sent it.
func (c *core) question(peer int) wire.Control {
	return wire.Control{Kind: wire.Barrier, Group: c.group, Round: c.round, From: c.self, To: peer,
		Incarnation: c.incarnation, Fingerprint: c.fingerprint}
}

// answer answers question q, about this round or an earlier one. It changes
// nothing, and so whoever asks, asks in vain for harm.
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

// learn takes in what came back when this process dialled peer and asked, or
// says why it counts for nothing.
func (c *core) learn(peer int, m wire.Control) error {
	switch {
	case m.Kind != wire.Barrier, m.Group != c.group, m.From != peer, m.To != c.self, m.Round != c.round:
		return fmt.Errorf("%w: this is number %d of %.20q, and answers number %d about round %d",
			wire.ErrMismatch, m.From, m.Group, m.To, m.Round)
	case m.Fingerprint != c.fingerprint:
		return fmt.Errorf("%w about %s", wire.ErrMismatch, difference(c.fingerprint, m.Fingerprint))
	case c.oneRun && c.members != nil && c.members[peer] != m.Incarnation:
		return fmt.Errorf("%w: it restarted after the run began", ErrVoid)
	}
	c.heard[peer] = m // in place of what it said before: a new incarnation leaves both sets
	c.look()
	return nil
}

// difference names the first line in which two fingerprints differ, and what to do
// about it. What comes from the other end is shown quoted and short.
func difference(here, there string) string {
	ours, theirs := strings.Split(here, "\n"), strings.Split(there, "\n")
	i := 0
	for i < min(len(ours), len(theirs))-1 && ours[i] == theirs[i] {
		i++
	}
	name, our, _ := strings.Cut(ours[i], " ")
	their, same := strings.CutPrefix(theirs[i], name+" ")
	if !same {
		their = theirs[i]
	}
	todo := "give both the same nodes in properties.json"
	switch name {
	case "version":
		todo = "build both from one source"
	case "stage":
		todo = "start the same stage on both"
	}
	return fmt.Sprintf("%s: here %s, there %s: %s", cmp.Or(name, "the configuration"), short(our), short(their), todo)
}

// short makes text of any origin fit for a line of a log.
func short(text string) string {
	quoted := strconv.Quote(text)
	switch {
	case len(quoted) > 50:
		return quoted[:50] + `..."`
	case len(quoted) == len(text)+2 && text != "" && !strings.Contains(text, " "):
		return text
	}
	return quoted
}

// seen is whom this process has seen ready, itself included.
func (c *core) seen() []uint64 {
	seen := make([]uint64, len(c.heard))
	for i, m := range c.heard {
		if m.Ready {
			seen[i] = m.Incarnation
		}
	}
	return seen
}

// missing lists whom this process waits for: whoever is not ready, or has not
// seen exactly those that this process has seen. Nodes join one that has passed
// whomever it saw: it left with an agreement, and they have restarted since.
func (c *core) missing() (who []int) {
	seen := c.seen()
	for i, m := range c.heard {
		agrees := i == c.self || m.Passed && !c.oneRun || slices.Equal(m.Seen, seen)
		if seen[i] == 0 || !agrees {
			who = append(who, i)
		}
	}
	return who
}

// look passes the round if nobody is missing.
func (c *core) look() {
	if c.missing() == nil {
		c.passed, c.members = true, c.seen()
	}
}
