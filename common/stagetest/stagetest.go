// Package stagetest is the conformance suite of the stages: it tests what a stage can break,
// whatever its concurrency. What packages wire, node and client do for every stage alike,
// such as refusing garbage, they test themselves. A stage's own test hands the suite the
// stage's serve function:
//
//	func TestMain(m *testing.M)  { stagetest.Main(m, serve) }
//	func TestStage(t *testing.T) { stagetest.Run(t, serve) }
//	func TestGoals(t *testing.T) { stagetest.Goals(t, serve, 2) } // of stage 2
//
// Goals tests what a stage is for, and later stages keep. The clients of Run leave when others
// may be waiting, so that a stage that serves one client at a time passes too.
package stagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// Run tests the promises that all stages make, in one subtest each, the simplest first. It
// ends at the first one that is broken, or at which the stage is stuck.
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
		{"Linearizable", testHistory},
		{"AnswersInOrder", testAnswersInOrder},
		{"BusyMeansNotApplied", testBusy},
		{"SlowSenderIsEnded", testSlowSender},
		{"ClientThatNeverReadsIsEnded", testNeverReads},
		{"IdleClientIsToldGoodbye", testIdle},
		{"DrainAnswersWhatHasArrived", testDrain},
		{"StopEndsIdleClients", testStopIdle},
		{"ListenerThatFails", testListenerFails},
		{"Extremes", testExtremes},
	} {
		if !watching.run(t, test.name, serve, test.run) { // the others would fail for the same reason, and say it less clearly
			watching.broken = true
			t.Fatalf("the promises after %s were not tried: the simplest come first", test.name)
		}
	}
}

// A stage is the stage under test, serving the only node of a cluster in the process of the test.
type stage struct {
	t        *testing.T
	cfg      cluster.Config
	node     *node.Node
	listener net.Listener
	served   chan error // what serve returned, then closed
	cancel   context.CancelFunc
}

// start runs serve until the end of the test. edit, unless nil, changes the default
// configuration.
func start(t *testing.T, serve node.Serve, edit func(*cluster.Config)) *stage {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, cfg: cluster.Default(), listener: ln, served: make(chan error, 1)}
	s.cfg.Nodes[0].Addr = ln.Addr().String()
	if edit != nil {
		edit(&s.cfg)
	}
	s.node = node.New(s.cfg, 0, slog.New(slog.NewTextHandler(logged{t}, nil)))
	watching.node.Store(s.node)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { // ends after stop, or when ln fails
		s.served <- serve(ctx, ln, s.node)
		close(s.served)
	}()
	t.Cleanup(func() {
		if s.stop(); watching.ctx.Err() == nil {
			noneLeft(t, serve)
		}
	})
	return s
}

// logged writes to the output of a test what a node logs of panics, one line each. Other lines
// are the suite's doing. When the stage is stuck, the test may be over.
type logged struct{ t *testing.T }

func (l logged) Write(p []byte) (int, error) {
	if at := bytes.Index(p, []byte("panicked: ")); at >= 0 && watching.ctx.Err() == nil {
		line, _, _ := bytes.Cut(p[at:], []byte(`\n`)) // as the handler writes the end of a line
		fmt.Fprintf(l.t.Output(), "%s\n", line)
	}
	return len(p), nil
}

// stop ends the stage and waits until serve has returned, or is stuck.
func (s *stage) stop() {
	s.cancel()
	select {
	case err := <-s.served:
		if err != nil && !errors.Is(err, node.ErrStopped) {
			s.t.Errorf("serve returned %v, want node.ErrStopped at the end of its context", err)
		}
	case <-watching.ctx.Done():
		return
	}
	if open := s.node.Stats.Open.Load(); open != 0 {
		s.t.Errorf("serve has returned with %d connections open", open)
	}
}

