// Package stagetest is the conformance suite of the stages: what every server of
// this table promises, whatever goes on inside it. A stage's own test hands it
// its serve function:
//
//	func TestMain(m *testing.M)    { stagetest.Main(m, serve) }
//	func TestStage(t *testing.T) { stagetest.Run(t, serve) }
//
// Clients of the suite take turns where they must, so that a stage that serves
// one client at a time passes too.
package stagetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// Run holds a stage to the promises that all stages make, one subtest each.
func Run(t *testing.T, serve node.Serve) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, node.Serve)
	}{
		{"Operations", testOperations},
		{"Batches", testBatches},
		{"BatchesAreAtomic", testBatchesAreAtomic},
		{"CountersLoseNoIncrement", testCounters},
		{"MoneyIsConserved", testMoney},
		{"AnswersInOrder", testAnswersInOrder},
		{"Limits", testLimits},
		{"LimitsAtTheServer", testLimitsAtServer},
		{"AnswersThatDoNotFit", testTooLarge},
		{"WrongNode", testWrongNode},
		{"GreetingMismatch", testGreeting},
		{"NodeDown", testDown},
		{"BusyMeansNotApplied", testBusy},
		{"GarbageHarmsNobodyElse", testGarbage},
		{"MutatedStreamsHarmNobodyElse", testMutatedStreams},
		{"SlowSenderIsEnded", testSlowSender},
		{"ClientThatNeverReadsIsEnded", testNeverReads},
		{"IdleClientIsToldGoodbye", testIdle},
		{"MaxConnections", testMaxConnections},
		{"DrainAnswersWhatHasArrived", testDrain},
		{"StopEndsIdleClients", testStopIdle},
		{"ListenerThatFails", testListenerFails},
		{"CutsAtEveryByte", testCuts},
		{"AnswersThatDisappear", testHole},
		{"Extremes", testExtremes},
		{"DrainOfAProcess", testDrainOfAProcess},
		{"StopInTheMiddleOfAnOperation", testStopInTheMiddle},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer watchdog(t, serve).Stop()
			test.run(t, serve)
		})
	}
}

// stuckAfter is how long a subtest may take; the longest takes a few seconds.
const stuckAfter = 90 * time.Second

// watchdog ends the program when a subtest takes too long, as one with a stage that
// deadlocks does, and says where the stage's goroutines are. (At the timeout of go test,
// ten minutes later, they would be lost among hundreds.)
func watchdog(t *testing.T, serve node.Serve) *time.Timer {
	return time.AfterFunc(stuckAfter, func() {
		fmt.Fprintf(os.Stderr, "--- FAIL: %s: stuck for %v. The goroutines of the stage:\n\n%s\n",
			t.Name(), stuckAfter, strings.Join(node.Stacks(packageOf(serve)), "\n\n"))
		os.Exit(1)
	})
}

// packageOf is the name of the stage's package, with a dot behind it.
func packageOf(serve node.Serve) string {
	name := runtime.FuncForPC(reflect.ValueOf(serve).Pointer()).Name()
	path := name[:strings.LastIndex(name, "/")+1]
	return path + strings.SplitAfter(strings.TrimPrefix(name, path), ".")[0]
}

// A stage is one that serves, inside the test, a cluster of its own.
type stage struct {
	t      *testing.T
	cfg    cluster.Config
	nodes  []*node.Node
	cancel context.CancelFunc
	served sync.WaitGroup
}

// start runs serve as every node of a cluster, configured by edit, until the end
// of the test.
func start(t *testing.T, serve node.Serve, edit func(*cluster.Config)) *stage {
	t.Helper()
	return startBehind(t, serve, edit, func(addr string) string { return addr })
}

// startBehind is start, where clients connect to a node at the address that front
// returns for its real one.
func startBehind(t *testing.T, serve node.Serve, edit func(*cluster.Config), front func(addr string) string) *stage {
	t.Helper()
	s := &stage{t: t, cfg: cluster.Default()}
	if edit != nil {
		edit(&s.cfg)
	}
	listeners := make([]net.Listener, len(s.cfg.Nodes))
	for i := range s.cfg.Nodes {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i] = ln
		s.cfg.Nodes[i] = cluster.Node{Addr: front(ln.Addr().String()), Control: fmt.Sprintf("127.0.0.1:%d", 1+i)}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for i, ln := range listeners {
		n := node.New(s.cfg, i, slog.New(slog.NewTextHandler(t.Output(), nil)))
		s.nodes = append(s.nodes, n)
		s.served.Go(func() { // ends after stop
			if err := serve(ctx, ln, n); err != nil && !errors.Is(err, node.ErrStopped) {
				t.Errorf("serve returned %v, want node.ErrStopped at the end of its context", err)
			}
		})
	}
	t.Cleanup(func() {
		s.stop()
		noneLeft(t, serve)
	})
	return s
}

// stop ends the stage, and waits until serve has returned on every node.
func (s *stage) stop() {
	s.cancel()
	s.served.Wait()
	for i, n := range s.nodes {
		if open := n.Stats.Open.Load(); open != 0 {
			s.t.Errorf("node %d: serve has returned with %d connections open", i, open)
		}
	}
}

// noneLeft fails the test if a goroutine of the stage's package runs on.
func noneLeft(t *testing.T, serve node.Serve) {
	t.Helper()
	var left []string
	for range 1000 { // a goroutine that has told its WaitGroup may need a moment to be gone
		left = slices.DeleteFunc(node.Stacks(packageOf(serve)), func(stack string) bool {
			return strings.Contains(stack, "testing.tRunner")
		})
		if len(left) == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("serve has returned, and left behind:\n%s", strings.Join(left, "\n\n"))
}

// client returns a new client of the stage. Whoever is done with it closes it:
// others may be waiting.
func (s *stage) client() *client.Client {
	s.t.Helper()
	cl, err := client.Dial(s.t.Context(), s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return cl
}

// dial returns a connection to node i for a test that speaks the protocol itself.
func (s *stage) dial(i int) *wire.Conn {
	_, c := s.dialBoth(i)
	return c
}

// dialBoth is dial, with the network's end for what is not the protocol.
func (s *stage) dialBoth(i int) (net.Conn, *wire.Conn) {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.cfg.Nodes[i].Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := wire.Open(s.t.Context(), nc, wire.Hello{Purpose: wire.Service, Group: "nodes", Number: i, Fingerprint: s.cfg.Fingerprint()}, wire.Limits{})
	if err != nil {
		s.t.Fatal(err)
	}
	return nc, c
}

// crowd runs f n times at once, and returns when all have.
func crowd(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
