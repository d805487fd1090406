package check

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/lincheck"
	"lockstep/common/node"
	"lockstep/common/wire"
)

func TestLinearizable(t *testing.T) {
	t.Parallel()
	cfg, _ := benchtest.Here(t, 2, benchtest.ServeLocked)
	for _, plan := range []Plan{{}, {Shared: true}, {Shared: true, Faults: true}} {
		plan.Length = 100 * time.Millisecond
		found, err := Run(t.Context(), cfg, plan)
		for tries := 1; plan.Faults && err == nil && found.Unknown == 0 && tries < 20; tries++ { // a busy machine makes few calls
			found, err = Run(t.Context(), cfg, plan)
		}
		if err != nil {
			t.Fatalf("%+v: %v", plan, err)
		}
		err = found.Undecided()
		if err != nil || found.Verdict != lincheck.Linearizable || found.Histories < workers || (found.Unknown > 0) != plan.Faults {
			t.Errorf("%+v: %v(%v)", plan, found, err)
		}
	}
}

// lagging answers gets from a table that is three writes behind. Each answer was true once,
// so only the order of calls in time shows the fault.
func lagging() func([]wire.Op) []wire.Result {
	var mu sync.Mutex // guards what follows
	var behind [][]wire.Op
	now, old := benchtest.Locked(nil), benchtest.Locked(nil)
	return func(ops []wire.Op) []wire.Result {
		mu.Lock()
		defer mu.Unlock()
		if !slices.ContainsFunc(ops, func(op wire.Op) bool { return op.Kind.Writes() }) {
			return old(ops)
		}
		if behind = append(behind, slices.Clone(ops)); len(behind) > 3 {
			old(behind[0])
			behind = behind[1:]
		}
		return now(ops)
	}
}

func TestViolated(t *testing.T) {
	t.Parallel()
	one := benchtest.Locked(nil)
	torn := func(ops []wire.Op) (results []wire.Result) { // applies the operations of a batch one by one
		for i := range ops {
			results = append(results, one(ops[i:i+1])...)
		}
		return results
	}
	for name, apply := range map[string]func([]wire.Op) []wire.Result{"lagging": lagging(), "torn": torn} {
		cfg, _ := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
			return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) { n.Answer(c, apply) })
		})
		found, err := Run(t.Context(), cfg, Plan{Length: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if found.Verdict != lincheck.Violated || found.Undecided() != nil || !strings.Contains(found.String(), found.Counterexample.String()) {
			t.Errorf("%s: found %v, want violated and a counterexample", name, found)
		}
	}
}

// The keys of a server that was restarted are gone, which is not a wrong answer.
func TestRestarted(t *testing.T) {
	t.Parallel() // waits for a server that ends and one that starts
	ctx, stop := context.WithCancel(t.Context())
	cfg, path, _ := benchtest.StartCluster(t, 1, 0, func(_ context.Context, ln net.Listener, n *node.Node) error {
		apply, turns := benchtest.Locked(n), new(atomic.Int64)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			if n.Answer(c, apply); turns.Add(1) == 200 {
				stop() // the check has begun, and its keys have values
			}
		})
	})
	stdin, end := io.Pipe()
	var second sync.WaitGroup // until end
	second.Go(func() {
		<-ctx.Done()
		args := []string{"here", "-child", "-config", path}
		for tries := 0; tries < 1000 && node.Run(args, stdin, t.Output(), t.Output(), benchtest.ServeLocked) != 0; tries++ {
			control.Pause(t.Context(), time.Millisecond) // until the first has left its ports
		}
	})
	_, err := Run(t.Context(), cfg, Plan{Length: 20 * time.Second})
	if want := "no verdict: node 0 was restarted: its table is empty"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	stop()
	end.Close()
	second.Wait()
}

// A call that fails for good is an error and not a verdict; so is the end of the context.
func TestNoVerdict(t *testing.T) {
	t.Parallel() // waits until the node is down
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, cfg, Plan{Length: time.Minute}); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: error %v", err)
	}
	cfg.Nodes[0] = cluster.Node{Addr: "127.0.0.1:1", Control: "127.0.0.1:1"} // refuses connections
	if _, err := Run(t.Context(), cfg, Plan{Length: time.Minute}); err == nil || !strings.HasPrefix(err.Error(), "no verdict: a server has ended: dial") {
		t.Errorf("without a server: error %v", err)
	}
}

func TestUndecided(t *testing.T) {
	for found, want := range map[Found]error{
		{Verdict: lincheck.Linearizable, Calls: 10, Unknown: 5}: nil,
		{Verdict: lincheck.Linearizable, Calls: 10, Unknown: 6}: load.ErrNoAnswer,
		{Verdict: lincheck.Linearizable}:                        load.ErrNoAnswer,
		{Verdict: lincheck.Violated, Calls: 10, Unknown: 6}:     nil,
	} {
		if err := found.Undecided(); !errors.Is(err, want) {
			t.Errorf("%v: error %v, want %v", &found, err, want)
		}
	}
	if found := new(Found); found.Undecided() == nil || errors.Is(found.Undecided(), load.ErrNoAnswer) {
		t.Errorf("%v: error %v, want another", found, found.Undecided())
	}
}
