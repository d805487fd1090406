package experiment

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// A log is a Progress that records what it is told.
type log struct {
	said []string
	left []time.Duration
}

func (l *log) Say(what string)           { l.said = append(l.said, what) }
func (l *log) Expect(left time.Duration) { l.left = append(l.left, left) }

// runningBed returns a Bed with servers that run in this process.
func runningBed(t *testing.T, stages map[string]node.Serve) *testbed.Bed {
	b := new(testbed.Bed)
	for name, serve := range stages {
		cfg, _ := benchtest.Here(t, 1, serve)
		cfg.Workload.Duration, cfg.Workload.Connections = 20*time.Millisecond, 2
		b.Running = append(b.Running, &testbed.Servers{Name: name, Config: cfg, Target: load.NewLockstep(cfg)})
	}
	return b
}

// Every round measures every stage once, with all keys stored.
func TestRounds(t *testing.T) {
	b := runningBed(t, map[string]node.Serve{"one": benchtest.ServeLocked, "two": benchtest.ServeLocked})
	progress := new(log)
	var added []string
	err := Rounds(t.Context(), b, Plan{Rounds: 3}, progress, func(stage string, round int, r *load.Result) error {
		if r.Requests == 0 || r.Misses > 0 || r.Wrong > 0 {
			t.Errorf("%s, round %d: %+v", stage, round, r.Counts)
		}
		added = append(added, fmt.Sprint(round, stage))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(added, func(a, b string) int { return strings.Compare(a[:1], b[:1]) }) {
		t.Errorf("the rounds are not in order: %v", added)
	}
	slices.Sort(added)
	if want := []string{"1one", "1two", "2one", "2two", "3one", "3two"}; !slices.Equal(added, want) {
		t.Errorf("measured %v, want %v", added, want)
	}
	length := 20*time.Millisecond + load.Warmup(20*time.Millisecond)
	if len(progress.said) != 2+6 || len(progress.left) != 6 || progress.left[0] != 6*length || progress.left[5] != length {
		t.Errorf("told %q, left %v, want 8 messages, and 6 times from %v to %v", progress.said, progress.left, 6*length, length)
	}
}

// Rounds ends at a round that shows that more are pointless, after adding its result, and
// at an error of add.
func TestRoundsEndEarly(t *testing.T) {
	panics := func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			n.Answer(c, func(ops []wire.Op) []wire.Result {
				if ops[0].Kind == wire.Put && !bytes.Contains(ops[0].Value, []byte(" by 0 ")) { // after the keys are stored
					panic("a put")
				}
				return apply(ops)
			})
		})
	}
	b := runningBed(t, map[string]node.Serve{"faulty": panics})
	added := 0
	err := Rounds(t.Context(), b, Plan{Rounds: 3}, new(log), func(string, int, *load.Result) error {
		added++
		return nil
	})
	if err == nil || !strings.HasPrefix(err.Error(), "faulty, round 1: ") || added != 1 {
		t.Errorf("requests that panic: error %v after %d rounds, want one after 1", err, added)
	}
	full := fmt.Errorf("disk full")
	b = runningBed(t, map[string]node.Serve{"mine": benchtest.ServeLocked})
	if err := Rounds(t.Context(), b, Plan{Rounds: 3}, new(log), func(string, int, *load.Result) error { return full }); err != full {
		t.Errorf("add fails: error %v, want %v", err, full)
	}
}
