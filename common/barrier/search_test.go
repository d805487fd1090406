package barrier

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strings"
	"testing"

	"lockstep/common/wire"
)

// An edge is one event that can happen in a state.
type edge[S comparable] struct {
	to    S
	fault bool   // progress may not depend on this event
	say   string // what happens; %[1]d and %[2]d are a and b
	a, b  int
	bad   string // the property that it breaks, or ""
}

func (e edge[S]) String() string { return fmt.Sprintf(e.say+"%[3]s", e.a, e.b, e.bad) }

// A verdict is the result of a search. Its traces are the shortest of their kind.
type verdict struct {
	states int
	unsafe []string // the events up to one that breaks a property; nil: there is none
	stuck  bool     // from some state, the processes never finish without another fault
	before []string // the events up to the nearest such state
	after  []string // and from there until nothing more can happen
}

func (v verdict) String() string {
	s := fmt.Sprintf("safe and never stuck, in %d states", v.states)
	lines := v.unsafe
	switch {
	case v.unsafe != nil:
		s = fmt.Sprintf("unsafe, found in %d states", v.states)
	case v.stuck:
		s = fmt.Sprintf("stuck, found in %d states", v.states)
		lines = append(slices.Clone(v.before), "-- from here on, no process can finish:")
		lines = append(lines, v.after...)
		lines = append(lines, "-- nothing more can happen")
	}
	return strings.Join(append([]string{s}, lines...), "\n    ")
}

// search drives a system through every order of events, breadth first. It is one goroutine, in
// which the race detector finds nothing, and takes half as long again: it leaves out what a search
// calls for each event.
//
//go:norace
func search[S comparable](start S, next func(S) []edge[S], done func(S) bool) verdict {
	number := map[S]int32{start: 0}
	states := []S{start}
	parent := []int32{-1}
	var onward [][]int32 // by state: the states to which events other than faults lead
	var all []int32      // onward, in one piece
	event := func(from, to int32) string {
		events := next(states[from])
		return events[slices.IndexFunc(events, func(e edge[S]) bool { return e.to == states[to] })].String()
	}
	trace := func(to int32) (lines []string) {
		for ; parent[to] >= 0; to = parent[to] {
			lines = append(lines, event(parent[to], to))
		}
		slices.Reverse(lines)
		return lines
	}
	for at := int32(0); int(at) < len(states); at++ {
		from := len(all)
		events := next(states[at])
		for i := range events {
			e := &events[i]
			if e.bad != "" {
				return verdict{states: len(states), unsafe: append(trace(at), e.String())}
			}
			to, known := number[e.to]
			if !known {
				to = int32(len(states))
				number[e.to] = to
				states, parent = append(states, e.to), append(parent, at)
			}
			if !e.fault && to != at {
				all = append(all, to)
			}
		}
		onward = append(onward, all[from:])
	}

	// From which states can all processes still finish? Backwards, until nothing changes.
	hope := make([]bool, len(states))
	for changed := true; changed; {
		changed = false
		for at := len(states) - 1; at >= 0; at-- {
			if !hope[at] && (done(states[at]) || slices.ContainsFunc(onward[at], func(to int32) bool { return hope[to] })) {
				hope[at], changed = true, true
			}
		}
	}
	v := verdict{states: len(states)}
	if at := int32(slices.Index(hope, false)); at >= 0 {
		v.stuck, v.before = true, trace(at)
		for ; len(onward[at]) > 0 && len(v.after) < 50; at = onward[at][0] {
			v.after = append(v.after, event(at, onward[at][0]))
		}
	}
	return v
}

// Three processes: with two, a process that has seen the other has seen all.
const processes = 3

// A world is three real cores, and a network that remembers every answer. It delivers any
// of them at any time, in any order, any number of times, or never. So answers are lost,
// late, repeated and out of order, and a link may work in one direction only.
type world struct {
	core    [processes]uint16 // which of model.cores; 0: it is down
	ended   [processes]bool   // it will not come back
	crashes uint8             // so far
	said    [processes]uint64 // which of model.words, one bit each
}

