//go:build interleave

package stagetest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/common/lincheck"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A scheduler runs requests concurrently, one step of one request at a time. It follows a
// schedule and, after its end, takes the first choice each time.
type scheduler struct {
	program
	store       Store
	pkg         string // the store's package, followed by a dot
	patience    time.Duration
	timer       *time.Timer // of patience, since the last step
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
	bounded bool   // with more preemptions there were more choices
	table   []line // the schedule
	wrong   string // what is, or ""
	blocked bool   // that is: the current thread makes no step
	always  string // the same, if no schedule could avoid it
}

// A line of the table is what a client did in one step.
type line struct {
	client int
	what   string
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
		return listed(t.Ops) + ", which ran alone,"
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
			s.wrong = strings.TrimRight(fmt.Sprintf("the answers are %v:\n%v", verdict, counterexample), "\n")
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
		next := able[0]
		if len(able) > 1 {
			c := choice{0, len(able)}
			if n := len(s.made); n < len(s.schedule) {
				c.took = s.schedule[n].took
			}
			s.made = append(s.made, c)
			next = able[c.took]
		}
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
		s.bounded = s.bounded || len(able) > 1
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
	if t.Start == 0 {
		s.now++
		t.Start = s.now
		go s.serve(t)
	} else if s.take(t); s.wrong == "" {
		t.resume <- true
	} else {
		return
	}
	s.timer.Reset(s.patience)
	select {
	case <-s.stopped:
	case <-s.timer.C:
		s.findBlocked()
		return
	}
	if t.ended {
		s.finish(t)
	}
}

// take notes the step that a thread takes next.
func (s *scheduler) take(t *thread) {
	s.now++
	switch t.step {
	case metrics.Locking:
		s.note(t, "takes "+s.lockName(t.lock))
		s.owner[t.lock] = t
	case metrics.Unlocking:
		s.note(t, "frees "+s.lockName(t.lock))
		if s.owner[t.lock] != t {
			s.wrong = fmt.Sprintf("%v frees %s, which it does not hold", t, s.lockName(t.lock))
		}
		delete(s.owner, t.lock)
	case metrics.Working:
		s.note(t, "acts on what it looked up")
	}
}

// serve executes the request of a thread. It ends when that does, or when yield gives up; or
// never, if the thread is blocked forever outside a Mutex.
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
	if able := s.able(); len(able) == 1 && able[0] == t {
		if s.take(t); s.wrong == "" {
			return // without a switch to the scheduler's goroutine
		}
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
	s.timer.Reset(s.patience / 5)
	for range left {
		select {
		case <-s.stopped:
		case <-s.timer.C:
			return
		}
	}
}

func (s *scheduler) lockName(lock *metrics.Mutex) string {
	if !slices.Contains(s.locks, lock) {
		s.locks = append(s.locks, lock)
	}
	return "lock " + strconv.Itoa(slices.Index(s.locks, lock)+1)
}

// note adds a line to the table.
func (s *scheduler) note(t *thread, what string) {
	s.table = append(s.table, line{t.Client, what})
}

const columnWidth = 28

// String returns the schedule and what is wrong with it.
func (s *scheduler) String() string {
	var header string
	var rows []string
	for _, ops := range s.requests {
		header += fmt.Sprintf("%-*s", columnWidth, listed(ops))
	}
	for _, l := range s.table {
		if l.client > 0 { // a thread that ran alone has no column
			rows = append(rows, fmt.Sprintf("%3d  %s%s", len(rows)+1, strings.Repeat(" ", (l.client-1)*columnWidth), l.what))
		}
	}
	return fmt.Sprintf("%s\n\n     %s\n%s", s.wrong, strings.TrimSpace(header), strings.Join(rows, "\n"))
}
