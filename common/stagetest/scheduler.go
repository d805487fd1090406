//go:build interleave

package stagetest

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"lockstep/common/lincheck"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A scheduler runs requests concurrently, one step of one request at a time. It follows a
// schedule and, after its end, lets the same request go on for as long as it can.
type scheduler struct {
	program
	store    Store
	patience time.Duration
	schedule []int         // for each step, which of the threads that can go on takes it
	over     chan struct{} // receives when all threads have ended, or one is blocked

	steps      int
	choose     func(able []*thread) *thread // that takes the next step; nil says what is wrong
	same, more [][]int                      // schedules that differ in one step: with as many preemptions, and with one more
	threads    []*thread
	current    *thread
	owner      map[*metrics.Mutex]*thread
	locks      []*metrics.Mutex // in order of appearance
	now        int64            // the time of calls
	calls      []lincheck.Call  // that have ended
	table      string           // the steps so far, in a column for each client
	wrong      string           // what is, or ""
}

// A thread is the coroutine of one request.
type thread struct {
	lincheck.Call
	yield func(metrics.Step, *metrics.Mutex) bool     // false: give up
	next  func() (metrics.Step, *metrics.Mutex, bool) // goes on up to the next step
	stop  func()
	step  metrics.Step // the next step, if started
	lock  *metrics.Mutex
}

func (t *thread) done() bool { return t.End != lincheck.Never }

func (t *thread) String() string {
	if t.Client == 0 {
		return spoken(t.Ops) + ", which ran alone,"
	}
	return fmt.Sprint("request ", t.Client)
}

// run executes the program, reads the final state, empties the store, and sets wrong.
func (s *scheduler) run(ctx context.Context) {
	s.control(func() {
		s.execute(0, s.before...)
		s.execute(1, s.requests...)
		s.execute(0, []wire.Op{get("a"), get("b"), get("n")})
		s.execute(0, []wire.Op{del("a"), del("b"), del("n")})
		verdict, counterexample := lincheck.Check(ctx, s.calls)
		if s.wrong == "" && verdict != lincheck.Linearizable {
			s.wrong = strings.TrimRight(fmt.Sprintf("the answers are %v:\n%v", verdict, counterexample), "\n")
		}
	})
}

// control calls f, in which each step of a store's locks and tables is one of the current thread.
func (s *scheduler) control(f func()) {
	go func() { // never ends if a thread is blocked forever
		defer func() { metrics.Yield = func(metrics.Step, *metrics.Mutex) {}; s.over <- struct{}{} }()
		metrics.Yield = func(step metrics.Step, lock *metrics.Mutex) {
			if !s.current.yield(step, lock) {
				panic("given up")
			}
		}
		f()
	}()
	<-s.over
}

// execute executes requests concurrently, for clients that are numbered from the first one
// on, unless something is wrong already. At the end it stops the threads that have not ended.
// They free nothing, as nothing uses the store any more.
func (s *scheduler) execute(first int, requests ...[]wire.Op) {
	s.threads, s.current = nil, nil
	for i, ops := range requests {
		t := &thread{Call: lincheck.Call{Client: first + i, Ops: ops, End: lincheck.Never}}
		t.next, t.stop = iter.Pull2(func(yield func(metrics.Step, *metrics.Mutex) bool) {
			defer func() {
				if p := recover(); p != nil && s.wrong == "" {
					s.wrong = fmt.Sprintf("%v panicked: %v: %s", t, p, s.place(string(debug.Stack())))
				}
			}()
			t.yield = yield
			t.Results = s.store(t.Ops)
		})
		s.threads = append(s.threads, t)
	}
	defer func() {
		for _, s.current = range s.threads {
			s.current.stop()
		}
	}()
	for able := s.able(); len(able) > 0 && s.wrong == ""; able = s.able() {
		if t := s.choose(able); t != nil {
			s.step(t)
		}
	}
	if s.wrong == "" {
		s.findDeadlock()
	}
}