// A model is what may happen to a world.
type model struct {
	rounds  int // 1 or 2
	oneRun  bool
	crashes int  // at most
	prompt  bool // answers may be lost, but are never late
	missing bool // a client that is down is given up
	rash    bool // any client may be given up
	strays  bool // answers also come from processes other than the one dialled
	end     ending
	blind   func(c *core, peer int, m *wire.Control) // hides a field from a core; nil: hides none

	cores   []known // from 1
	coreIDs map[string]uint16
	words   [processes][]wire.Control // what each can say
	wordIDs map[string]int
	effects map[int]effect // by core, peer and number of the event
	events  []edge[world]  // of the last call of next; used again by each
}

// An ending is when a process that has passed may end.
type ending uint8

const (
	never   ending = iota // it answers forever
	lingers               // once all others have said that they have passed
	atOnce
)

// A known core is one whose answers are known.
type known struct {
	*core
	now  [2]int    // by round: its answer, an index into model.words
	said [2]uint64 // all its answers while no process is beyond this round, a bit for each word
}

// An effect is what an event does to a core.
type effect struct {
	core uint16
	pass *core // not nil: this made it pass
	void bool
	say  string
	bad  string
}

// The numbers of events from 0 are those of the words of each process, 64 for each.
const (
	otherGroup = processes*64 + iota
	otherCluster
	arrival
	givingUp
)

func (m *model) search() verdict {
	m.cores, m.effects = []known{{core: new(core)}}, make(map[int]effect)
	m.coreIDs, m.wordIDs = make(map[string]uint16), make(map[string]int)
	var start world
	for i := range processes {
		start.core[i] = m.id(m.born(i, 0))
	}
	return search(m.speak(start), m.next, m.done)
}

// born returns a new process. Its incarnation encodes its number and its life: 31 is process
// 2 after one restart.
func (m *model) born(i int, life uint8) *core {
	return &core{group: "nodes", fingerprint: "ours", self: i, incarnation: uint64(10*(i+1)) + uint64(life),
		oneRun: m.oneRun, heard: make([]wire.Control, processes)}
}

// id returns the number of a core, so that a world is small and comparable. It first
// forgets what has no effect any more: the words of processes that are not ready, except
// for their incarnation, and all words once the round is passed.
func (m *model) id(c *core) uint16 {
	for i, h := range c.heard {
		switch {
		case c.passed && m.end != lingers || !h.Ready && !m.oneRun:
			c.heard[i] = wire.Control{}
		case !h.Ready:
			c.heard[i] = wire.Control{Incarnation: h.Incarnation}
		}
	}
	key := fmt.Sprint(*c)
	id, found := m.coreIDs[key]
	if !found {
		id = uint16(len(m.cores))
		m.coreIDs[key] = id
		m.cores = append(m.cores, m.know(c))
	}
	return id
}

// know finds out what a core says. If no answer is late, only what judge looks at matters later.
func (m *model) know(c *core) known {
	k, said := known{core: c}, uint64(0)
	for round := range m.rounds {
		a := c.answer(wire.Control{Round: round + 1})
		if slices.Contains(a.Seen, 0) && !slices.Contains(a.Seen, lost) {
			a.Seen = nil // not all ready: it equals nothing that counts
		}
		key := fmt.Sprint(a)
		place, found := m.wordIDs[key]
		if !found {
			place = len(m.words[c.self])
			m.wordIDs[key] = place
			m.words[c.self] = append(m.words[c.self], a)
		}
		if place == 64 {
			panic("a process can say more than world.said has bits for")
		}
		if !m.prompt || a.Seen != nil && !slices.Contains(a.Seen, 0) {
			said |= 1 << place
		}
		k.now[round], k.said[round] = place, said
	}
	return k
}

// speak records in the network all that can be said now, about each round that a process
// may ask about.
func (m *model) speak(w world) world {
	last := 1
	for _, id := range w.core {
		last = max(last, m.cores[id].round)
	}
	for i, id := range w.core {
		w.said[i] |= m.cores[id].said[last-1]
	}
	return w
}

