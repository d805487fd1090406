package barrier

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lockstep/common/wire"
)

// An edge is one event that can happen in a state.
type edge[S comparable] struct {
	to    S
	fault bool   // progress may not depend on this event
	say   string // what happens
	bad   string // the property that it breaks, or ""
}

// A verdict is the result of a search.
type verdict struct {
	is     string // safe, unsafe, or stuck: from some state, the processes never finish without another fault
	states int
	trace  []string // the shortest that shows it
}

func (v verdict) String() string {
	found := map[bool]string{true: " and never stuck, in", false: ", found in"}[v.is == "safe"]
	return strings.Join(append([]string{fmt.Sprintf("%s%s %d states", v.is, found, v.states)}, v.trace...), "\n    ")
}

// search drives a system through every order of events, breadth first. It is one goroutine, in
// which the race detector finds nothing, and takes half as long again: it leaves out what a search
// calls for each event.
//
//go:norace
func search[S comparable](start S, next func(S) []edge[S], done func(S) bool) verdict {
	number, states := map[S]int32{start: 0}, []S{start}
	parent, said := []int32{0}, []string{""} // by state: from where it was reached first, and how
	var onward [][]int32                     // by state: the states to which events other than faults lead
	trace := func(to int32) (lines []string) {
		for ; to > 0; to = parent[to] {
			lines = append(lines, said[to])
		}
		slices.Reverse(lines)
		return lines
	}
	for at := int32(0); int(at) < len(states); at++ {
		var ways []int32
		for _, e := range next(states[at]) {
			if e.bad != "" {
				return verdict{"unsafe", len(states), append(trace(at), e.say+e.bad)}
			}
			to, seen := number[e.to]
			if !seen {
				to = int32(len(states))
				number[e.to] = to
				states, parent, said = append(states, e.to), append(parent, at), append(said, e.say)
			}
			if !e.fault && to != at {
				ways = append(ways, to)
			}
		}
		onward = append(onward, ways)
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
	at := slices.Index(hope, false)
	if at < 0 {
		return verdict{"safe", len(states), nil}
	}
	lines, state := append(trace(int32(at)), "-- from here on, no process can finish:"), states[at]
	leads := func(e edge[S]) bool { return !e.fault && e.to != state }
	for range 50 { // it may go in circles
		if events := next(state); slices.ContainsFunc(events, leads) {
			e := events[slices.IndexFunc(events, leads)]
			lines, state = append(lines, e.say), e.to
		}
	}
	return verdict{"stuck", len(states), append(lines, "-- nothing more can happen")}
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

func (w *world) down(i int) bool { return w.core[i] == 0 || w.ended[i] }

// A model is what may happen to a world.
type model struct {
	rounds  int // 1 or 2
	oneRun  bool
	crashes int                                      // at most
	prompt  bool                                     // answers may be lost, but are never late
	missing bool                                     // a client that is down is given up
	rash    bool                                     // any client may be given up
	strays  bool                                     // answers also come from processes other than the one dialled
	lingers bool                                     // a process ends once all others have said that they have passed
	hasty   bool                                     // one ends as soon as it has passed; otherwise it answers forever
	blind   func(c *core, peer int, m *wire.Control) // hides a field from a core; nil: hides none

	cores   []known                   // from 1
	words   [processes][]wire.Control // what each can say
	ids     map[string]int            // of cores and words
	effects map[int]effect            // by core, peer and number of the event
	events  []edge[world]             // of the last call of next; used again by each
}

// A known core is one whose answers are known.
type known struct {
	*core
	now  [2]int    // by round: its answer, an index into model.words
	said [2]uint64 // all its answers while no process is beyond this round, a bit for each word
}

// An effect is what an event does to a core.
type effect struct {
	core     uint16
	pass     *core // not nil: this made it pass
	void     bool
	say, bad string
}

// The numbers of events from 0 are those of the words of each process, 64 for each.
const (
	otherGroup = processes*64 + iota
	otherCluster
	arrival
	givingUp
)

func (m *model) search() verdict {
	m.cores, m.ids, m.effects = []known{{core: new(core)}}, make(map[string]int), make(map[int]effect)
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
		case c.passed && !m.lingers || !h.Ready && !m.oneRun:
			c.heard[i] = wire.Control{}
		case !h.Ready:
			c.heard[i] = wire.Control{Incarnation: h.Incarnation}
		}
	}
	key := fmt.Sprint(*c)
	if m.ids[key] == 0 {
		m.ids[key] = len(m.cores)
		m.cores = append(m.cores, m.know(c))
	}
	return uint16(m.ids[key])
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
		place, found := m.ids[key]
		if !found {
			place = len(m.words[c.self])
			m.ids[key] = place
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
	m.events = m.events[:0]
	for i, id := range w.core {
		to, c := w, m.cores[id].core
		switch {
		case w.ended[i]:
			continue
		case id == 0:
			to.core[i] = m.id(m.born(i, w.crashes))
			m.events = append(m.events, edge[world]{to: m.speak(to), say: "2 starts again"})
			continue
		case c.round == 0 || c.passed && c.round < m.rounds:
			m.event(w, i, i, arrival, false, func(c *core) (string, error) {
				c.arrive([]byte{byte(c.incarnation), byte(c.round + 1)})
				return fmt.Sprintf("%d arrives at round %d", i, c.round), nil
			})
		case !c.passed || m.lingers:
			for j := range processes {
				if j == i {
					continue
				}
				m.hear(w, i, j)
				if m.rash || m.missing && w.down(j) {
					m.event(w, i, j, givingUp, !w.down(j), func(c *core) (string, error) {
						c.giveUp(j)
						return fmt.Sprintf("%d gives up %d", i, j), nil
					})
				}
			}
		}
		runs := func(j int) bool { return j != i && !c.heard[j].Passed } // for all that it knows
		if c.passed && c.round == m.rounds && (m.hasty || m.lingers && !(runs(0) || runs(1) || runs(2))) {
			to.ended[i] = true
			m.events = append(m.events, edge[world]{to: to, say: strconv.Itoa(i) + " ends"})
		}
		// Only process 2 crashes: the processes differ only in their number.
		if i == processes-1 && int(w.crashes) < m.crashes {
			to := w
			to.crashes++
			to.core[i] = 0
			m.events = append(m.events, edge[world]{to: to, fault: true, say: "2 crashes"})
		}
	}
	return m.events
}

// hear lists what may come back when process i dials j: what j says now, what it ever
// said, and with strays what others say.
//
//go:norace
func (m *model) hear(w world, i, j int) {
	learn := func(number int, said *wire.Control, fault bool) {
		m.event(w, i, j, number, fault, func(c *core) (string, error) {
			word := *said
			word.To = i
			if m.blind != nil {
				m.blind(c, j, &word)
			}
			return fmt.Sprintf("%d hears %d: ready %v, seen %v, passed %v", i, j, said.Ready, said.Seen, said.Passed), c.learn(j, word)
		})
	}
	c, now, all := m.cores[w.core[i]], -1, w.said
	if !w.down(j) {
		now = m.cores[w.core[j]].now[c.round-1]
		all[j] |= 1 << now
	}
	// A process dials a peer again only after it has given up the previous dial, so no
	// answer from before the peer's restart follows one from after it.
	newest := c.heard[j].Incarnation
	if c.members != nil {
		newest = max(newest, c.members[j])
	}
	for from, said := range all {
		if from != j && !m.strays {
			continue
		}
		for ; said != 0; said &= said - 1 {
			place := bits.TrailingZeros64(said)
			word, late := &m.words[from][place], from != j || place != now
			if !(late && m.prompt) && (from != j || word.Incarnation >= newest || !m.oneRun) {
				learn(from*64+place, word, late)
			}
		}
	}
	if m.strays { // and strangers, with answers that are as good as possible
		best := wire.Control{Kind: wire.Barrier, Group: "clients", Fingerprint: "ours", Round: c.round, From: j,
			Incarnation: 99, Ready: true, Seen: c.seen(), Passed: true}
		learn(otherGroup, &best, true)
		best.Group, best.Fingerprint = "nodes", "theirs"
		learn(otherCluster, &best, true)
	}
}

// event adds an event of process i, which may concern j. The function do makes it happen to a
// core and describes it, only once for each core.
//
//go:norace
func (m *model) event(w world, i, j, number int, fault bool, do func(*core) (string, error)) {
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
		return
	}
	to, bad := w, what.bad
	if to.core[i] = what.core; what.void {
		to.core[i], to.ended[i] = 0, true
	}
	if bad == "" && what.pass != nil {
		bad = m.judge(w, what.pass)
	}
	m.events = append(m.events, edge[world]{m.speak(to), fault, what.say, bad})
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
		{"nodes/linger", false, model{rounds: 1, lingers: true}},
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
			show(t, "safe", c.model.search())
		})
	}
}

