package experiment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A log is a Progress that records what it is told.
type log struct {
	said          []string
	starts, paces int
	left          []time.Duration
	begun         []int // how many measurements had begun at each of left
}

func (l *log) Say(what string)                    { l.said = append(l.said, what) }
func (l *log) Pace(float64, time.Duration, int64) { l.paces++ }
func (l *log) Expect(left time.Duration) {
	l.left, l.begun = append(l.left, left), append(l.begun, l.starts)
}
func (l *log) Detail(what string) {
	if strings.HasSuffix(what, ": starting") {
		l.starts++
	}
}

// planned returns a plan whose subjects are these stages. Their servers run in this process,
// new ones for each measurement; started counts them.
func planned(t *testing.T, rounds int, stages ...node.Serve) (plan *Plan, started map[string]int) {
	plan, started = &Plan{Bed: new(testbed.Bed), Rounds: rounds, Progress: new(log)}, make(map[string]int)
	for i, serve := range stages {
		s := Subject{Name: fmt.Sprint("stage", i), Title: fmt.Sprint("number ", i), Config: cluster.Default()}
		s.Config.Workload.Duration, s.Config.Workload.Connections, s.Config.Workload.Rate = 300*time.Millisecond, 2, 100
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
// all keys. It is told how it goes, has samples if they are asked for and, with -noretry, the
// refusals of its servers as errors. The time that is left includes what preparing them takes.
func TestRun(t *testing.T) {
	t.Parallel()
	var turns atomic.Int64
	serve := func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			if turns.Add(1)%5 == 0 {
				n.Refuse(c)
			} else {
				n.Answer(c, apply)
			}
		})
	}
	plan, started := planned(t, 2, serve, serve)
	plan.Once, plan.Sampled = true, true
	progress, added := plan.Progress.(*log), 0
	plan.Add = func(s *Subject, round int, r *load.Result) error {
		busy := r.Errors[client.ErrBusy.Error()]
		if r.Requests == 0 || r.Misses > 0 || r.Wrong > 0 || r.Samples == nil || busy == 0 || busy != r.Refusals {
			t.Errorf("%s, round %d: %d samples, %+v", s.Title, round, len(r.Samples), r.Counts)
		}
		if started[s.Name] != round || len(plan.Bed.Running) != 1 || plan.Bed.Running[0].Name != s.Name {
			t.Errorf("%s, round %d: started %d times, running: %d", s.Title, round, started[s.Name], len(plan.Bed.Running))
		}
		added++
		return nil
	}
	if err := plan.Run(t.Context()); err != nil || added != 4 || len(plan.Bed.Running) > 0 || progress.paces == 0 {
		t.Fatalf("%d measurements, the pace was told %d times, %d servers are running at the end, error %v, want 4, 1 or more, 0",
			added, progress.paces, len(plan.Bed.Running), err)
	}
	length := 300*time.Millisecond + load.Warmup(300*time.Millisecond)
	for i, left := range progress.left { // several for each measurement: before its servers start, while keys are stored, and before its load
		loads := time.Duration(5 - progress.begun[i])
		preparing, bare := left-loads*length, i == 0 || i == len(progress.left)-1
		if preparing < 0 || bare && preparing > 50*time.Millisecond || loads > 1 && !bare && preparing < time.Millisecond {
			t.Errorf("time %d: %v left for %d loads of %v, with %v for preparing", i, left, loads, length, preparing)
		}
	}
	if want := []string{"round 1 of 2", "round 2 of 2"}; !slices.Equal(progress.said, want) {
		t.Errorf("said %q, want %q", progress.said, want)
	}
}

// A run ends at a round that shows that more are pointless, after adding its result, even if it
// was cut short; at an error of Add; and when storing the keys takes too long.
func TestRunEndsEarly(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	for name, test := range map[string]struct {
		fault     func(interrupt func()) // from the third get on
		storeTime time.Duration
		full, is  error // of Add, and of Run
		want      string
		added     int
	}{
		"a panic":              {func(func()) { panic("a request") }, 0, nil, nil, "panicked: a request", 1},
		"an interrupt":         {func(interrupt func()) { interrupt() }, 0, nil, context.Canceled, "", 1},
		"no room for a result": {func(func()) {}, 0, full, full, "", 1},
		"keys for too long":    {nil, 1, nil, nil, "storing 1 000 keys took longer than 1ns: give fewer with -keys", 0},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		var gets atomic.Int64
		plan, _ := planned(t, 3, func(ctx context.Context, ln net.Listener, n *node.Node) error {
			apply := benchtest.Locked(n)
			return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
				n.Answer(c, func(ops []wire.Op) []wire.Result {
					if ops[0].Kind == wire.Get && gets.Add(1) >= 3 {
						test.fault(interrupt)
					}
					return apply(ops)
				})
			})
		})
		plan.storeTime, plan.Subjects[0].Config.Workload.Conn = test.storeTime, "per-request" // and so without a warm-up
		added := 0
		plan.Add = func(_ *Subject, _ int, r *load.Result) error {
			if added++; r.Requests == 0 {
				t.Errorf("%s: a round without an answer is added", name)
			}
			return test.full
		}
		err := plan.Run(ctx)
		if err == nil || !strings.HasPrefix(err.Error(), "number 0, round 1: ") || !strings.Contains(err.Error(), test.want) ||
			!errors.Is(err, cmp.Or(test.is, err)) || added != test.added {
			t.Errorf("%s: %d rounds added, error %v, want %d, %v and %q in round 1", name, added, err, test.added, test.is, test.want)
		}
	}
}