// next lists all that can happen.
//
//go:norace
func (m *model) next(w world) []edge[world] {
	events := m.events[:0]
	for i, id := range w.core {
		to, c := w, m.cores[id].core
		switch {
		case w.ended[i]:
			continue
		case id == 0:
			to.core[i] = m.id(m.born(i, w.crashes))
			events = append(events, edge[world]{to: m.speak(to), say: "%[1]d starts again", a: i})
			continue
		case c.round == 0 || c.passed && c.round < m.rounds:
			events = m.event(events, w, i, i, arrival, false, func(c *core) (string, error) {
				c.arrive([]byte{byte(c.incarnation), byte(c.round + 1)})
				return fmt.Sprintf("%%[1]d arrives at round %d", c.round), nil
			})
		case !c.passed || m.end == lingers:
			for j := range processes {
				if j != i {
					events = m.hear(events, w, i, j)
					if down := w.core[j] == 0 || w.ended[j]; m.rash || m.missing && down {
						events = m.event(events, w, i, j, givingUp, !down, func(c *core) (string, error) {
							c.giveUp(j)
							return "%[1]d gives up %[2]d", nil
						})
					}
				}
			}
		}
		if c.passed && c.round == m.rounds && m.mayEnd(c) {
			to := w
			to.ended[i] = true
			events = append(events, edge[world]{to: to, say: "%[1]d ends", a: i})
		}
		// Only process 2 crashes: the processes differ only in their number.
		if i == processes-1 && int(w.crashes) < m.crashes {
			to := w
			to.crashes++
			to.core[i] = 0
			events = append(events, edge[world]{to: to, fault: true, say: "%[1]d crashes", a: i})
		}
	}
	m.events = events
	return events
}

func (m *model) mayEnd(c *core) bool {
	for j, h := range c.heard {
		if m.end == lingers && j != c.self && !h.Passed {
			return false
		}
	}
	return m.end != never
}

// hear lists what may come back when process i dials j: what j says now, what it ever
// said, and with strays what others say.
//
//go:norace
func (m *model) hear(events []edge[world], w world, i, j int) []edge[world] {
	c, now := m.cores[w.core[i]], -1
	if w.core[j] != 0 && !w.ended[j] {
		now = m.cores[w.core[j]].now[c.round-1]
	}
	// A process dials a peer again only after it has given up the previous dial, so no
	// answer from before the peer's restart follows one from after it.
	newest := c.heard[j].Incarnation
	if c.members != nil {
		newest = max(newest, c.members[j])
	}
	for from, said := range w.said {
		if from != j && !m.strays {
			continue
		}
		if from == j && now >= 0 {
			said |= 1 << now
		}
		for ; said != 0; said &= said - 1 {
			place := bits.TrailingZeros64(said)
			word, late := &m.words[from][place], from != j || place != now
			if !(late && m.prompt) && (from != j || word.Incarnation >= newest || !m.oneRun) {
				events = m.learn(events, w, i, j, from*64+place, word, late)
			}
		}
	}
	if m.strays { // and strangers, with answers that are as good as possible
		best := wire.Control{Kind: wire.Barrier, Group: "clients", Fingerprint: "ours", Round: c.round, From: j,
			Incarnation: 99, Ready: true, Seen: c.seen(), Passed: true}
		events = m.learn(events, w, i, j, otherGroup, &best, true)
		best.Group, best.Fingerprint = "nodes", "theirs"
		events = m.learn(events, w, i, j, otherCluster, &best, true)
	}
	return events
}

// learn adds the event that process i, which has dialled j, learns word.
func (m *model) learn(events []edge[world], w world, i, j, number int, said *wire.Control, fault bool) []edge[world] {
	return m.event(events, w, i, j, number, fault, func(c *core) (string, error) {
		word := *said
		word.To = i
		if m.blind != nil {
			m.blind(c, j, &word)
		}
		say := fmt.Sprintf("%%[1]d hears %%[2]d: ready %v, seen %v, passed %v", said.Ready, said.Seen, said.Passed)
		return say, c.learn(j, word)
	})
}