// noneLeft fails the test if a goroutine of the stage's package is still running.
func noneLeft(t *testing.T, serve node.Serve) {
	t.Helper()
	var left []string
	for range 200 { // after Done of a WaitGroup a goroutine may need a moment to end
		left = slices.DeleteFunc(node.Stacks(packageOf(serve)), func(stack string) bool {
			return strings.Contains(stack, "testing.tRunner")
		})
		if len(left) == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("serve has returned, and goroutines are left: %s", node.Whereabouts(packageOf(serve), left...))
}

// client returns a new client of the stage. The test closes it early where another client
// may be waiting.
func (s *stage) client() *client.Client {
	s.t.Helper()
	cl, err := client.Dial(s.t.Context(), s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cl.Close() })
	return cl
}

// checkHarmless checks that the stage serves a new client after what another one did to it, stops
// it, and checks that the node has counted that kind of error once.
func (s *stage) checkHarmless(kind string) {
	s.t.Helper()
	s.putBeside("a "+kind+" client", "does it keep its place?")
	s.stop()
	if got := s.node.Stats.Snapshot().Errors[kind]; got != 1 {
		s.t.Errorf("%d %s connections counted, want 1", got, kind)
	}
}

// connect returns a connection without a greeting.
func (s *stage) connect() *net.TCPConn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn)
}

// dial returns a connection to the stage for a test that speaks the protocol itself.
func (s *stage) dial() *wire.Conn {
	s.t.Helper()
	c, err := wire.Open(s.t.Context(), s.connect(), s.cfg.Hello(0), wire.Limits{})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// ask sends a request and returns its answer. Code is 0 if there is none.
func ask(c *wire.Conn, ops ...wire.Op) (r wire.Response) {
	c.WriteRequest(&wire.Request{Ops: ops})
	c.Flush()
	c.ReadResponse(&r)
	return r
}

// checkGoodbye checks that the server says Goodbye on c and then closes it.
func checkGoodbye(t *testing.T, c *wire.Conn, when string) {
	t.Helper()
	var r wire.Response
	if !c.ReadResponse(&r) || r.Code != wire.Goodbye || c.ReadResponse(&r) || c.Err() != io.EOF {
		t.Errorf("%s: %v (%v), want goodbye and the end of the connection", when, r.Code, c.Err())
	}
}

// crowd runs f for n clients at once and waits for all of them.
func (s *stage) crowd(n int, f func(i int, cl *client.Client)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			cl := s.client()
			defer cl.Close()
			f(i, cl)
		})
	}
	wg.Wait()
}

// Main is a stage's TestMain. It ends the tests when the stage is stuck. Under the race
// detector, they end at the first data race, unless GORACE says otherwise: one that is met a
// thousand times would be reported as often.
//
//	func TestMain(m *testing.M) { stagetest.Main(m, serve) }
func Main(m *testing.M, serve node.Serve) {
	watchStage(serve)
	if raceDetector && os.Getenv("GORACE") == "" { // which is read when a process starts
		os.Exit(untilOneRace())
	}
	code := m.Run()
	if code != 0 {
		fmt.Println("go vet finds a lock that is copied, and go test -race a data race.")
	}
	os.Exit(code)
}

// In a report of the race detector: the stack of an access beyond its first four calls, which
// have two lines each; and where a goroutine began.
var (
	deepStack = regexp.MustCompile(`(?m)^(.* at 0x.*\n(?:  .*\n){8})(?:  .*\n)+`)
	beginning = regexp.MustCompile(`(?m)^Goroutine .*\n(?:  .*\n)+\n?`)
)

// untilOneRace runs this program in a process that ends at the first data race, and returns its
// exit code. Of the race detector's report it prints where the two accesses were.
func untilOneRace() int {
	var stderr bytes.Buffer
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Stderr.Write(beginning.ReplaceAll(deepStack.ReplaceAll(stderr.Bytes(), []byte("$1")), nil))
	return cmd.ProcessState.ExitCode()
}
