package stagetest

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/node"
)

// A watch notices that the stage is stuck, as in a deadlock: for many looks, one a second,
// the node has finished no turn, and a goroutine of the stage has not moved, though it does not
// wait for the network. It counts looks, so that a busy machine or a suspended process is not
// taken for a deadlock.
type watch struct {
	start   sync.Once
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
	watching.start.Do(func() {
		watching.pkg = packageOf(serve)
		watching.ctx, watching.end = context.WithCancelCause(context.Background())
		go watching.look()
	})
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
			number, _, _ := strings.Cut(stack, " [")
			at := number + node.Whereabouts(w.pkg, stack) // the stack itself changes when its memory is moved
			if strings.Contains(stack, "[IO wait") || at == number || known[at] > 0 {
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

// skipStuck skips a test after one in which the stage was stuck: what is left of that would
// disturb it.
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
