package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/common/cluster"
	"lockstep/common/node"
)

// The test binary is also the stage that tests start, with one of these faults or none. A stage
// that serves one client at a time is none.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-child") {
		serve := benchtest.ServeLocked
		switch fault := benchtest.FaultyMain(); {
		case fault == "starting", fault == "absent" && os.Args[len(os.Args)-1] == "1": // never serves
			fmt.Fprintln(os.Stderr, "still starting")
			io.Copy(io.Discard, os.Stdin)
			return
		case fault == "stubborn": // ignores the end of standard input
			os.Args = slices.DeleteFunc(os.Args, func(arg string) bool { return arg == "-child" })
		case fault == "one":
			serve = benchtest.ServeOne
		}
		node.Main(serve)
	}
	benchtest.StageMain(m)
}

// ownBed returns a Bed whose one program is the test binary: a stage with this
// fault.
func ownBed(t *testing.T, fault string) (*Bed, Program, <-chan bool) {
	t.Helper()
	benchtest.EmptyFolder(t)
	started := benchtest.NewFaulty(t, fault)
	b := newBed(t.Context(), t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return b, Program{Name: "own", Path: self}, started
}

// newBed builds stages for the time of a test.
func newBed(ctx context.Context, t *testing.T, stages ...string) *Bed {
	t.Helper()
	b, err := New(ctx, stages, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// A port that is taken between the search and the start costs another try, whichever node
// it belongs to. Ports that are always taken are an error that says so.
func TestPortTaken(t *testing.T) {
	b, own, _ := ownBed(t, "")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, port := range []int{0, 3} { // of two nodes, two ports each
		searches := 0
		b.Addrs = func(n int) ([]string, error) {
			addrs, err := node.FreeAddrs(n)
			if searches++; searches == 1 {
				addrs[port] = ln.Addr().String()
			}
			return addrs, err
		}
		s, err := b.Start(t.Context(), own, cluster.Default(), 2)
		if err != nil || searches != 2 {
			t.Fatalf("port %d taken: %d searches, error %v, want 2 and none", port, searches, err)
		}
		if err := b.Stop(s); err != nil {
			t.Errorf("stopping: %v", err)
		}
	}
	b.Addrs = func(int) ([]string, error) { return []string{ln.Addr().String(), "127.0.0.1:1"}, nil }
	if _, err := b.Start(t.Context(), own, cluster.Default(), 1); !errors.Is(err, errDied) || !strings.Contains(err.Error(), "is another server running there?") {
		t.Errorf("ports that are always taken: error %v", err)
	}
	noPorts := errors.New("no ports")
	b.Addrs = func(int) ([]string, error) { return nil, noPorts }
	if _, err := b.Start(t.Context(), own, cluster.Default(), 1); err != noPorts {
		t.Errorf("no free ports: error %v", err)
	}
}

// Servers that never serve, for whatever reason, are not started again, and are killed.
func TestNeverServes(t *testing.T) {
	b, own, _ := ownBed(t, "")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		fault    string
		ctx      context.Context
		patience time.Duration
		want     []string
	}{
		{"starting", t.Context(), 200 * time.Millisecond, []string{"own, node 0, does not serve after ", "refused", "output:\n    still starting"}},
		{"absent", t.Context(), 500 * time.Millisecond, []string{"own, node 0, does not serve after ", "(it waits for its peers)\n"}},
		{"starting", canceled, time.Minute, []string{"canceled"}},
	} {
		benchtest.NewFaulty(t, test.fault)
		searches := 0
		b.Addrs = func(n int) ([]string, error) {
			searches++
			return node.FreeAddrs(n)
		}
		b.Patience = test.patience
		_, err := b.Start(test.ctx, own, cluster.Default(), 2)
		for last := test.want[len(test.want)-1]; err != nil && !strings.Contains(err.Error(), last) && b.Patience < 20*time.Second; { // a busy machine starts slowly
			searches, b.Patience = 0, 3*b.Patience
			_, err = b.Start(test.ctx, own, cluster.Default(), 2)
		}
		for _, want := range test.want {
			if err == nil || searches != 1 || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %d searches, error %v, want %q after 1", test.fault, searches, err, want)
			}
		}
	}
}

// Servers that do not stop when asked to are killed.
func TestStubborn(t *testing.T) {
	b, own, started := ownBed(t, "stubborn")
	cfg := cluster.Default()
	cfg.Server.DrainTimeout = time.Millisecond
	s, err := b.Start(t.Context(), own, cfg, 2)
	if err != nil {
		t.Fatal(err)
	}
	b.Patience = time.Millisecond
	err = b.Stop(s)
	if err == nil || strings.Count(err.Error(), "did not stop when asked to, and was killed") != 2 {
		t.Errorf("two stubborn servers: error %v", err)
	}
	for range 2 {
		<-started
	}
}

// Use leaves nothing running, and its error is that of the function, or says which server died
// meanwhile.
func TestUse(t *testing.T) {
	b, own, _ := ownBed(t, "")
	for want, in := range map[error]string{nil: "<nil>", load.ErrNoAnswer: "last output of node 1:\n    ", errDied: "own, node 1, died: "} {
		b.Patience = 10 * time.Second // while they start
		err := b.With(t.Context(), own, cluster.Default(), 2, func(ctx context.Context, s *Servers) error {
			b.Patience = 2 * time.Second
			if want == nil {
				return nil
			}
			if want == errDied {
				s.Procs[1].Cmd.Process.Kill()
				<-ctx.Done()
			}
			return s.WithOutput(load.ErrNoAnswer)
		})
		if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), in) || len(b.Running) > 0 {
			t.Errorf("error %v, want %v that says %q; %d are running", err, want, in, len(b.Running))
		}
	}
	for _, err := range []error{nil, load.ErrWrong, stuckError{errors.New("stuck: a deadlock?")}} { // which says what the output does
		if got := (&Servers{Procs: make([]*Proc, 1)}).WithOutput(err); got != err {
			t.Errorf("%v with the output of its servers is %v, want no output", err, got)
		}
	}
}

