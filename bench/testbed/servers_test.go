package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/common/cluster"
)

// One house, built once, for several tests.
func TestHouse(t *testing.T) {
	benchtest.EmptyFolder(t)
	dirs, err := StageDirs(t.Context(), []string{filepath.Join("..", "testdata", "mistaken")})
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(t.Context(), dirs, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(*testing.T, *Bed){
		"PortTaken": testPortTaken, "NeverServes": testNeverServes, "Stubborn": testStubborn, "Watch": testWatch,
	} {
		h.Addrs, h.Patience = FreeAddrs, 10*time.Second
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
	if err := h.Close(); err != nil {
		t.Errorf("closing the house: %v", err)
	}
}

// A port that is taken between the search and the start costs another try, whichever
// node's it is; ports that are always taken, an error that says so.
func testPortTaken(t *testing.T, h *Bed) {
	m := benchtest.Mistake(t, "")
	var taken []net.Listener
	defer func() {
		for _, ln := range taken {
			ln.Close()
		}
	}()
	for _, port := range []int{0, 3, 5} { // of three nodes, two ports each
		finds := 0
		h.Addrs = func(n int) ([]string, error) {
			addrs, err := FreeAddrs(n)
			if finds++; finds == 1 && err == nil {
				ln, err := net.Listen("tcp", addrs[port])
				if err != nil {
					return nil, err
				}
				taken = append(taken, ln)
			}
			return addrs, err
		}
		s, err := h.Start(t.Context(), h.Programs[0], cluster.Default(), 3)
		if err != nil || finds != 2 {
			t.Fatalf("port %d taken: %d searches, error %v, want a second search to help", port, finds, err)
		}
		if err := h.Stop(s); err != nil {
			t.Errorf("stopping: %v", err)
		}
	}

	h.Addrs = func(int) ([]string, error) { return []string{taken[0].Addr().String(), "127.0.0.1:1"}, nil }
	if _, err := h.Start(t.Context(), h.Programs[0], cluster.Default(), 1); !errors.Is(err, errPortTaken) || !strings.Contains(err.Error(), "is another server running there?") {
		t.Errorf("ports that are always taken: error %v", err)
	}
	h.Addrs = func(int) ([]string, error) { return nil, errors.New("no ports") }
	if _, err := h.Start(t.Context(), h.Programs[0], cluster.Default(), 1); err == nil || err.Error() != "no ports" {
		t.Errorf("no free ports: error %v", err)
	}
	for len(m.Heard) > 0 {
		if <-m.Heard == "started" {
			m.Gone(1)
		}
	}
}

func testNeverServes(t *testing.T, h *Bed) {
	h.Patience = 200 * time.Millisecond
	m := benchtest.Mistake(t, "late")
	finds := 0
	h.Addrs = func(n int) ([]string, error) {
		finds++
		return FreeAddrs(n)
	}
	_, err := h.Start(t.Context(), h.Programs[0], cluster.Default(), 1)
	if err == nil || finds != 1 {
		t.Fatalf("a stage that never serves: error %v after %d tries, want one after 1", err, finds)
	}
	for _, want := range []string{"mistaken, node 0, does not serve after 200ms (", "refused", "last words:\n    I will be with you shortly"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error says no %q: %v", want, err)
		}
	}
	m.Started(1, false)
	m.Gone(1)

	// The one that waits for its peer has its ports, and that is no reason for another try.
	t.Setenv("LOCKSTEP_MISTAKE", "absent")
	h.Patience = time.Second
	_, err = h.Start(t.Context(), h.Programs[0], cluster.Default(), 2)
	if err == nil || finds != 2 || !strings.Contains(err.Error(), "mistaken, node 0, does not serve after 1s (it waits for its peers)\nits last words:") {
		t.Errorf("without node 1: error %v after %d tries, want one after 1", err, finds-1)
	}
	m.Started(2, false)
	m.Gone(2)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Start(ctx, h.Programs[0], cluster.Default(), 2); !errors.Is(err, context.Canceled) || finds != 3 {
		t.Errorf("interrupted: error %v after %d tries, want canceled after 1", err, finds-2)
	}
}

// What does not stop when it is asked to is killed, all of it.
func testStubborn(t *testing.T, h *Bed) {
	m := benchtest.Mistake(t, "stubborn")
	cfg := cluster.Default()
	cfg.Server.DrainTimeout = time.Millisecond
	s, err := h.Start(t.Context(), h.Programs[0], cfg, 2)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = time.Millisecond
	err = h.Stop(s)
	if err == nil || strings.Count(err.Error(), "did not stop when asked to, and was killed") != 2 {
		t.Errorf("two stubborn servers: error %v", err)
	}
	m.Gone(2)
}

// A server that dies ends the context of those who watch it, and is the reason of
// whatever came of that.
func testWatch(t *testing.T, h *Bed) {
	m := benchtest.Mistake(t, "")
	s, err := h.Start(t.Context(), h.Programs[0], cluster.Default(), 2)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := h.Watch(t.Context())
	defer cancel()
	if err := Reason(ctx, nil); err != nil {
		t.Errorf("no error has the reason %v", err)
	}
	s.Procs[1].Cmd.Process.Kill()
	err = Reason(ctx, errors.New("connection reset"))
	if !errors.Is(err, errDied) || !strings.Contains(err.Error(), "mistaken, node 1, died (") {
		t.Errorf("the reason is %v, want that node 1 died", err)
	}
	if err := h.Stop(s); !errors.Is(err, errDied) {
		t.Errorf("stopping says %v, want that node 1 died", err)
	}
	m.Gone(2)
	alone, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := Reason(alone, errDied); err != errDied {
		t.Errorf("with everybody alive the reason is %v", err)
	}
}

func TestProcEndsWithStandardInput(t *testing.T) {
	p, err := StartProc(exec.Command("go", "version"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Dead
	if got := p.Said.String(); p.Err != nil || !strings.HasPrefix(got, "    go version go") || strings.Contains(got, "\n") {
		t.Errorf("go version says %q, error %v", got, p.Err)
	}
}

func TestTail(t *testing.T) {
	line := strings.Repeat("x", 99) + "\n"
	stacks := strings.Repeat("goroutine 7 [running]:\n", 1000)
	for name, test := range map[string]struct {
		writes []string
		want   string // how it begins, without the indentation
		lines  int
	}{
		"nothing":         {nil, "(none)", 1},
		"two lines":       {[]string{"one\n", "two\n"}, "one\n", 2},
		"no newline":      {[]string{"one"}, "one", 1},
		"many":            {[]string{strings.Repeat(line, 50), "end\n"}, "xxx", 21},
		"a panic":         {[]string{strings.Repeat(line, 50), "pan", "ic: out of luck\n\n" + stacks, stacks}, "panic: out of luck\n", 91},
		"a fatal error":   {[]string{"serving\n", "fatal error: concurrent map writes\n", stacks}, "fatal error: concurrent map writes\n", 89},
		"panic in a line": {[]string{"no panic: all is well\n", "two\n"}, "no panic: all is well\n", 2},
		"one long line":   {[]string{strings.Repeat("y", 5000)}, "yyy", 1},
	} {
		var tail tail
		for _, text := range test.writes {
			if n, err := tail.Write([]byte(text)); n != len(text) || err != nil {
				t.Errorf("%s: Write returned %d, %v", name, n, err)
			}
		}
		got := tail.String()
		if !strings.HasPrefix(strings.ReplaceAll(got, "\n    ", "\n"), "    "+test.want) || strings.Count(got, "\n")+1 != test.lines || len(got) > 2*tailSize {
			t.Errorf("%s: %d bytes, %d lines, want %d that begin with %q:\n%.200s", name, len(got), strings.Count(got, "\n")+1, test.lines, test.want, got)
		}
	}
}

func TestFreeAddrs(t *testing.T) {
	addrs, err := FreeAddrs(6)
	if err != nil || len(addrs) != 6 {
		t.Fatalf("6 free addresses: %v, %v", addrs, err)
	}
	seen := make(map[string]bool)
	for _, addr := range addrs {
		if seen[addr] {
			t.Errorf("%s is there twice", addr)
		}
		seen[addr] = true
		var port int
		if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port); err != nil || port < 1024 || port > 32767 {
			t.Errorf("%s is not on loopback, below the ephemeral range", addr)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if free(ln.Addr().String()) {
		t.Errorf("%v is called free, and is taken", ln.Addr())
	}
}
