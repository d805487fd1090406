//go:build interleave

package stagetest

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/lincheck"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A Store is what executes a stage's requests: its apply.
type Store func(ops []wire.Op) []wire.Result

// Interleave runs small requests against a stage's store, in every order of their
// steps: of taking a lock, of freeing it, and of what lies between the look-up and the
// effect of an operation. It fails t if in one of them the answers are not
// linearizable, or nobody can go on.
func Interleave(t *testing.T, newStore func(*node.Node) Store) {
	for _, test := range interleavings {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			bad, runs := findInterleaving(t, newStore, test.before, test.requests)
			if bad != "" {
				t.Errorf("%s", bad)
			}
			t.Logf("%d schedules in %v", runs, time.Since(began).Round(time.Millisecond))
		})
	}
}

// The requests that run at the same time, and what is stored before.
var interleavings = []struct {
	name     string
	before   []wire.Op
	requests [][]wire.Op
}{
	{"TwoBatchesInOppositeOrder", nil, [][]wire.Op{{put("a", "1"), put("b", "1")}, {put("b", "2"), put("a", "2")}}},
	{"TwoSwapsOfOneKey", []wire.Op{put("n", "0")}, [][]wire.Op{{cas("n", "0", "1")}, {cas("n", "0", "2")}}},
	{"PutAgainstGet", []wire.Op{put("a", "0")}, [][]wire.Op{{put("a", "1")}, {get("a")}}},
	{"TransferAgainstBalance", []wire.Op{put("a", "5"), put("b", "5")},
		[][]wire.Op{{cas("a", "5", "4"), cas("b", "5", "6")}, {get("b"), get("a")}}},
	{"OneKeyTwiceInABatch", nil, [][]wire.Op{{put("a", "1"), put("a", "2")}, {get("a"), del("a")}}},
	{"ThreeOnOneKey", nil, [][]wire.Op{{insert("a", "1")}, {del("a")}, {put("a", "2")}}},
}

// findInterleaving returns the schedule with the fewest preemptions that is not
// linearizable, or in which nobody can go on, as text; or "", and how many schedules
// there are.
func findInterleaving(t *testing.T, newStore func(*node.Node) Store, before []wire.Op, requests [][]wire.Op) (bad string, runs int) {
	const all = 1 << 20
	cfg := cluster.Default()
	cfg.Server.Buckets = 1024 // so many that the keys lie in different ones
	// One store for all: in another one the keys would lie in other buckets.
	store := newStore(node.New(cfg, 0, slog.New(slog.DiscardHandler)))
	for _, preemptions := range []int{0, 1, 2, all} {
		runs = 0
		for schedule := []choice(nil); ; {
			s := newScheduler(store, before, requests)
			s.run(schedule, preemptions)
			runs++
			if bad := s.judge(t); bad != "" {
				return bad, runs
			}
			store([]wire.Op{del("a"), del("b"), del("n")})
			if schedule = following(s.made); schedule == nil {
				break
			}
		}
	}
	return "", runs
}

// A choice is which of the requests that could go on did.
type choice struct{ took, of int }

// following is the schedule after this one, in depth-first order, up to where it
// differs; nil after the last one.
func following(made []choice) []choice {
	for i := len(made) - 1; i >= 0; i-- {
		if made[i].took+1 < made[i].of {
			next := append([]choice(nil), made[:i+1]...)
			next[i].took++
			return next
		}
	}
	return nil
}

// A scheduler runs requests, one step of one of them at a time.
type scheduler struct {
	store    Store
	calls    []lincheck.Call
	now      int64 // the number of steps so far
	threads  []*thread
	current  *thread
	stopped  chan struct{} // by the current thread, when its next step is known, or it is done
	owner    map[*metrics.Mutex]*thread
	number   map[*metrics.Mutex]int // of a lock, as it came up
	made     []choice
	table    []string // the schedule, a line for each step
	deadlock bool
}

// A thread is the goroutine of one request.
type thread struct {
	number  int
	call    int       // its place in calls
	resume  chan bool // false: give up
	started bool
	done    bool
	step    metrics.Step // the next, if started
	lock    *metrics.Mutex
}

func newScheduler(store Store, before []wire.Op, requests [][]wire.Op) *scheduler {
	s := &scheduler{
		store:   store,
		stopped: make(chan struct{}), owner: make(map[*metrics.Mutex]*thread), number: make(map[*metrics.Mutex]int),
	}
	if before != nil {
		s.alone(before)
	}
	for i, ops := range requests {
		s.threads = append(s.threads, &thread{number: i, call: len(s.calls), resume: make(chan bool)})
		s.calls = append(s.calls, lincheck.Call{Client: i + 1, Ops: ops, End: lincheck.Never})
	}
	return s
}

// alone executes a request while no other runs, as client 0.
func (s *scheduler) alone(ops []wire.Op) {
	s.now += 2
	s.calls = append(s.calls, lincheck.Call{Ops: ops, Results: s.store(ops), Start: s.now - 1, End: s.now})
}

// gaveUp unwinds a goroutine whose schedule ends in a deadlock.
type gaveUp struct{}