// A process says last why it ends. Of a crash, the first line and the line of the stage say the
// most; the stacks are as Go prints them.
func TestCause(t *testing.T) {
	const stack = "\ngoroutine 7 [running]:\nsync.(*Mutex).Unlock(...)\n\t/go/src/sync/mutex.go:65\n" +
		"main.(*store).apply(0xc000012345, {0x1, 0x2, 0x3})\n\t/home/me/lockstep/mine/store.go:43 +0x1d\n" +
		"main.serveConn(...)\n\t/home/me/lockstep/mine/server.go:30\ncreated by main.serve in goroutine 1\n"
	for output, want := range map[string]string{
		"serving\nfatal error: sync: unlock of unlocked mutex\n" + stack: "fatal error: sync: unlock of unlocked mutex, mine/store.go:43",
		"panic: out of luck\n":                     "panic: out of luck",
		"serving\nmine: the drain was cut short\n": "mine: the drain was cut short",
		"": "",
	} {
		var written tail
		written.Write([]byte(output))
		if got := written.cause(); got != want {
			t.Errorf("the cause is %q, want %q, in\n%s", got, want, output)
		}
	}
}

func TestTail(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	stacks := strings.Repeat("goroutine 7 [running]:\n", 1000)
	for name, test := range map[string]struct {
		writes []string
		want   string // its beginning, without the indentation
		lines  int
	}{
		"nothing":         {nil, "(none)", 1},
		"no newline":      {[]string{"one\n", "two"}, "one\n", 2},
		"many":            {[]string{strings.Repeat(line, 50), "end\n"}, "xxx", 21},
		"a panic":         {[]string{strings.Repeat(line, 50), "pan", "ic: out of luck\n\n" + stacks, stacks}, "panic: out of luck\n", 91},
		"a fatal error":   {[]string{"serving\n", "fatal error: concurrent map writes\n", stacks}, "fatal error: concurrent map writes\n", 89},
		"panic in a line": {[]string{"no panic: all is well\n", "two\n"}, "no panic: all is well\n", 2},
		"one long line":   {[]string{strings.Repeat("y", 5000)}, "yyy", 1},
	} {
		var written tail
		for _, text := range test.writes {
			written.Write([]byte(text))
		}
		got := written.String()
		if !strings.HasPrefix(strings.ReplaceAll(got, "\n    ", "\n"), "    "+test.want) || strings.Count(got, "\n")+1 != test.lines || len(got) > 2*tailSize {
			t.Errorf("%s: %d bytes, %d lines, want %d that begin with %q:\n%.200s", name, len(got), strings.Count(got, "\n")+1, test.lines, test.want, got)
		}
	}
}
