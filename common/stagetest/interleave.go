//go:build interleave

package stagetest

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/lincheck"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// Interleave runs small requests against a stage's store, in every order of their steps. A
// step ends before a lock is taken, before it is freed, and between the look-up and the
// effect of an operation. The test fails if an order deadlocks, if a request keeps a lock or
// takes one that is no metrics.Mutex, or if the answers are not linearizable.
func Interleave(t *testing.T, newStore func(*node.Node) Store) {
	always := ""
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			if always != "" {
				t.Skip("in every order: ", always)
			}
			failed, runs := p.search(t.Context(), newStore, 5*time.Second)
			if failed != nil {
				t.Error(failed)
				always = failed.always
			}
			t.Logf("%d schedules", runs)
		})
	}
}

// A program is requests that run concurrently, and the request before them.
type program struct {
	name     string
	stores   int // to run it on; several if it matters which keys share a bucket, and which bucket is first
	before   []wire.Op
	requests [][]wire.Op
}

var programs = []program{
	{"OneBatch", 4, nil, [][]wire.Op{{put("a", "1"), get("b"), insert("n", "1")}}},
	{"TwoBatchesInOppositeOrder", 4, nil, [][]wire.Op{{put("a", "1"), put("b", "1")}, {put("b", "2"), put("a", "2")}}},
	{"TwoSwapsOfOneKey", 1, []wire.Op{put("n", "0")}, [][]wire.Op{{cas("n", "0", "1")}, {cas("n", "0", "2")}}},
	{"PutAgainstGet", 1, []wire.Op{put("a", "0")}, [][]wire.Op{{put("a", "1")}, {get("a")}}},
	{"BatchAgainstItsFirstKey", 4, []wire.Op{put("a", "0")}, [][]wire.Op{{cas("a", "0", "1"), put("b", "1")}, {cas("a", "0", "2")}}},
	{"BatchAgainstItsSecondKey", 4, []wire.Op{put("b", "0")}, [][]wire.Op{{put("a", "1"), cas("b", "0", "1")}, {cas("b", "0", "2")}}},
	{"TransferAgainstBalance", 4, []wire.Op{put("a", "5"), put("b", "5")},
		[][]wire.Op{{cas("a", "5", "4"), cas("b", "5", "6")}, {get("b"), get("a")}}},
	{"OneKeyTwiceInABatch", 1, nil, [][]wire.Op{{put("a", "1"), put("a", "2")}, {get("a"), del("a")}}},
	{"ThreeOnOneKey", 1, nil, [][]wire.Op{{insert("a", "1")}, {del("a")}, {put("a", "2")}}},
}