// run takes the choices of a schedule, and the first possible ones after them, with at
// most so many preemptions: steps of another request though this one could go on.
func (s *scheduler) run(schedule []choice, preemptions int) {
	metrics.Schedule = s.yield
	defer func() { metrics.Schedule = nil }()
	finished := make(chan struct{})
	for _, t := range s.threads {
		go func() { // ends when its request does, or is given up
			defer func() { finished <- struct{}{} }()
			defer func() {
				if p := recover(); p != nil && p != (gaveUp{}) {
					panic(p)
				}
			}()
			if !<-t.resume {
				return
			}
			call := &s.calls[t.call]
			call.Results = s.store(call.Ops)
			s.now++
			call.End = s.now
			t.done = true
			s.note(t, words(call.Results))
			s.stopped <- struct{}{}
		}()
	}
	for {
		able := s.able(preemptions)
		if len(able) == 0 {
			break
		}
		c := choice{0, len(able)}
		if n := len(s.made); n < len(schedule) {
			c.took = schedule[n].took
		}
		s.made = append(s.made, c)
		next := able[c.took]
		if s.current != nil && next != s.current && s.canGoOn(s.current) {
			preemptions--
		}
		s.step(next)
	}
	for _, t := range s.threads {
		if !t.done {
			s.deadlock = true
			s.note(t, "waits for "+s.lockName(t.lock)+", for ever")
		}
	}
	metrics.Schedule = func(metrics.Step, *metrics.Mutex) {} // what is unwound frees its locks
	for _, t := range s.threads {
		if !t.done {
			t.resume <- false
		}
		<-finished
	}
}

// able is which threads may take the next step, the current one first.
func (s *scheduler) able(preemptions int) (able []*thread) {
	if s.current != nil && s.canGoOn(s.current) {
		able = append(able, s.current)
		if preemptions <= 0 {
			return able
		}
	}
	for _, t := range s.threads {
		if t != s.current && s.canGoOn(t) {
			able = append(able, t)
		}
	}
	return able
}

func (s *scheduler) canGoOn(t *thread) bool {
	return !t.done && (!t.started || t.step != metrics.Locking || s.owner[t.lock] == nil)
}

// step lets a thread take its next step, and waits until the one after is known.
func (s *scheduler) step(t *thread) {
	s.current = t
	s.now++
	switch {
	case !t.started:
		t.started = true
		s.calls[t.call].Start = s.now
	case t.step == metrics.Locking:
		s.owner[t.lock] = t
		s.note(t, "takes "+s.lockName(t.lock))
	case t.step == metrics.Unlocking:
		delete(s.owner, t.lock)
		s.note(t, "frees "+s.lockName(t.lock))
	case t.step == metrics.Working:
		s.note(t, "acts on what it looked up")
	}
	t.resume <- true
	<-s.stopped
}

// yield is called by the current thread, when its next step is about to come.
func (s *scheduler) yield(step metrics.Step, lock *metrics.Mutex) {
	t := s.current
	t.step, t.lock = step, lock
	if step == metrics.Working {
		s.note(t, "looks a key up")
	}
	s.stopped <- struct{}{}
	if !<-t.resume {
		panic(gaveUp{})
	}
}

func (s *scheduler) lockName(lock *metrics.Mutex) string {
	if s.number[lock] == 0 {
		s.number[lock] = len(s.number) + 1
	}
	return fmt.Sprintf("lock %d", s.number[lock])
}

// note writes a line of the table, in the thread's column.
func (s *scheduler) note(t *thread, what string) {
	s.table = append(s.table, fmt.Sprintf("%3d  %s%s", len(s.table)+1, strings.Repeat(" ", t.number*columnWidth), what))
}

const columnWidth = 28

// judge returns what is wrong with a schedule, or "".
func (s *scheduler) judge(t *testing.T) string {
	wrong := ""
	if s.deadlock {
		wrong = "a deadlock: each waits for a lock that the other holds"
	} else {
		s.alone([]wire.Op{get("a"), get("b"), get("n")}) // what it has come to
		verdict, counterexample := lincheck.Check(t.Context(), s.calls)
		if verdict == lincheck.Linearizable {
			return ""
		}
		wrong = fmt.Sprintf("the answers are %v:\n%v", verdict, counterexample)
	}
	var b strings.Builder
	for _, th := range s.threads {
		fmt.Fprintf(&b, "\nrequest %d: %s", th.number+1, opWords(s.calls[th.call].Ops))
	}
	b.WriteString("\n\n    ")
	for _, th := range s.threads {
		fmt.Fprintf(&b, " %-*s", columnWidth-1, fmt.Sprintf("request %d", th.number+1))
	}
	return fmt.Sprintf("%s\n%s\n\n%s", b.String(), strings.Join(s.table, "\n"), wrong)
}

// opWords writes operations like "put a=1, get b".
func opWords(ops []wire.Op) string {
	var words []string
	for _, op := range ops {
		switch word := op.Kind.String() + " " + op.Key; {
		case op.Kind == wire.Put, op.Absent:
			words = append(words, word+"="+string(op.Value))
		case op.Kind == wire.CompareAndSwap:
			words = append(words, fmt.Sprintf("%s %s to %s", word, op.Old, op.Value))
		default:
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}
