package experiment

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
)

func TestMain(m *testing.M) { benchtest.StageMain(m) }

func TestParseSweep(t *testing.T) {
	for list, want := range map[string]string{
		"c=8": "8", "c= 8, 4": "8 4", "keys=1k,30k": "1000 30000", "rate=2.5k,5k": "2500 5000", "workers=1,8": "1 8",
		"value=16,16..1024": "16 16..1024", "work=0s,100us,1ms,spin 1ms": "0s 100µs 1ms spin 1ms",
	} {
		sw, err := ParseSweep(list, cluster.Default())
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		if got := strings.Join(sw.Points, " "); got != want || len(sw.cfgs) != len(sw.Points) {
			t.Errorf("%s is %s with %d configurations, want %s", list, got, len(sw.cfgs), want)
		}
	}
	sw, err := ParseSweep("work=0s,spin 1ms", cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []cluster.Work{{}, {Spin: true, Time: time.Millisecond}} {
		if got := sw.cfgs[i]; got.Server.Work != want || got.Server.Workers != 8 || got.Workload.Keys != 1000 {
			t.Errorf("point %d has the configuration %+v, want work %v and nothing else", i, got, want)
		}
	}
}

func TestSweepErrors(t *testing.T) {
	for arg, want := range map[string]string{
		"seed=1": "not PROPERTY=VALUES", "c": "workload.connections", "c=8,4,8": "8 is given twice", "keys=1k,1000": "1000 is given twice",
		"value=1..x": "value", "depth=0": "workload.depth",
	} {
		if _, err := ParseSweep(arg, cluster.Default()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", arg, err, want)
		}
	}
}

// A point has a place on an axis, and a label.
func TestPoints(t *testing.T) {
	for _, test := range []struct {
		property, point, label string
		number                 float64
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

// A sweep measures every stage at every point in each round, with new servers that it
// stops. It ends at an error of add.
func TestSweepRun(t *testing.T) {
	benchtest.EmptyFolder(t)
	started := benchtest.NewFaulty(t, "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := testbed.New(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Programs = []testbed.Program{{Name: "mine", Path: self}}
	cfg := cluster.Default()
	cfg.Workload.Duration, cfg.Workload.Rate = 20*time.Millisecond, 1000
	sw, err := ParseSweep("c=1,2", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var added []string
	full := errors.New("disk full")
	plan := Plan{Bed: b, Subjects: sw.Subjects(b, 1), Rounds: 2, Progress: new(log), Add: func(s *Subject, round int, r *load.Result) error {
		if r.Requests == 0 || r.Misses > 0 || r.Connections != sw.At(s.Point).Connections || s.Title != "mine at c="+s.Point {
			t.Errorf("%s, round %d: %+v", s.Title, round, r.Counts)
		}
		if added = append(added, fmt.Sprint(round, s.Name, s.Point)); len(added) == 4 {
			return full
		}
		return nil
	}}
	err = plan.Run(t.Context())
	slices.Sort(added)
	if want := []string{"1mine1", "1mine2", "2mine1", "2mine2"}; !errors.Is(err, full) || !slices.Equal(added, want) {
		t.Errorf("measured %v, error %v, want %v and %v", added, err, want, full)
	}
	for range 4 {
		<-started
	}
}

// With -noretry a round has the refusals that its servers had.
func TestNoRetry(t *testing.T) {
	t.Parallel()
	var turns atomic.Int64
	for _, once := range []bool{false, true} {
		plan, _ := planned(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
			apply := benchtest.Locked(n)
			return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
				if turns.Add(1)%5 == 0 {
					n.Refuse(c)
				} else {
					n.Answer(c, apply)
				}
			})
		})
		plan.Once, plan.Add = once, func(_ *Subject, _ int, r *load.Result) error {
			if (r.Errors[client.ErrBusy.Error()] > 0) != once || r.Refusals == 0 || r.Requests == 0 {
				t.Errorf("noretry %v: %d requests failed as busy, of %d refusals", once, r.Errors[client.ErrBusy.Error()], r.Refusals)
			}
			return nil
		}
		if err := plan.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
