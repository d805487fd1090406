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
	"log/slog"
	"net"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/node"
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
	s := &stage{t: t, cfg: cluster.Default(), listener: narrow{ln}, served: make(chan error, 1)}
	s.cfg.Nodes[0].Addr = ln.Addr().String()
	if edit != nil {
		edit(&s.cfg)
	}
	s.node = node.New(s.cfg, 0, slog.New(slog.NewTextHandler(logged{t}, nil)))
	watching.node.Store(s.node)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { // ends after stop, or when ln fails
		s.served <- serve(ctx, s.listener, s.node)
		close(s.served)
	}()
	t.Cleanup(func() {
		if s.stop(); watching.ctx.Err() == nil {
			noneLeft(t, serve)
		}
	})
	return s
}

// The connections of a narrow listener hold few bytes of answers, so that a client that reads
// none soon keeps the stage waiting.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(4 << 10)
	}
	return nc, err
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

// Main is a stage's TestMain. It ends the tests when the stage is stuck. Under the race
// detector, they end at the first data race, unless GORACE says otherwise: one that is met a
// thousand times would be reported as often.
//
//	func TestMain(m *testing.M) { stagetest.Main(m, serve) }
func Main(m *testing.M, serve node.Serve) {
	watchStage(serve)
	if raceDetector && os.Getenv("GORACE") == "" { // which is read when a process starts
		syscall.Exit(untilOneRace()) // os.Exit lets the race detector wait for a second
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

// A watch notices that the stage is stuck, as in a deadlock: for many looks, one a second,
// the node has finished no turn, and a goroutine of the stage has not moved, though it does not
// wait for the network. It counts looks, so that a busy machine or a suspended process is not
// taken for a deadlock.
type watch struct {
	pkg     string // the stage's package, followed by a dot
	guarded atomic.Bool
	broken  bool            // a promise is
	ctx     context.Context // ends when the stage is stuck
	end     context.CancelCauseFunc
	node    atomic.Pointer[node.Node] // that serves, or served last
}

// watching is the watch of this process, which tests one stage.
var watching watch

// watchStage starts the watch, which ends with the process.
func watchStage(serve node.Serve) {
	if watching.ctx == nil {
		watching.pkg = packageOf(serve)
		watching.ctx, watching.end = context.WithCancelCause(context.Background())
		go watching.look()
	}
}

func (w *watch) look() {
	before, patience := int64(0), looksStill
	still, known := make(map[string]int), make(map[string]int) // looks at each goroutine, by its number and place, since it moved or a turn ended
	for range time.Tick(time.Second) {
		turns, seen, longest := int64(0), make(map[string]int), 0
		if n := w.node.Load(); n != nil {
			turns = n.Stats.Turn.Load().Count
		}
		if turns != before {
			clear(still)
		}
		var stuck []string
		for _, stack := range node.Stacks(w.pkg) {
			name, _, _ := strings.Cut(stack, " [")      // "goroutine 7"
			at := name + node.Whereabouts(w.pkg, stack) // the stack itself changes when its memory is moved
			if strings.Contains(stack, "[IO wait") || at == name || known[at] > 0 {
				continue
			}
			looks := still[at] + 1
			seen[at], longest = looks, max(longest, looks)
			if looks >= patience-1 { // the last of them may have stopped between two looks
				stuck = append(stuck, stack)
			}
		}
		if before, still = turns, seen; longest >= patience {
			w.report(node.Whereabouts(w.pkg, stuck...))
			known, patience = seen, 3 // a test that follows does not answer for these, and is soon known to be stuck as well
		}
	}
}

var testOf = regexp.MustCompile(`\.(Test\w+)\(`)

// report fails the test that is guarded. Any other one cannot be ended: the process is.
func (w *watch) report(where string) {
	w.end(fmt.Errorf("stuck: %s", where))
	if w.guarded.Load() {
		return
	}
	name := "a test"
	if found := testOf.FindAllStringSubmatch(strings.Join(node.Stacks("testing.tRunner"), "\n"), -1); found != nil {
		name = found[len(found)-1][1] // TestMain comes first
	}
	fmt.Fprintf(os.Stderr, "stuck in %s: %s\n", name, where)
	os.Exit(1)
}

// run runs a subtest, and fails it if the stage is stuck.
func (w *watch) run(t *testing.T, name string, serve node.Serve, test func(*testing.T, node.Serve)) bool {
	return t.Run(name, func(t *testing.T) {
		watchStage(serve)
		w.skipStuck(t)
		w.guarded.Store(true)
		defer w.guarded.Store(false)
		done := make(chan struct{})
		go func() { // ends with the test, unless the stage is stuck
			defer close(done)
			test(t, serve)
		}()
		select {
		case <-done:
		case <-w.ctx.Done():
			t.Fatal(context.Cause(w.ctx))
		}
	})
}

// skipStuck skips the rest of a test if the stage is stuck: the test that found it stuck has failed,
// and its goroutines would disturb this one.
func (w *watch) skipStuck(t *testing.T) {
	if w.ctx.Err() != nil {
		t.SkipNow()
	}
}

// packageOf returns the name of the package of a function, such as a stage's serve, followed
// by a dot.
func packageOf(function any) string {
	name := runtime.FuncForPC(reflect.ValueOf(function).Pointer()).Name()
	return regexp.MustCompile(`^(.*/)?[^.]*\.`).FindString(name)
}