func TestParseSweep(t *testing.T) {
	for list, want := range map[string]string{
		"c=8": "8", "c= 8, 4": "8 4", "keys=1k,30k": "1000 30000", "rate=2.5k,5k": "2500 5000", "workers=1,8": "1 8",
		"value=16,16..1024": "16 16..1024", "work=0s,100us,1ms,spin 1ms": "0s 100µs 1ms spin 1ms",
		"seed=1": "error: not PROPERTY=VALUES", "c": "error: workload.connections", "c=8,4,8": "error: 8 is given twice",
		"keys=1k,1000": "error: 1000 is given twice", "value=1..x": "error: value", "depth=0": "error: workload.depth",
	} {
		sw, err := ParseSweep(list, cluster.Default())
		why, wrong := strings.CutPrefix(want, "error: ")
		if (err != nil) != wrong || wrong && !strings.Contains(err.Error(), why) || !wrong && strings.Join(sw.Points, " ") != want {
			t.Errorf("%s is %+v, error %v, want %s", list, sw, err, want)
		}
	}
	sw, err := ParseSweep("work=0s,spin 1ms", cluster.Default())
	worked := cluster.Default()
	worked.Server.Work = cluster.Work{Spin: true, Time: time.Millisecond}
	if want := []cluster.Config{cluster.Default(), worked}; err != nil || !reflect.DeepEqual(sw.cfgs, want) {
		t.Errorf("work=0s,spin 1ms is %+v, error %v, want the defaults without and with work", sw.cfgs, err)
	}
	for _, test := range []struct {
		property, point, label string
		number                 float64 // its place on an axis
	}{
		{"rate", "10000", "10 000", 10_000}, {"value", "16..1024", "16..1024", 16},
		{"work", "spin 1ms", "spin 1ms", float64(time.Millisecond)}, {"work", "0s", "0s", 0},
	} {
		sw := &Sweep{Property: test.property}
		if n, label := sw.Number(test.point), sw.Label(test.point); n != test.number || label != test.label {
			t.Errorf("%s=%s lies at %v with the label %q, want %v and %q", test.property, test.point, n, label, test.number, test.label)
		}
	}
}

// A sweep measures every stage at every point.
func TestSubjects(t *testing.T) {
	sw, err := ParseSweep("c=1,2", cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	addrs := func(n int) ([]string, error) { return nil, fmt.Errorf("no %d addresses", n) }
	b, got := &testbed.Bed{Programs: []testbed.Program{{Name: "mine"}, {Name: "yours"}}, Addrs: addrs}, ""
	for _, s := range sw.Subjects(b, 3) {
		_, err := s.Start(t.Context()) // of three nodes, each with two addresses
		got += fmt.Sprintf("%s: %d, %d, %v\n", s.Title, s.Config.Workload.Connections, sw.At(s.Point).Connections, err)
	}
	if want := "mine at c=1: 1, 1, no 6 addresses\nyours at c=1: 1, 1, no 6 addresses\n" +
		"mine at c=2: 2, 2, no 6 addresses\nyours at c=2: 2, 2, no 6 addresses\n"; got != want {
		t.Errorf("the subjects are:\n%swant:\n%s", got, want)
	}
}

func TestPanel(t *testing.T) {
	marks := []metrics.LaneMark{{Lane: 7, State: metrics.InTable}, {Lane: 9, State: metrics.Awaiting}, {Lane: 7, State: metrics.Writing, At: 2}, {Lane: 9, State: metrics.InTable, At: 3}}
	want := figure.Panel{Title: "mine", Span: metrics.LaneTime, Lanes: [][]figure.Stretch{
		{{Doing: 3, From: 0, To: 2}, {Doing: 4, From: 2, To: metrics.LaneTime}},
		{{Doing: 2, From: 0, To: 3}, {Doing: 3, From: 3, To: metrics.LaneTime}},
		nil,
	}}
	if got := panel("mine", marks, 3); !reflect.DeepEqual(got, want) {
		t.Errorf("the lanes are %v, want %v", got, want)
	}
	if int(metrics.LaneStates) != len(figure.Doings) {
		t.Errorf("%d states, and %d names of them", metrics.LaneStates, len(figure.Doings))
	}
}

func TestRecordLanes(t *testing.T) {
	t.Parallel()
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	cfg.Workload.Connections, cfg.Workload.Ops, cfg.Workload.Duration, cfg.Workload.Rate = 2, 0, LanesTime, 300
	s := &testbed.Servers{Name: "here", Config: cfg, Target: load.NewLockstep(cfg)}
	for tries, recorded := 0, false; !recorded; tries++ { // a busy machine may do nothing in those 16 ms
		got, err := RecordLanes(t.Context(), s)
		recorded = len(got.Lanes) == 2 && len(got.Lanes[0]) > 0 && got.Lanes[0][0].From == 0
		if err != nil || got.Title != "here" || !recorded && tries == 20 {
			t.Fatalf("recorded %+v, error %v", got, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := RecordLanes(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cut short: %v", err)
	}
}