// event adds an event of process i, which may concern j. The function do makes it happen to a
// core and describes it, only once for each core.
//
//go:norace
func (m *model) event(events []edge[world], w world, i, j, number int, fault bool, do func(*core) (string, error)) []edge[world] {
	key := (int(w.core[i])*processes+j)<<8 | number
	what, found := m.effects[key]
	if !found {
		before, c := m.cores[w.core[i]].core, new(core)
		*c = *before
		c.heard, c.brought, c.gone = slices.Clone(c.heard), slices.Clone(c.brought), slices.Clone(c.gone)
		say, err := do(c)
		what.say = say
		if what.void = errors.Is(err, ErrVoid); what.void {
			what.say += ": the run is void"
			if before.gone[j] {
				what.bad = ", because of one that it has given up"
			}
		}
		if !slices.Contains(c.seen(), 0) {
			for k, h := range c.heard { // a payload identifies its process and round
				if !c.gone[k] && (len(h.Payload) != 2 || int(h.Payload[0]/10) != k+1 || int(h.Payload[1]) != c.round) {
					what.bad = fmt.Sprintf(", and takes %d for ready, which has not arrived at round %d", k, c.round)
				}
			}
		}
		if c.passed && !before.passed {
			passed := *c
			passed.heard = slices.Clone(c.heard) // which id forgets
			what.pass = &passed
		}
		what.core = m.id(c)
		m.effects[key] = what
	}
	if what.core == w.core[i] && !what.void {
		return events
	}
	to, bad := w, what.bad
	if to.core[i] = what.core; what.void {
		to.core[i], to.ended[i] = 0, true
	}
	if bad == "" && what.pass != nil {
		bad = m.judge(w, what.pass)
	}
	return append(events, edge[world]{m.speak(to), fault, what.say, i, j, bad})
}

// judge returns what is wrong with c passing its round, or "". It relies on the network, not
// on c, which may be blind.
func (m *model) judge(w world, c *core) string {
	with := make([]uint64, processes)
	for j, h := range c.heard {
		if with[j] = lost; c.members[j] != lost {
			with[j] = uint64(h.Payload[0])
		}
	}
	for j, said := range w.said {
		agreed := j == c.self || with[j] == lost
		for ; said != 0; said &= said - 1 {
			word := &m.words[j][bits.TrailingZeros64(said)]
			if word.Incarnation != with[j] {
				continue
			}
			same := slices.Equal(word.Seen, with)
			agreed = agreed || word.Round == c.round && (same || word.Passed && !m.oneRun)
			earlier := m.missing && word.Round < c.round // with more clients
			if word.Passed && !same && m.oneRun && !earlier && word.Seen[c.self] != lost {
				return fmt.Sprintf(", and passes with %v, and %d has with %v", with, j, word.Seen)
			}
		}
		if !agreed {
			return fmt.Sprintf(", and passes with %v, and %d has not seen them all", with, j)
		}
	}
	return ""
}

// done reports whether each process has passed all rounds, knows that the run is void, or
// has restarted and waits for a run that began without it.
func (m *model) done(w world) bool {
	begun := false
	for i, id := range w.core {
		begun = begun || w.ended[i] || m.cores[id].members != nil
	}
	for i, id := range w.core {
		switch c := m.cores[id]; {
		case w.ended[i]:
		case id == 0:
			return false
		case c.passed && c.round == m.rounds:
		case m.oneRun && w.crashes > 0 && begun && c.members == nil:
		default:
			return false
		}
	}
	return true
}

// No process takes another for ready before it has arrived. None passes before each, in
// its present incarnation, has seen all; clients that pass all pass with the same ones.
// And none is ever stuck: once the faults are over, all can finish.
func TestSearch(t *testing.T) {
	for _, c := range []struct {
		name string
		slow bool
		model
	}{
		{"nodes", false, model{rounds: 1, strays: true}},
		{"nodes/crash", false, model{rounds: 1, crashes: 1}},
		{"nodes/linger", false, model{rounds: 1, end: lingers}},
		{"clients", false, model{rounds: 2, oneRun: true, strays: true}},
		{"clients/missing/prompt", false, model{rounds: 2, oneRun: true, crashes: 1, prompt: true, missing: true}},
		{"clients/missing/rash", true, model{rounds: 2, oneRun: true, prompt: true, missing: true, rash: true}},
		{"clients/crash", true, model{rounds: 2, oneRun: true, crashes: 1}}, // 10 s
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.slow && os.Getenv("LOCKSTEP_SLOW") == "" {
				t.Skip("a million states")
			}
			t.Parallel()
			v := c.model.search()
			t.Log(v)
			if v.unsafe != nil || v.stuck {
				t.Error("want it safe and never stuck")
			}
		})
	}
}

