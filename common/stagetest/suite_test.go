package stagetest_test

import (
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"lockstep/common/node"
	"lockstep/common/stagetest"
	"lockstep/common/wire"
)

// A design is another stage than ours: a request needs a place, not a worker, and readers share
// the lock. The fields are mistakes.
type design struct {
	more   int                // places than for workers and queue
	delete func() wire.Result // what a Delete does
	waits  chan struct{}      // serve leaves a goroutine that waits for this
}

func (d *design) newStore(n *node.Node) stagetest.Store {
	var mu sync.RWMutex
	stored := n.NewTable()
	return func(ops []wire.Op) []wire.Result {
		if len(ops) == 1 && ops[0].Kind == wire.Get {
			mu.RLock()
			defer mu.RUnlock()
			return []wire.Result{stored.Get(ops[0].Key)}
		}
		mu.Lock()
		defer mu.Unlock()
		if d.delete != nil && ops[0].Kind == wire.Delete {
			return []wire.Result{d.delete()}
		}
		return stored.Apply(ops)
	}
}

func (d *design) serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	apply := d.newStore(n)
	places := make(chan struct{}, n.Config.Server.Workers+n.Config.Server.Queue+d.more)
	if d.waits != nil {
		go func() { <-d.waits }()
	}
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err
		}
		conns.Go(func() {
			defer c.Close()
			for c.Ready() {
				select {
				case places <- struct{}{}:
					n.Answer(c, apply)
					<-places
				default:
					n.Refuse(c)
				}
				c.Flush()
			}
		})
	}
}

// Another design passes if it is correct. With a mistake it fails, and the tests say why.
func TestSuite(t *testing.T) {
	flag.Set("test.failfast", "false") // the tests of mistakes fail
	flag.Set("test.skip", "")
	stagetest.Again()
	right := new(design)
	promises := func(d *design) func(*testing.T) { return func(t *testing.T) { stagetest.Run(t, d.serve) } }
	goals := func(d *design) func(*testing.T) { return func(t *testing.T) { stagetest.Goals(t, d.serve, 4) } }
	if !t.Run("Promises", promises(right)) || !t.Run("Goals", goals(right)) {
		return
	}
	waits := make(chan struct{})
	defer close(waits)
	checkSays(t, goals(&design{more: 1000}), `Overload.*one worker, a queue of one, and 80 requests.*none was answered Busy`)
	nothing := func() wire.Result { return wire.Result{Status: wire.Deleted} }
	checkSays(t, promises(&design{delete: func() wire.Result { panic("no keys") }}), `panicked: no keys, stagetest/suite_test.go:\d+`)
	checkSays(t, promises(&design{delete: nothing}), `Operations.*get k, delete k: answers missing deleted, want missing missing`)
	checkSays(t, promises(&design{waits: waits}), `goroutines are left: 1 × \(\*design\)\.serve.*promises after Operations were not`)
	t.Run("Skipped", func(t *testing.T) {
		stagetest.Goals(t, right.serve, 4)
		t.Error("the goals are tried although a promise is broken")
	})
}

// checkSays checks that a test that is not a subtest of t fails and says what a regular expression
// describes.
func checkSays(t *testing.T, test func(*testing.T), want string) {
	t.Helper()
	path, stdout := filepath.Join(t.TempDir(), "out"), os.Stdout
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout = file
	passed := testing.RunTests(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "TestOf", F: test}})
	os.Stdout = stdout
	file.Close()
	got, err := os.ReadFile(path)
	if passed || err != nil || !regexp.MustCompile(`(?s)`+want).Match(got) {
		t.Errorf("passed: %v; it says (%v)\n%s\nwant it to fail, with %s", passed, err, got, want)
	}
}

// The benchmark of a store measures requests of one operation, and of 64.
func TestBenchmarkStore(t *testing.T) {
	flag.Set("test.benchtime", "10x")
	var requests [wire.MaxOps]atomic.Int64 // by their operations
	testing.Benchmark(func(b *testing.B) {
		stagetest.BenchmarkStore(b, func(n *node.Node) stagetest.Store {
			store := new(design).newStore(n)
			return func(ops []wire.Op) []wire.Result {
				requests[len(ops)%wire.MaxOps].Add(1)
				return store(ops)
			}
		})
	})
	if ones, batches := requests[1].Load(), requests[64].Load(); ones < 10 || batches < 10 {
		t.Errorf("%d requests of one operation and %d of 64, want ten of each", ones, batches)
	}
}