// able returns the threads that can take the next step, the current one first.
func (s *scheduler) able() (able []*thread) {
	for _, t := range s.threads {
		switch {
		case t.done() || t.Start > 0 && t.step == metrics.Locking && s.owner[t.lock] != nil:
		case t == s.current:
			able = slices.Insert(able, 0, t)
		default:
			able = append(able, t)
		}
	}
	return able
}

// explore returns the thread that takes the next step. Beyond the schedule it is the first one,
// and a schedule in which it is another one is still to be run.
func (s *scheduler) explore(able []*thread) *thread {
	if s.steps == len(s.schedule) {
		for i := 1; i < len(able); i++ {
			other := append(slices.Clone(s.schedule), i)
			if able[0] == s.current {
				s.more = append(s.more, other)
			} else {
				s.same = append(s.same, other)
			}
		}
		s.schedule = append(s.schedule, 0)
	}
	s.steps++
	return able[s.schedule[s.steps-1]]
}

// step lets a thread take its next step and go on up to the step after that.
func (s *scheduler) step(t *thread) {
	s.current = t
	s.now++
	switch {
	case t.Start == 0:
		t.Start = s.now
	case t.step == metrics.Locking:
		s.note(t, "takes "+s.lockName(t.lock))
		s.owner[t.lock] = t
	case t.step == metrics.Unlocking:
		s.note(t, "frees "+s.lockName(t.lock))
		if s.owner[t.lock] != t {
			s.wrong = fmt.Sprintf("%v frees %s, which it does not hold", t, s.lockName(t.lock))
			return
		}
		delete(s.owner, t.lock)
	default:
		s.note(t, "acts on what it looked up")
	}
	timer, more := time.AfterFunc(s.patience, s.findBlocked), false
	t.step, t.lock, more = t.next()
	switch {
	case !timer.Stop():
		runtime.Goexit() // findBlocked has said what is wrong
	case more && t.step == metrics.Working:
		s.note(t, "looks a key up")
	case !more && s.wrong == "":
		s.finish(t)
	}
}

// finish notes the answers of a thread that has ended, and what it should not have left.
func (s *scheduler) finish(t *thread) {
	s.now++
	t.End = s.now
	s.note(t, words(t.Results))
	s.calls = append(s.calls, t.Call)
	if !slices.EqualFunc(t.Ops, t.Results, fits) {
		s.wrong = fmt.Sprintf("the answers of %v do not fit its operations: %s got %s", t, spoken(t.Ops), words(t.Results))
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
	s.note(s.current, "is blocked")
	running := slices.DeleteFunc(node.Stacks("iter.Pull2["), func(stack string) bool {
		return strings.Contains(stack, "[coroutine")
	})
	s.wrong = fmt.Sprintf("blocked where no metrics.Mutex is: %s: use metrics.Mutex", s.place(running...))
	s.over <- struct{}{}
}

// place says where in the store's package a thread is.
func (s *scheduler) place(stacks ...string) string {
	return strings.TrimPrefix(strings.TrimSuffix(node.Whereabouts(packageOf(s.store), stacks...), ", runs"), "1 × ")
}

func (s *scheduler) lockName(lock *metrics.Mutex) string {
	if !slices.Contains(s.locks, lock) {
		s.locks = append(s.locks, lock)
	}
	return fmt.Sprint("lock ", slices.Index(s.locks, lock)+1)
}

const columnWidth = 36

// note adds a line to the table. A thread that ran alone has no column.
func (s *scheduler) note(t *thread, what string) {
	if t.Client > 0 {
		s.table += fmt.Sprintf("\n%3d  %*s%s", strings.Count(s.table, "\n")+1, (t.Client-1)*columnWidth, "", what)
	}
}

// String returns the schedule and what is wrong with it.
func (s *scheduler) String() string {
	header := ""
	for _, ops := range s.requests {
		header += fmt.Sprintf("%-*s", columnWidth, spoken(ops))
	}
	return fmt.Sprintf("%s\n\n     %s%s", s.wrong, strings.TrimSpace(header), s.table)
}