// Without any one of its parts the barrier is broken, and the search shows how. To is not
// among the parts: what a process says is true for any receiver. It only serves errors.
func TestFields(t *testing.T) {
	for _, c := range []struct {
		without string
		model
		stuck bool // want it stuck, and not unsafe
	}{
		{without: "Group", model: model{strays: true, blind: func(c *core, _ int, m *wire.Control) { m.Group = c.group }}},
		{without: "Fingerprint", model: model{strays: true, blind: func(_ *core, _ int, m *wire.Control) { m.Fingerprint = "ours" }}},
		{without: "From", model: model{strays: true, blind: func(_ *core, peer int, m *wire.Control) { m.From = peer }}},
		{without: "Round", model: model{rounds: 2, oneRun: true, blind: func(c *core, _ int, m *wire.Control) { m.Round = c.round }}},
		{without: "Ready", model: model{blind: func(_ *core, _ int, m *wire.Control) { m.Ready = true }}},
		{without: "the second phase", model: model{blind: func(_ *core, _ int, m *wire.Control) { m.Passed = m.Ready }}},
		{without: "the names in Seen", model: model{crashes: 1, prompt: true, blind: func(c *core, _ int, m *wire.Control) {
			if m.Seen != nil { // just "all ready"
				m.Seen = c.seen()
			}
		}}},
		{without: "Incarnation", model: model{crashes: 1, blind: func(c *core, _ int, m *wire.Control) {
			c.heard[c.self].Incarnation, m.Incarnation = 1, 1
			if m.Seen != nil {
				m.Seen = []uint64{1, 1, 1}
			}
		}}},
		{without: "Passed", stuck: true, model: model{crashes: 1, prompt: true, blind: func(_ *core, _ int, m *wire.Control) {
			m.Passed = false
		}}},
		{without: "lingering", model: model{end: atOnce}, stuck: true},
	} {
		t.Run(c.without, func(t *testing.T) {
			t.Parallel()
			c.model.rounds = max(1, c.model.rounds)
			v := c.model.search()
			t.Logf("without %s: %s", c.without, v)
			if unsafe := v.unsafe != nil; unsafe == c.stuck || v.stuck != c.stuck {
				t.Errorf("unsafe %v, stuck %v; want the opposite", unsafe, v.stuck)
			}
		})
	}
}

// The two barriers that are usually written first. The search that finds no fault in the
// real one finds theirs:
//
//	go test ./common/barrier -run Specimen -v

// counting is the barrier that counts messages. A process that arrives writes "ready" to
// the others. Once it has counted as many "ready" as there are others, it writes "all
// ready" to them, and once it has counted as many of those, it starts.
type counting struct {
	came     [processes]bool // ever
	here     [processes]bool // and is up
	ready    [processes]int8 // messages counted
	allReady [processes]int8
	started  [processes]bool
	net      [2][processes][processes]int8 // messages in transit: by word, from and to
	faults   faults                        // that can still happen
}

type faults struct{ duplicates, unread, crashes, forged int8 }

var words = [2]string{"ready", "all ready"}

// write writes a word from process i to all others.
func (s *counting) write(word, i int) {
	for j := range processes {
		if j != i {
			s.net[word][i][j]++
		}
	}
}

// count counts a word at process j, and does what follows from it.
func (s *counting) count(word, j int) (bad string) {
	if word == 0 {
		if s.ready[j]++; s.ready[j] == processes-1 {
			s.write(1, j)
		}
		return ""
	}
	if s.allReady[j]++; s.allReady[j] == processes-1 {
		s.started[j] = true
		for _, came := range s.came {
			if !came {
				bad = ", and starts before all have arrived"
			}
		}
	}
	return bad
}