// search returns the schedule with the fewest preemptions that fails on one of the stores, or
// nil if there is none; and how many schedules it ran. A schedule fails if it makes no step
// for as long as patience.
func (p program) search(ctx context.Context, newStore func(*node.Node) Store, patience time.Duration) (failed *scheduler, runs int) {
	cfg := cluster.Default()
	cfg.Server.Buckets = 1024 // enough to put the keys into different buckets
	for range p.stores {
		// One store serves all schedules, because another store would use other buckets.
		store := newStore(node.New(cfg, 0, slog.New(slog.DiscardHandler)))
		distinct := 0
		for _, preemptions := range []int{0, 1, 2, 1 << 20} {
			distinct = 0
			for schedule, more := []choice(nil), true; more; more = schedule != nil {
				s := &scheduler{program: p, store: store, pkg: packageOf(newStore), patience: patience,
					schedule: schedule, preemptions: preemptions, owner: make(map[*metrics.Mutex]*thread)}
				s.run(ctx)
				distinct++
				if s.wrong != "" {
					return s, runs + distinct
				}
				schedule = following(s.made)
			}
		}
		runs += distinct
	}
	return nil, runs
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

// A scheduler runs requests concurrently, one step of one request at a time. It follows a
// schedule and, after its end, takes the first choice each time.
type scheduler struct {
	program
	store       Store
	pkg         string // the store's package, followed by a dot
	patience    time.Duration
	schedule    []choice
	preemptions int // how many are left: steps of another request although the current one can go on

	calls   []lincheck.Call // that have ended
	now     int64           // the number of steps so far
	threads []*thread
	current *thread
	stopped chan struct{} // a thread has ended, or the next step of the current one is known
	owner   map[*metrics.Mutex]*thread
	locks   []*metrics.Mutex // in order of appearance
	made    []choice
	table   []string // the schedule, a line for each step
	wrong   string   // what is, or ""
	blocked bool     // that is: the current thread makes no step
	always  string   // the same, if no schedule could avoid it
}

// A thread is the goroutine of one request.
type thread struct {
	lincheck.Call
	resume chan bool    // false: give up
	step   metrics.Step // the next step, if started
	lock   *metrics.Mutex
	ended  bool
}

func (t *thread) done() bool { return t.End != lincheck.Never }

func (t *thread) String() string {
	if t.Client == 0 {
		return "a request that runs alone, " + listed(t.Ops) + ","
	}
	return fmt.Sprint("request ", t.Client)
}

// run executes the program, reads the final state, empties the store, and sets wrong.
func (s *scheduler) run(ctx context.Context) {
	defer func() { metrics.Schedule = nil }()
	if s.before != nil {
		s.execute(0, s.before)
	}
	s.execute(1, s.requests...)
	s.execute(0, []wire.Op{get("a"), get("b"), get("n")})
	s.execute(0, []wire.Op{del("a"), del("b"), del("n")})
	if s.wrong == "" {
		if verdict, counterexample := lincheck.Check(ctx, s.calls); verdict != lincheck.Linearizable {
			s.wrong = fmt.Sprintf("the answers are %v:\n%v", verdict, counterexample)
		}
	}
}

// execute executes requests concurrently, for clients that are numbered from the first one
// on, unless something is wrong already.
func (s *scheduler) execute(first int, requests ...[]wire.Op) {
	if s.wrong != "" {
		return
	}
	metrics.Schedule = s.yield
	s.threads, s.current, s.stopped = nil, nil, make(chan struct{}, len(requests))
	for i, ops := range requests {
		call := lincheck.Call{Client: first + i, Ops: ops, End: lincheck.Never}
		s.threads = append(s.threads, &thread{Call: call, resume: make(chan bool)})
	}
	for able := s.able(); len(able) > 0 && s.wrong == ""; able = s.able() {
		c := choice{0, len(able)}
		if n := len(s.made); n < len(s.schedule) {
			c.took = s.schedule[n].took
		}
		s.made = append(s.made, c)
		next := able[c.took]
		if next != s.current && s.canGoOn(s.current) {
			s.preemptions--
		}
		s.step(next)
	}
	if s.wrong == "" {
		s.findDeadlock()
	}
	if s.wrong != "" {
		s.end()
	}
}

// able returns the threads that may take the next step, the current one first.
func (s *scheduler) able() (able []*thread) {
	for _, t := range append([]*thread{s.current}, s.threads...) {
		if s.canGoOn(t) && !slices.Contains(able, t) {
			able = append(able, t)
		}
	}
	if s.preemptions <= 0 && s.canGoOn(s.current) {
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
	if t.Start == 0 {
		t.Start = s.now
		go s.serve(t)
	} else {
		switch t.step {
		case metrics.Locking:
			s.note(t, "takes "+s.lockName(t.lock))
			s.owner[t.lock] = t
		case metrics.Unlocking:
			s.note(t, "frees "+s.lockName(t.lock))
			if s.owner[t.lock] != t {
				s.wrong = fmt.Sprintf("%v frees %s, which it does not hold", t, s.lockName(t.lock))
				return
			}
			delete(s.owner, t.lock)
		case metrics.Working:
			s.note(t, "acts on what it looked up")
		}
		t.resume <- true
	}
	select {
	case <-s.stopped:
	case <-time.After(s.patience):
		s.findBlocked()
		return
	}
	if t.ended {
		s.finish(t)
	}
}

// serve executes the request of a thread. It ends when that does, or when yield gives up; or
// never, if the thread is blocked for ever where no Mutex is.
func (s *scheduler) serve(t *thread) {
	defer func() { s.stopped <- struct{}{} }()
	t.Results = s.store(t.Ops)
	t.ended = true
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

// finish notes the answers of a thread that has ended, and what it should not have left.
func (s *scheduler) finish(t *thread) {
	s.now++
	t.End = s.now
	s.note(t, words(t.Results))
	s.calls = append(s.calls, t.Call)
	if wrong := misfits(t.Ops, t.Results); wrong != "" {
		s.wrong = fmt.Sprintf("the answers of %v do not fit its operations: %s", t, wrong)
		s.always = s.wrong
	}
	for _, lock := range s.locks {
		if s.owner[lock] == t {
			s.wrong = fmt.Sprintf("%v ended and holds %s", t, s.lockName(lock))
		}
	}
}

// misfits lists the operations with an answer that is none to their kind.
func misfits(ops []wire.Op, results []wire.Result) string {
	if len(results) != len(ops) {
		return fmt.Sprintf("%d answers to %d operations", len(results), len(ops))
	}
	var list []string
	for i, op := range ops {
		if !slices.Contains(answersTo[op.Kind], results[i].Status) {
			list = append(list, fmt.Sprintf("%s got %v", listed(ops[i:i+1]), results[i].Status))
		}
	}
	return strings.Join(list, ", ")
}

var answersTo = map[wire.OpKind][]wire.Status{
	wire.Get:            {wire.Found, wire.Missing, wire.Aborted},
	wire.Put:            {wire.Created, wire.Replaced, wire.Aborted},
	wire.Delete:         {wire.Deleted, wire.Missing, wire.Aborted},
	wire.CompareAndSwap: {wire.Swapped, wire.Mismatch, wire.Aborted},
}

// findDeadlock is called when no thread can go on. Those that are not done wait for a lock.
func (s *scheduler) findDeadlock() {
	for _, t := range s.threads {
		if t.done() {
			continue
		}
		s.note(t, "waits for "+s.lockName(t.lock)+", forever")
		if s.owner[t.lock] == t {
			s.wrong = fmt.Sprintf("%v waits for %s, which it holds", t, s.lockName(t.lock))
		} else if s.wrong == "" {
			s.wrong = "a deadlock: each waits for a lock that another holds"
		}
	}
}

// findBlocked is called when the current thread makes no step.
func (s *scheduler) findBlocked() {
	s.blocked = true
	s.note(s.current, "is blocked")
	running := slices.DeleteFunc(node.Stacks("(*scheduler).serve("), func(stack string) bool {
		return strings.Contains(stack, "(*scheduler).yield(")
	})
	where := strings.TrimPrefix(node.Whereabouts(s.pkg, running...), "1 × ")
	s.wrong = fmt.Sprintf("blocked where no metrics.Mutex is: %s: use metrics.Mutex", where)
	s.always = s.wrong
}

// end ends the threads that have started. They give up at once and free nothing, as nothing
// uses the store any more. If one is blocked, the others go on instead: it may wait for them.
func (s *scheduler) end() {
	metrics.Schedule = func(metrics.Step, *metrics.Mutex) {
		if !s.blocked {
			runtime.Goexit()
		}
	}
	left := 0
	for _, t := range s.threads {
		if t.Start == 0 || t.done() {
			continue
		}
		left++
		if !s.blocked || t != s.current {
			t.resume <- s.blocked
		}
	}
	limit := time.After(s.patience)
	for range left {
		select {
		case <-s.stopped:
		case <-limit:
			return
		}
	}
}

func (s *scheduler) lockName(lock *metrics.Mutex) string {
	if !slices.Contains(s.locks, lock) {
		s.locks = append(s.locks, lock)
	}
	return fmt.Sprintf("lock %d", slices.Index(s.locks, lock)+1)
}

// note adds a line to the table, in the thread's column. A thread that runs alone has none.
func (s *scheduler) note(t *thread, what string) {
	if t.Client > 0 {
		s.table = append(s.table, fmt.Sprintf("%3d  %s%s", len(s.table)+1, strings.Repeat(" ", (t.Client-1)*columnWidth), what))
	}
}

const columnWidth = 28

// String returns the schedule and what is wrong with it.
func (s *scheduler) String() string {
	header := ""
	for _, ops := range s.requests {
		header += fmt.Sprintf("%-*s", columnWidth, listed(ops))
	}
	return fmt.Sprintf("%s\n\n     %s\n%s", s.wrong, strings.TrimSpace(header), strings.Join(s.table, "\n"))
}

// listed formats operations in few characters: "put a=1, get b".
func listed(ops []wire.Op) string {
	var list []string
	for _, op := range ops {
		list = append(list, strings.TrimSuffix(fmt.Sprintf("%v %s=%s", op.Kind, op.Key, op.Value), "="))
	}
	return strings.Join(list, ", ")
}
