//go:build interleave

package stagetest

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/lincheck"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// Interleave runs small requests against a stage's store, in every order of their steps. A
// step ends before a lock is taken, before it is freed, and between the look-up and the
// effect of an operation. The test fails if an order deadlocks, or if its answers are not
// linearizable.
func Interleave(t *testing.T, newStore func(*node.Node) Store) {
	for _, test := range interleavings {
		t.Run(test.name, func(t *testing.T) {
			bad, runs := findInterleaving(t, newStore, test.before, test.requests)
			if bad != "" {
				t.Error(bad)
			}
			t.Logf("%d schedules", runs)
		})
	}
}

// interleavings are the requests that run concurrently, and the request before them.
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

// findInterleaving returns, as text, the schedule with the fewest preemptions that
// deadlocks or is not linearizable, or "" if there is none; and the number of schedules
// that it ran.
func findInterleaving(t *testing.T, newStore func(*node.Node) Store, before []wire.Op, requests [][]wire.Op) (bad string, runs int) {
	cfg := cluster.Default()
	cfg.Server.Buckets = 1024 // enough to put the keys into different buckets
	// One store serves all schedules, because another store would use other buckets.
	store := newStore(node.New(cfg, 0, slog.New(slog.DiscardHandler)))
	for _, preemptions := range []int{0, 1, 2, 1 << 20} {
		runs = 0
		for schedule, more := []choice(nil), true; more; more = schedule != nil {
			s := newScheduler(store, before, requests)
			s.run(schedule, preemptions)
			runs++
			if bad := s.judge(t); bad != "" {
				return bad, runs
			}
			store([]wire.Op{del("a"), del("b"), del("n")})
			schedule = following(s.made)
		}
	}
	return "", runs
}

// A choice is which of the requests that could take a step took it.
type choice struct{ took, of int }

// following returns the next schedule in depth-first order, up to the choice that differs,
// or nil after the last schedule.
func following(made []choice) []choice {
	for i := len(made) - 1; i >= 0; i-- {
		if made[i].took+1 < made[i].of {
			next := slices.Clone(made[:i+1])
			next[i].took++
			return next
		}
	}
	return nil
}

// A scheduler runs requests concurrently, one step of one request at a time.
type scheduler struct {
	store   Store
	calls   []lincheck.Call // that ran alone; at the end, all
	now     int64           // the number of steps so far
	threads []*thread
	current *thread
	stopped chan struct{} // the current thread is done, or its next step is known
	owner   map[*metrics.Mutex]*thread
	locks   []*metrics.Mutex // in order of appearance
	made    []choice
	table   []string // the schedule, a line for each step
}

// A thread is the goroutine of one request.
type thread struct {
	lincheck.Call
	resume chan bool    // false: give up
	step   metrics.Step // the next step, if started
	lock   *metrics.Mutex
}

func (t *thread) done() bool { return t.End != lincheck.Never }

func newScheduler(store Store, before []wire.Op, requests [][]wire.Op) *scheduler {
	s := &scheduler{store: store, stopped: make(chan struct{}), owner: make(map[*metrics.Mutex]*thread)}
	if before != nil {
		s.alone(before)
	}
	for i, ops := range requests {
		call := lincheck.Call{Client: i + 1, Ops: ops, End: lincheck.Never}
		s.threads = append(s.threads, &thread{Call: call, resume: make(chan bool)})
	}
	return s
}

// alone executes a request of client 0 while no other request runs.
func (s *scheduler) alone(ops []wire.Op) {
	s.now += 2
	s.calls = append(s.calls, lincheck.Call{Ops: ops, Results: s.store(ops), Start: s.now - 1, End: s.now})
}

// run follows a schedule and, after its end, takes the first choice each time. It makes at
// most this many preemptions: steps of another request although the current one can go on.
func (s *scheduler) run(schedule []choice, preemptions int) {
	metrics.Schedule = s.yield
	defer func() { metrics.Schedule = nil }()
	var running sync.WaitGroup
	for _, t := range s.threads {
		running.Go(func() { // ends when its request does, or when yield gives up
			<-t.resume
			t.Results = s.store(t.Ops)
			s.now++
			t.End = s.now
			s.note(t, words(t.Results))
			s.stopped <- struct{}{}
		})
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
		if next != s.current && s.canGoOn(s.current) {
			preemptions--
		}
		s.step(next)
	}
	metrics.Schedule = func(metrics.Step, *metrics.Mutex) {} // threads that give up free their locks
	for _, t := range s.threads {
		if !t.done() {
			s.note(t, "waits for "+s.lockName(t.lock)+", forever")
			t.resume <- false
		}
	}
	running.Wait()
}

// able returns the threads that may take the next step, the current one first.
func (s *scheduler) able(preemptions int) (able []*thread) {
	for _, t := range append([]*thread{s.current}, s.threads...) {
		if s.canGoOn(t) && !slices.Contains(able, t) {
			able = append(able, t)
		}
	}
	if preemptions <= 0 && s.canGoOn(s.current) {
		return able[:1]
	}
	return able
}

func (s *scheduler) canGoOn(t *thread) bool {
	return t != nil && !t.done() && (t.Start == 0 || t.step != metrics.Locking || s.owner[t.lock] == nil)
}

// step lets a thread take its next step and waits until the step after that is known.
func (s *scheduler) step(t *thread) {
	s.current = t
	s.now++
	switch {
	case t.Start == 0:
		t.Start = s.now
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

// yield is called by the current thread before its next step.
func (s *scheduler) yield(step metrics.Step, lock *metrics.Mutex) {
	t := s.current
	t.step, t.lock = step, lock
	if step == metrics.Working {
		s.note(t, "looks a key up")
	}
	s.stopped <- struct{}{}
	if !<-t.resume {
		runtime.Goexit()
	}
}

func (s *scheduler) lockName(lock *metrics.Mutex) string {
	if !slices.Contains(s.locks, lock) {
		s.locks = append(s.locks, lock)
	}
	return fmt.Sprintf("lock %d", slices.Index(s.locks, lock)+1)
}

// note adds a line to the table, in the thread's column.
func (s *scheduler) note(t *thread, what string) {
	s.table = append(s.table, fmt.Sprintf("%3d  %s%s", len(s.table)+1, strings.Repeat(" ", (t.Client-1)*columnWidth), what))
}

const columnWidth = 28

// judge returns the schedule and what is wrong with it, or "" if nothing is.
func (s *scheduler) judge(t *testing.T) string {
	wrong := "a deadlock: each waits for a lock that another holds"
	if !slices.ContainsFunc(s.threads, func(th *thread) bool { return !th.done() }) {
		for _, th := range s.threads {
			s.calls = append(s.calls, th.Call)
		}
		s.alone([]wire.Op{get("a"), get("b"), get("n")}) // the final state
		verdict, counterexample := lincheck.Check(t.Context(), s.calls)
		if verdict == lincheck.Linearizable {
			return ""
		}
		wrong = fmt.Sprintf("the answers are %v:\n%v", verdict, counterexample)
	}
	requests := ""
	for _, th := range s.threads {
		var list []string
		for _, op := range th.Ops {
			list = append(list, strings.TrimSuffix(fmt.Sprintf("%v %s=%s", op.Kind, op.Key, op.Value), "="))
		}
		requests += fmt.Sprintf("%-*s", columnWidth, strings.Join(list, ", "))
	}
	return fmt.Sprintf("\n     %s\n%s\n\n%s", strings.TrimSpace(requests), strings.Join(s.table, "\n"), wrong)
}
