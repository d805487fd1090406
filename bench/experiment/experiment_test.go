package experiment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A log is a Progress that records what it is told.
type log struct {
	said  []string
	left  []time.Duration
	begun []int // how many measurements had begun at each of left
	paces int
}

func (l *log) Say(what string)                    { l.said = append(l.said, what) }
func (l *log) Detail(what string)                 { l.said = append(l.said, "| "+what) }
func (l *log) Pace(float64, time.Duration, int64) { l.paces++ }
func (l *log) Expect(left time.Duration) {
	starts := slices.DeleteFunc(slices.Clone(l.said), func(said string) bool { return !strings.HasSuffix(said, ": starting") })
	l.left, l.begun = append(l.left, left), append(l.begun, len(starts))
}

// planned returns a plan whose subjects are these stages. Their servers run in this process,
// new ones for each measurement; started counts them.
func planned(t *testing.T, rounds int, stages ...node.Serve) (plan *Plan, started map[string]int) {
	plan, started = &Plan{Bed: new(testbed.Bed), Rounds: rounds, Progress: new(log)}, make(map[string]int)
	for i, serve := range stages {
		s := Subject{Name: fmt.Sprint("stage", i), Title: fmt.Sprint("number ", i), Config: cluster.Default()}
		s.Config.Workload.Duration, s.Config.Workload.Connections, s.Config.Workload.Rate = 20*time.Millisecond, 2, 1000
		s.Start = func(context.Context) (*testbed.Servers, error) {
			cfg, _ := benchtest.Here(t, 1, serve)
			cfg.Workload = plan.Subjects[i].Config.Workload // which the test may have changed
			servers := &testbed.Servers{Name: s.Name, Config: cfg, Target: load.NewLockstep(cfg)}
			plan.Bed.Running = append(plan.Bed.Running, servers)
			started[s.Name]++
			return servers, nil
		}
		plan.Subjects = append(plan.Subjects, s)
	}
	return plan, started
}

// Every round measures every subject once, with servers of its own, which run alone and have
// all keys. The time that is left includes what preparing them takes.
func TestRun(t *testing.T) {
	t.Parallel()
	plan, started := planned(t, 2, benchtest.ServeLocked, benchtest.ServeLocked)
	progress := new(log)
	plan.Progress = progress
	var added []string
	plan.Add = func(s *Subject, round int, r *load.Result) error {
		if r.Requests == 0 || r.Misses > 0 || r.Wrong > 0 {
			t.Errorf("%s, round %d: %+v", s.Title, round, r.Counts)
		}
		if started[s.Name] != round || len(plan.Bed.Running) != 1 || plan.Bed.Running[0].Name != s.Name {
			t.Errorf("%s, round %d: started %d times, running: %d", s.Title, round, started[s.Name], len(plan.Bed.Running))
		}
		added = append(added, fmt.Sprint(round, s.Name))
		return nil
	}
	err := plan.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(added, func(a, b string) int { return strings.Compare(a[:1], b[:1]) }) {
		t.Errorf("the rounds are not in order: %v", added)
	}
	slices.Sort(added)
	if want := []string{"1stage0", "1stage1", "2stage0", "2stage1"}; !slices.Equal(added, want) {
		t.Errorf("measured %v, want %v", added, want)
	}
	if len(plan.Bed.Running) > 0 {
		t.Errorf("%d servers are running at the end", len(plan.Bed.Running))
	}
	length := 20*time.Millisecond + load.Warmup(20*time.Millisecond)
	for i, left := range progress.left { // several for each measurement: before its servers start, while keys are stored, and before its load
		loads := time.Duration(5 - progress.begun[i])
		preparing, bare := left-loads*length, i == 0 || i == len(progress.left)-1
		if short := preparing < time.Millisecond; preparing < 0 || bare && !short || loads > 1 && !bare && short {
			t.Errorf("time %d: %v left for %d loads of %v, with %v for preparing", i, left, loads, length, preparing)
		}
	}
	if n := len(progress.said); progress.said[n-2] != progress.said[n-1]+": storing keys: 1 000 of 1 000" {
		t.Errorf("told %q before the last load, want how many keys are stored", progress.said[n-2])
	}
	progress.said = slices.DeleteFunc(progress.said, func(said string) bool { return strings.Contains(said, ": storing keys: ") })
	if len(progress.said) != 2+2*4 || progress.said[0] != "round 1 of 2" || progress.said[1] != progress.said[2]+": starting" || !strings.HasPrefix(progress.said[2], "| 1/2 number ") {
		t.Errorf("told %q, want 2 rounds, and 2 steps of each measurement", progress.said)
	}
}

// A run ends at a round that shows that more are pointless, after adding its result, and at
// an error of add.
func TestRunEndsEarly(t *testing.T) {
	t.Parallel()
	panics := func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			n.Answer(c, func(ops []wire.Op) []wire.Result {
				if ops[0].Kind != wire.Put || !bytes.Contains(ops[0].Value, []byte(" by 0 ")) { // after the keys are stored
					panic("a request")
				}
				return apply(ops)
			})
		})
	}
	plan, _ := planned(t, 3, panics)
	added := 0
	plan.Add = func(*Subject, int, *load.Result) error {
		added++
		return nil
	}
	err := plan.Run(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "number 0, round 1: ") || added != 1 {
		t.Errorf("requests that panic: error %v after %d rounds, want one after 1", err, added)
	}
	full := errors.New("disk full")
	plan, _ = planned(t, 3, benchtest.ServeLocked)
	plan.Add = func(*Subject, int, *load.Result) error { return full }
	if err := plan.Run(t.Context()); !errors.Is(err, full) {
		t.Errorf("add fails: error %v, want %v", err, full)
	}
}

// While a round runs, it is told how it goes.
func TestPace(t *testing.T) {
	t.Parallel()
	plan, _ := planned(t, 1, benchtest.ServeLocked)
	progress := new(log)
	plan.Progress, plan.Subjects[0].Config.Workload.Duration = progress, 400*time.Millisecond
	plan.Add = func(*Subject, int, *load.Result) error { return nil }
	if err := plan.Run(t.Context()); err != nil || progress.paces != 1 {
		t.Errorf("in 400ms the pace was told %d times, want once; error %v", progress.paces, err)
	}
}

// A round that is cut short is added, if anything was answered in it.
func TestRunInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var requests atomic.Int64
	plan, _ := planned(t, 1, func(_ context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(t.Context(), ln, n, func(c *node.Conn) {
			n.Answer(c, func(ops []wire.Op) []wire.Result {
				if len(ops) == 1 && requests.Add(1) == 100 {
					cancel()
				}
				return apply(ops)
			})
		})
	})
	w := &plan.Subjects[0].Config.Workload
	w.Duration, w.Rate, w.Conn = 0, 0, "per-request" // until 100 000 requests are done, without a warm-up
	var kept *load.Result
	plan.Add = func(_ *Subject, _ int, r *load.Result) error {
		kept = r
		return nil
	}
	err := plan.Run(ctx)
	if !errors.Is(err, context.Canceled) || kept == nil || kept.Requests == 0 {
		t.Errorf("error %v, and a result of %+v, want it canceled, with what was done", err, kept)
	}
}

// Storing the keys has a limit.
func TestStoreLimit(t *testing.T) {
	plan, _ := planned(t, 1, benchtest.ServeLocked)
	plan.storeTime = time.Nanosecond
	err := plan.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "number 0, round 1: storing 1 000 keys took longer than 1ns: give fewer with -keys") {
		t.Errorf("error %v, want that storing the keys took too long", err)
	}
}
