package testbed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// The test binary is also the stage that tests start, with one of these faults or none. Called
// go, it is a command that prints much and starts another, and both take long.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "go" {
		benchtest.FaultyMain()
		if other := exec.Command("go"); len(os.Args) > 1 {
			other.Stdout = os.Stdout
			fmt.Print(strings.Repeat("x", 100_000))
			other.Start()
		}
		<-time.After(20 * time.Second)
		return
	}
	if slices.Contains(os.Args, "-child") {
		switch fault := benchtest.FaultyMain(); {
		case fault == "starting", fault == "absent" && os.Args[len(os.Args)-1] == "1": // never serves
			fmt.Fprintln(os.Stderr, "still starting")
			io.Copy(io.Discard, os.Stdin)
			return
		case fault == "stubborn": // ignores the end of standard input
			os.Args = slices.DeleteFunc(os.Args, func(arg string) bool { return arg == "-child" })
		}
		node.Main(benchtest.ServeLocked)
	}
	benchtest.StageMain(m)
}

// ownBed returns a Bed and the test binary as its program: a stage without a fault.
func ownBed(t *testing.T) (*Bed, Program) {
	t.Helper()
	benchtest.EmptyFolder(t)
	benchtest.NewFaulty(t, "")
	b := newBed(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return b, Program{Name: "own", Path: self}
}

// newBed builds stages for the time of a test.
func newBed(t *testing.T, stages ...string) *Bed {
	t.Helper()
	b, err := New(t.Context(), stages, func(string) {})
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
// it belongs to. The fifth is the last.
func TestPortTaken(t *testing.T) {
	b, own := ownBed(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	searches, taken := 0, 1 // so many of them find a port that is taken
	b.Addrs = func(n int) ([]string, error) {
		addrs, err := node.FreeAddrs(n)
		if searches++; searches <= taken {
			addrs[n-1] = ln.Addr().String() // the control port of the last node
		}
		return addrs, err
	}
	if _, err := b.Start(t.Context(), own, cluster.Default(), 2); err != nil || searches < 2 { // it runs until Close stops it
		t.Errorf("a port is taken: %d searches, error %v, want 2", searches, err)
	}
	searches, taken = 0, 10
	if _, err := b.Start(t.Context(), own, cluster.Default(), 2); !errors.Is(err, errDied) || searches != 5 {
		t.Errorf("a port is always taken: %d searches, error %v, want 5, and that a server died", searches, err)
	}
}

// Servers that never serve, for whatever reason, are not started again, and are killed.
func TestNeverServes(t *testing.T) {
	b, own := ownBed(t)
	searches := 0
	b.Addrs = func(n int) ([]string, error) {
		searches++
		return node.FreeAddrs(n)
	}
	for _, test := range []struct {
		fault    string
		patience time.Duration
		want     string // a regular expression
	}{
		{"starting", 200 * time.Millisecond, "^own, node 0, does not serve after .*refused(?s:.*):\n    still starting"},
		{"absent", 500 * time.Millisecond, `^own, node 0, does not serve after .*\(it waits for its peers\)\n`},
	} {
		benchtest.NewFaulty(t, test.fault)
		for b.Patience = test.patience; ; b.Patience *= 3 { // a busy machine starts slowly
			searches = 0
			_, err := b.Start(t.Context(), own, cluster.Default(), 2)
			if searches == 1 && regexp.MustCompile(test.want).MatchString(fmt.Sprint(err)) {
				break
			} else if b.Patience > 20*time.Second || strings.Contains(fmt.Sprint(err), "still starting") {
				t.Errorf("%s: %d searches, error %v, want %s after 1", test.fault, searches, err, test.want)
				break
			}
		}
	}
}

// Use leaves nothing running, and its error is that of the function, or says which server died
// meanwhile, or was killed because it did not stop.
func TestUse(t *testing.T) {
	b, own := ownBed(t)
	cfg := cluster.Default()
	cfg.Server.DrainTimeout = time.Millisecond
	stuck := stuckError{errors.New("a deadlock?")}
	for _, test := range []struct {
		fault string
		want  error  // of Use
		says  string // beside want; "": nothing
	}{
		{"", load.ErrNoAnswer, "last output of node 0:\n    "},
		{"", errDied, "own, node 1, died: "},
		{"stubborn", nil, "own, node 0, did not stop when asked to, and was killed\nown, node 1, did not "},
		{"stubborn", stuck, ""},
		{"", load.ErrWrong, ""},
	} {
		benchtest.NewFaulty(t, test.fault)
		b.Patience = 10 * time.Second // while they start
		var began time.Time
		err := b.With(t.Context(), own, cfg, 2, func(ctx context.Context, s *Servers) error {
			b.Patience, began = 4*time.Second, time.Now() // but a stuck server is killed at once
			switch test.want {
			case nil:
				b.Patience = time.Millisecond
			case errDied:
				s.Procs[1].Cmd.Process.Kill()
				<-ctx.Done()
				return load.ErrNoAnswer
			}
			return s.WithOutput(test.want)
		})
		took, as := time.Since(began), err == test.want || test.says != "" && (test.want == nil || errors.Is(err, test.want))
		if !as || !strings.Contains(fmt.Sprint(err), test.says) || len(b.Running) > 0 || took > 3*time.Second {
			t.Errorf("error %v after %v, want %v that says %q; %d are running", err, took, test.want, test.says, len(b.Running))
		}
	}
}

// What a server says of a fault while a function runs comes before the function's error, which
// it ends if it is stuck.
func TestGuard(t *testing.T) {
	failed := errors.New("failed")
	for _, test := range []struct {
		kind    string        // of the fault after 3 s; "": none
		unknown error         // of asking the servers
		failure error         // of the function, after 10 s
		ends    time.Duration // at the latest
		want    string
	}{
		{"", nil, failed, 10 * time.Second, "failed"},
		{"panic", failed, failed, 10 * time.Second, "failed"},
		{"panic", nil, nil, 10 * time.Second, "node 1: said panic"},
		{"panic", nil, failed, 10 * time.Second, "node 1: said panic\nfailed"},
		{"stuck", nil, nil, 4 * time.Second, "node 1: said stuck"},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			servers := counted{stats: func() ([]metrics.Snapshot, error) {
				nodes := []metrics.Snapshot{said("panic"), {}} // the first had its fault before
				if test.kind != "" && time.Since(began) >= 3*time.Second {
					nodes[1] = said(test.kind)
				}
				return nodes, test.unknown
			}}
			err := Guard(t.Context(), servers, func(ctx context.Context) error {
				control.Pause(ctx, 10*time.Second)
				return cmp.Or(context.Cause(ctx), test.failure)
			})
			took, stuck := time.Since(began), errors.As(err, new(stuckError))
			if err == nil || err.Error() != test.want || took > test.ends || stuck != (test.kind == "stuck") {
				t.Errorf("%+v: error %v after %v, stuck: %v", test, err, took, stuck)
			}
		})
	}
}

// A counted Target has servers that have counted something.
type counted struct {
	load.Target
	stats func() ([]metrics.Snapshot, error)
}

func (c counted) Stats(context.Context) ([]metrics.Snapshot, error) { return c.stats() }

// said returns what a server has counted after a fault.
func said(kind string) metrics.Snapshot {
	return metrics.Snapshot{Faults: map[string]string{kind: "said " + kind}, Errors: metrics.Tally{kind: 1}}
}

// The last lines are kept, and from a crash on the first. A process says last why it ends. Of a crash,
// the first line and the line of the stage say the most; the stacks are as Go prints them.
func TestTail(t *testing.T) {
	many := strings.Repeat(strings.Repeat("x", 99)+"\n", 50)
	stacks := strings.Repeat("\ngoroutine 7 [running]:\nsync.(*Mutex).Unlock(...)\n\t/go/src/sync/mutex.go:65\n"+
		"main.(*store).apply(0xc000012345, {0x1, 0x2, 0x3})\n\t/home/me/lockstep/mine/store.go:43 +0x1d\n"+
		"main.serveConn(...)\n\t/home/me/lockstep/mine/server.go:30\ncreated by main.serve in goroutine 1\n", 100)
	for _, test := range []struct {
		writes []string
		want   string // its beginning, without the indentation
		lines  int
		cause  string
	}{
		{nil, "(none)", 1, ""},
		{[]string{"serving\n", "mine: the drain", " was cut short"}, "serving\n", 2, "mine: the drain was cut short"},
		{[]string{many, "end\n"}, "xxx", 21, "end"},
		{[]string{many, "pan", "ic: out of luck\n"}, "panic: out of luck", 1, "panic: out of luck"},
		{[]string{"serving\n", "fatal error: sync: unlock of unlocked mutex\n", stacks, stacks},
			"fatal error: sync: unlock of unlocked mutex\n", 70, "fatal error: sync: unlock of unlocked mutex, mine/store.go:43"},
		{[]string{"no panic: all is well\n", "two\n"}, "no panic: all is well\n", 2, "two"},
	} {
		var written tail
		for _, text := range test.writes {
			written.Write([]byte(text))
		}
		got := strings.ReplaceAll(written.String(), "\n    ", "\n")
		if lines := strings.Count(got, "\n") + 1; !strings.HasPrefix(got, "    "+test.want) || lines != test.lines || len(got) > 2*tailSize {
			t.Errorf("%d bytes, %d lines, want %d that begin with %q:\n%.200s", len(got), lines, test.lines, test.want, got)
		}
		if cause := written.cause(); cause != test.cause {
			t.Errorf("the cause is %q, want %q, in\n%s", cause, test.cause, got)
		}
	}
}

// A number means a directory, and Lockstep's own if there are several.
func TestStageDirs(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a [b] *?") // must not be taken for a pattern
	tree := fstest.MapFS{"stage1_notes.txt": {}, "stage3_threadpool": {}}
	for _, dir := range []string{"stage1_one", "stage12_twelve", "stage2_a", "stage2_b", "stage4_a", "stage4_bucketlock", "stage4_mine", "mine"} {
		tree[dir+"/main.go"] = &fstest.MapFile{}
	}
	if err := os.CopyFS(root, tree); err != nil {
		t.Skip(err) // Windows
	}
	for stage, want := range map[string]string{
		"1": "stage1_one", "12": "stage12_twelve", "stage1_one": "stage1_one", "mine": "mine", "./mine": "mine", "4": "stage4_bucketlock", "stage4_mine": "stage4_mine",
		"2": "", "3": "", "-1": "", "": "", "yours": "", "stage1_notes.txt": "",
	} {
		dir, err := StageDir(root, stage)
		if want == "" && err == nil || want != "" && dir != filepath.Join(root, want) {
			t.Errorf("stage %q is in %q, %v, want %q", stage, dir, err, want)
		}
	}
}

// Programs are built where the environment says, by a path from here, too, and how it says. A
// stage may be in another module than bench is run in: grading has a checkout of its own. What
// is built is said before the go command is started, which takes a while at first.
func TestBuildEnvironment(t *testing.T) {
	benchtest.EmptyFolder(t)
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	tree := fstest.MapFS{"tmp": {Mode: fs.ModeDir}}
	for name, text := range map[string]string{"go.mod": "module mine\n", "small/go.mod": "module small\n", "small/main.go": "package main\n\nfunc main() {}\n",
		"broken/go.mod": "module broken\n", "broken/main.go": "package main\n\nfunc main() { missing() }\n"} {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	if err := cmp.Or(err, os.CopyFS(here, tree)); err != nil {
		t.Fatal(err)
	}
	flags := "-buildvcs=false -tags=mine " + benchtest.RaceFlag()
	t.Setenv("GOFLAGS", flags)
	t.Setenv("GOTMPDIR", "tmp") // is for builds
	b := newBed(t, filepath.Join(here, "small"))
	p := b.Programs[0]
	if _, err := os.Stat(p.Path); err != nil || p.Built.Path != "small" || !strings.Contains(p.Built.String(), "-tags=mine\n") || b.Variables["GOFLAGS"] != flags {
		t.Errorf("%s was built with\n%v%v, error %v", p.Path, p.Built, b.Variables, err)
	}
	if other := newBed(t).Dir; filepath.Dir(b.Dir) != filepath.Join(here, "tmp") || filepath.Dir(other) != os.TempDir() {
		t.Errorf("the temporary directories are %s, of a stage, and %s", b.Dir, other)
	}
	b.Programs = append(b.Programs, Program{Name: "Broken"}) // the same name, to some file systems
	want := "broken-2 does not build:\n# broken\n" + filepath.Join("broken", "main.go") + ":3:15: undefined: missing"
	if err := b.Build(t.Context(), filepath.Join(here, "broken")); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	t.Setenv("PATH", "")
	told := ""
	_, err = New(t.Context(), []string{"a", "b", "c", "d"}, func(what string) { told += what })
	if err == nil || !strings.HasPrefix(told, "building 4 servers (the first time ") {
		t.Errorf("without a go command: said %q, error %v, want what would be built", told, err)
	}
}

// At the end of its context, Go has killed the command and what that has started. Of what they
// printed, it returns the first.
func TestGoIsKilled(t *testing.T) {
	t.Setenv("PATH", benchtest.OnlyInPath(t, "go"))
	started := benchtest.NewFaulty(t, "")
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	go func() { // ends when both have started
		<-started
		<-started
		cancel(enough)
	}()
	began := time.Now()
	out, err := newBed(t).Go(ctx, t.TempDir(), "build")
	if err != enough || len(out) != 64<<10 || time.Since(began) > 4*time.Second {
		t.Errorf("%d bytes and error %v after %v, want 64 KiB and %v at once", len(out), err, time.Since(began), enough)
	}
}

// stats returns what the one server of s has counted.
func stats(t *testing.T, s *Servers) metrics.Snapshot {
	t.Helper()
	snapshot, err := client.Stats(t.Context(), s.Config, 0)
	if err != nil {
		t.Fatalf("%v\nlast output:\n%s", err, s.Procs[0].Output)
	}
	return snapshot
}

// greeted returns connections that the server has greeted.
func greeted(t *testing.T, s *Servers, n int) (conns []*net.TCPConn) {
	t.Helper()
	for range n {
		nc, err := net.Dial("tcp", s.Config.Nodes[0].Addr)
		if errors.Is(err, syscall.EMFILE) {
			t.Skipf("%v: more file descriptors are needed (ulimit -n)", err)
		}
		greeting := make([]byte, 64)
		if err == nil {
			_, err = io.ReadFull(nc, greeting)
		}
		if err != nil || !strings.HasPrefix(string(greeting), "lockstep\x00") {
			t.Fatalf("greeted with %q (%v)", greeting, err)
		}
		conns = append(conns, nc.(*net.TCPConn))
	}
	return conns
}

// requests returns n encoded requests with the same operations.
func requests(t *testing.T, n int, ops ...wire.Op) []byte {
	t.Helper()
	request, err := wire.AppendRequest(nil, &wire.Request{Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(request, n)
}

// mostSwaps are as many operations as a request can have, in the largest frame.
var mostSwaps = slices.Repeat([]wire.Op{
	{Kind: wire.CompareAndSwap, Key: "a key of 16 byte", Value: make([]byte, 16), Old: make([]byte, 16)}}, wire.MaxOps)

// All connections wait for one lock, which is held for a second at a time. They must not
// decode their requests before they wait.
func TestMemoryOfWaitingRequests(t *testing.T) {
	cfg := cluster.Default()
	cfg.Server.Work.Time = time.Millisecond
	b, own := ownBed(t)
	s, err := b.Start(t.Context(), own, cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	conns, attack := greeted(t, s, 100), requests(t, 2, mostSwaps...)
	for _, nc := range conns {
		defer nc.Close()
		if _, err := nc.Write(attack); err != nil {
			t.Fatal(err)
		}
	}
	for stats(t, s).QueueWait.Count < int64(len(conns)) { // until a worker has taken each request
		control.Pause(t.Context(), 10*time.Millisecond)
	}
	heap := int64(0)
	for still, polls := 0, 0; still < 10 && polls < 50; still, polls = still+1, polls+1 { // and none is being decoded
		control.Pause(t.Context(), 10*time.Millisecond)
		if now := stats(t, s).Heap; now < heap || now > heap+1<<20 {
			still, heap = 0, now
		}
	}
	if heap > 17<<20 {
		t.Errorf("the heap has %d MiB while 100 requests wait, want at most 17", heap>>20)
	}
	b.Running = nil // answering all requests would take minutes
	s.Procs[0].Kill()
}

// Runs one attack after the other, on each stage that serves more than one client:
//
//	LOCKSTEP_SLOW=1 go test ./bench/testbed -run MemoryUnderAttack -v
func TestMemoryUnderAttack(t *testing.T) {
	benchtest.Slow(t)
	big := wire.Op{Kind: wire.Get, Key: "big"}
	put := wire.Op{Kind: wire.Put, Key: "put", Value: make([]byte, wire.MaxValue)}
	b := newBed(t, "2", "3", "4")
	for _, p := range b.Programs {
		s, err := b.Start(t.Context(), p, cluster.Default(), 1)
		if err != nil {
			t.Fatal(err)
		}
		cl := client.New(s.Config)
		defer cl.Close()
		if _, err := cl.Put(t.Context(), "big", make([]byte, 16_000)); err != nil { // four of these fill an answer
			t.Fatal(err)
		}
		before := stats(t, s).PeakMemory
		if before == 0 {
			t.Skip("this system does not tell the peak memory of a process")
		}
		for _, a := range []struct {
			name   string
			once   bool
			stream []byte // sent again and again, until the server has taken nothing for a while, or once
		}{
			{"the most swaps", false, requests(t, 2, mostSwaps...)},
			{"the most gets", false, requests(t, 12, slices.Repeat([]wire.Op{{Kind: wire.Get, Key: "k"}}, wire.MaxOps)...)},
			{"the largest answers", false, requests(t, 2000, big, big, big, big)},
			{"the largest puts", false, requests(t, 2, put, put, put)},
			{"a frame without its last byte", true, append([]byte{0, 1, 0, 0}, make([]byte, wire.MaxFrame-1)...)},
		} {
			t.Run(s.Name+"/"+a.name, func(t *testing.T) {
				conns := greeted(t, s, 300)
				var sent sync.WaitGroup
				for _, nc := range conns {
					nc.SetReadBuffer(4 << 10)
					nc.SetLinger(0) // Close drops what is unsent
					nc.SetWriteDeadline(time.Now().Add(time.Second / 2))
					sent.Go(func() {
						for _, err := nc.Write(a.stream); err == nil && !a.once; {
							_, err = nc.Write(a.stream)
						}
					})
				}
				sent.Wait()
				for _, nc := range conns { // all have taken what they could, at the same time
					nc.Close()
				}
				for stats(t, s).Open > 1 {
					control.Pause(t.Context(), 5*time.Millisecond)
				}
				if more := (stats(t, s).PeakMemory - before) >> 20; more > 100 {
					t.Errorf("the peak memory grew by %d MiB, want at most 100", more)
				}
			})
		}
	}
}