// Without any one of its parts the barrier is broken, and the search shows how. To is not
// among the parts: what a process says is true for any receiver. It only serves errors.
func TestFields(t *testing.T) {
	for _, c := range []struct {
		without, want string
		model
	}{
		{"Group", "unsafe", model{strays: true, blind: func(c *core, _ int, m *wire.Control) { m.Group = c.group }}},
		{"Fingerprint", "unsafe", model{strays: true, blind: func(_ *core, _ int, m *wire.Control) { m.Fingerprint = "ours" }}},
		{"From", "unsafe", model{strays: true, blind: func(_ *core, peer int, m *wire.Control) { m.From = peer }}},
		{"Round", "unsafe", model{rounds: 2, oneRun: true, blind: func(c *core, _ int, m *wire.Control) { m.Round = c.round }}},
		{"Ready", "unsafe", model{blind: func(_ *core, _ int, m *wire.Control) { m.Ready = true }}},
		{"the second phase", "unsafe", model{blind: func(_ *core, _ int, m *wire.Control) { m.Passed = m.Ready }}},
		{"the names in Seen", "unsafe", model{crashes: 1, prompt: true, blind: func(c *core, _ int, m *wire.Control) {
			if m.Seen != nil { // just "all ready"
				m.Seen = c.seen()
			}
		}}},
		{"Incarnation", "unsafe", model{crashes: 1, blind: func(c *core, _ int, m *wire.Control) {
			c.heard[c.self].Incarnation, m.Incarnation = 1, 1
			if m.Seen != nil {
				m.Seen = []uint64{1, 1, 1}
			}
		}}},
		{"Passed", "stuck", model{crashes: 1, prompt: true, blind: func(_ *core, _ int, m *wire.Control) { m.Passed = false }}},
		{"lingering", "stuck", model{hasty: true}},
	} {
		t.Run(c.without, func(t *testing.T) {
			t.Parallel()
			c.rounds = max(1, c.rounds)
			show(t, c.want, c.model.search())
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
	came    [processes]bool    // ever
	here    [processes]bool    // and is up
	counted [processes][2]int8 // messages, by word
	started [processes]bool
	net     [2][processes][processes]int8 // messages in transit: by word, from and to
	faults                                // that can still happen
}

type faults [5]int8 // by what they are: how many

const none, forged, duplicates, crashes, unread = 0, 1, 2, 3, 4

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
	s.counted[j][word]++
	switch {
	case s.counted[j][word] != processes-1:
	case word == 0:
		s.write(1, j)
	default:
		if s.started[j] = true; slices.Contains(s.came[:], false) {
			return ", and starts before all have arrived"
		}
	}
	return ""
}

func (s counting) next() (events []edge[counting]) {
	add := func(fault int, do func(to *counting) (bad string), say string, args ...any) {
		to := s
		if to.faults[fault] > 0 {
			to.faults[fault]--
		} else if fault != none {
			return
		}
		bad := do(&to)
		events = append(events, edge[counting]{to, fault != none, fmt.Sprintf(say, args...), bad})
	}
	for i := range processes {
		if !s.here[i] {
			add(none, func(to *counting) string {
				to.came[i], to.here[i] = true, true
				to.write(0, i)
				return ""
			}, "%d arrives and writes ready to all", i)
		} else if !s.started[i] {
			add(crashes, func(to *counting) string {
				to.here[i], to.counted[i] = false, [2]int8{}
				return ""
			}, "%d crashes and loses its counts", i)
		}
		for j := range processes {
			for word, said := range words {
				if i == j || !s.here[j] {
					continue
				}
				count := func(to *counting) string { return to.count(word, j) }
				add(forged, count, "%d counts a forged %s from %d", j, said, i)
				if s.net[word][i][j] == 0 {
					continue
				}
				take := func(to *counting) string {
					to.net[word][i][j]--
					return ""
				}
				add(none, func(to *counting) string { return take(to) + count(to) }, "%d counts %s from %d", j, said, i)
				add(duplicates, count, "%d counts %s from %d, and another copy is in transit", j, said, i)
				add(unread, take, "%d's %s to %d is written, and never read", i, said, j)
			}
		}
	}
	return events
}

func (s counting) done() bool { return s.started == [processes]bool{true, true, true} }

// single is the barrier of one goroutine. It asks each other process in turn and waits for
// the answer; then it answers the questions of the others.
type single [processes]int8 // by process: 0: not arrived; 1, 2: waits for the first, second answer; then answers; then has started

const answers, started = processes, 2*processes - 1

func (s single) next() (events []edge[single]) {
	for i, step := range s {
		j, to := (i+max(int(step), 1))%processes, s
		to[i]++
		switch {
		case step == 0:
			events = append(events, edge[single]{to: to, say: fmt.Sprintf("%d arrives, asks %d, and waits for the answer", i, j)})
		case step < answers && answers <= s[j] && s[j] < started:
			to[j]++
			events = append(events, edge[single]{to: to, say: fmt.Sprintf("%d answers %d", j, i)})
		}
	}
	return events
}

func (s single) done() bool { return s == single{started, started, started} }

func TestSpecimen(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		faults
	}{
		{"no faults", "safe", faults{}},
		{"one message arrives twice", "safe: it takes two duplicates to replace the third process", faults{duplicates: 1}},
		{"two messages arrive twice", "unsafe: the duplicates are counted like another process", faults{duplicates: 2}},
		{"two forged messages", "unsafe", faults{forged: 2}},
		{"one write is never read", "stuck: no process writes anything twice", faults{unread: 1}},
		{"one crash and restart", "stuck", faults{crashes: 1}},
	} {
		t.Run("counting/"+c.name, func(t *testing.T) {
			show(t, c.prediction, search(counting{faults: c.faults}, counting.next, counting.done))
		})
	}
	t.Run("single goroutine", func(t *testing.T) {
		show(t, "stuck: all ask and none answers", search(single{}, single.next, single.done))
	})
}

func show(t *testing.T, prediction string, v verdict) {
	t.Logf("prediction: %s\nfound: %s", prediction, v)
	if want, _, _ := strings.Cut(prediction, ":"); v.is != want {
		t.Errorf("it is %s, want %s", v.is, want)
	}
}