func (s counting) next() (events []edge[counting]) {
	add := func(to counting, fault bool, say string, a, b int, bad string) {
		events = append(events, edge[counting]{to, fault, say, a, b, bad})
	}
	for i := range processes {
		if !s.here[i] {
			to := s
			to.came[i], to.here[i] = true, true
			to.write(0, i)
			add(to, false, "%[1]d arrives and writes ready to all", i, 0, "")
		} else if s.faults.crashes > 0 && !s.started[i] {
			to := s
			to.faults.crashes--
			to.here[i], to.ready[i], to.allReady[i] = false, 0, 0
			add(to, true, "%[1]d crashes and loses its counts", i, 0, "")
		}
		for j := range processes {
			for word := range words {
				if i == j || !s.here[j] {
					continue
				}
				if s.faults.forged > 0 {
					to := s
					to.faults.forged--
					bad := to.count(word, j)
					add(to, true, "%[2]d counts a forged "+words[word]+" from %[1]d", i, j, bad)
				}
				if s.net[word][i][j] == 0 {
					continue
				}
				to := s
				to.net[word][i][j]--
				lost := to
				bad := to.count(word, j)
				add(to, false, "%[2]d counts "+words[word]+" from %[1]d", i, j, bad)
				if s.faults.duplicates > 0 {
					to.faults.duplicates--
					to.net[word][i][j]++
					add(to, true, "%[2]d counts "+words[word]+" from %[1]d, and another copy is in transit", i, j, bad)
				}
				if s.faults.unread > 0 {
					lost.faults.unread--
					add(lost, true, "%[1]d's "+words[word]+" to %[2]d is written, and never read", i, j, "")
				}
			}
		}
	}
	return events
}

func (s counting) done() bool { return s.started == [processes]bool{true, true, true} }

// single is the barrier of one goroutine. It asks each other process in turn and waits for
// the answer; then it answers the questions of the others.
type single struct {
	step [processes]int8 // 0: not arrived; 1, 2: waits for the first, second answer; then answers; then has started
}

func (s single) next() (events []edge[single]) {
	const answers, started = processes, 2*processes - 1
	for i, step := range s.step {
		to := s
		to.step[i]++
		switch {
		case step == 0:
			const say = "%[1]d arrives, asks %[2]d, and waits for the answer"
			events = append(events, edge[single]{to: to, say: say, a: i, b: (i + 1) % processes})
		case step < answers:
			if j := (i + int(step)) % processes; answers <= s.step[j] && s.step[j] < started {
				to.step[j]++
				events = append(events, edge[single]{to: to, say: "%[2]d answers %[1]d", a: i, b: j})
			}
		}
	}
	return events
}

func (s single) done() bool {
	const started = 2*processes - 1
	return s.step == [processes]int8{started, started, started}
}

func TestSpecimen(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		faults
		want string
	}{
		{"no faults", "safe", faults{}, "safe"},
		{"one message arrives twice", "safe: it takes two duplicates to replace the third process", faults{duplicates: 1}, "safe"},
		{"two messages arrive twice", "unsafe: the duplicates are counted like another process", faults{duplicates: 2}, "unsafe"},
		{"two forged messages", "unsafe", faults{forged: 2}, "unsafe"},
		{"one write is never read", "stuck: no process writes anything twice", faults{unread: 1}, "stuck"},
		{"one crash and restart", "stuck", faults{crashes: 1}, "stuck"},
	} {
		t.Run("counting/"+c.name, func(t *testing.T) {
			show(t, c.prediction, c.want, search(counting{faults: c.faults}, counting.next, counting.done))
		})
	}
	t.Run("single goroutine", func(t *testing.T) {
		show(t, "stuck: all ask and none answers", "stuck", search(single{}, single.next, single.done))
	})
}

func show(t *testing.T, prediction, want string, v verdict) {
	t.Logf("prediction: %s\nfound: %s", prediction, v)
	got := "safe"
	switch {
	case v.unsafe != nil:
		got = "unsafe"
	case v.stuck:
		got = "stuck"
	}
	if got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
}
