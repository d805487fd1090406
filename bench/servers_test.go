package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"lockstep/common/cluster"
)

// One house, built once, for several tests.
func TestHouse(t *testing.T) {
	emptyFolder(t)
	dirs, err := stageDirs(t.Context(), []string{"testdata/mistaken"})
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHouse(t.Context(), dirs, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(*testing.T, *house){
		"PortTaken": testPortTaken, "NeverServes": testNeverServes, "Stubborn": testStubborn, "Watch": testWatch,
	} {
		h.addrs, h.patience = freeAddrs, 10*time.Second
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
	if err := h.close(); err != nil {
		t.Errorf("closing the house: %v", err)
	}
}

// A port that is taken between the search and the start costs another try, whichever
// node's it is; ports that are always taken, an error that says so.
func testPortTaken(t *testing.T, h *house) {
	m := mistake(t, "")
	var taken []net.Listener
	defer func() {
		for _, ln := range taken {
			ln.Close()
		}
	}()
	for _, port := range []int{0, 3, 5} { // of three nodes, two ports each
		finds := 0
		h.addrs = func(n int) ([]string, error) {
			addrs, err := freeAddrs(n)
			if finds++; finds == 1 && err == nil {
				ln, err := net.Listen("tcp", addrs[port])
				if err != nil {
					return nil, err
				}
				taken = append(taken, ln)
			}
			return addrs, err
		}
		s, err := h.start(t.Context(), h.programs[0], cluster.Default(), 3)
		if err != nil || finds != 2 {
			t.Fatalf("port %d taken: %d searches, error %v, want a second search to help", port, finds, err)
		}
		if err := h.stop(s); err != nil {
			t.Errorf("stopping: %v", err)
		}
	}

	h.addrs = func(int) ([]string, error) { return []string{taken[0].Addr().String(), "127.0.0.1:1"}, nil }
	if _, err := h.start(t.Context(), h.programs[0], cluster.Default(), 1); !errors.Is(err, errPortTaken) || !strings.Contains(err.Error(), "is another server running there?") {
		t.Errorf("ports that are always taken: error %v", err)
	}
	h.addrs = func(int) ([]string, error) { return nil, errors.New("no ports") }
	if _, err := h.start(t.Context(), h.programs[0], cluster.Default(), 1); err == nil || err.Error() != "no ports" {
		t.Errorf("no free ports: error %v", err)
	}
	for len(m.heard) > 0 {
		if <-m.heard == "started" {
			m.gone(1)
		}
	}
}

func testNeverServes(t *testing.T, h *house) {
	h.patience = 200 * time.Millisecond
	m := mistake(t, "late")
	finds := 0
	h.addrs = func(n int) ([]string, error) {
		finds++
		return freeAddrs(n)
	}
	_, err := h.start(t.Context(), h.programs[0], cluster.Default(), 1)
	if err == nil || finds != 1 {
		t.Fatalf("a stage that never serves: error %v after %d tries, want one after 1", err, finds)
	}
	for _, want := range []string{"mistaken, node 0, does not serve after 200ms (", "refused", "last words:\n    I will be with you shortly"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error says no %q: %v", want, err)
		}
	}
	m.started(1, false)
	m.gone(1)

	// The one that waits for its peer has its ports, and that is no reason for another try.
	t.Setenv("LOCKSTEP_MISTAKE", "absent")
	h.patience = time.Second
	_, err = h.start(t.Context(), h.programs[0], cluster.Default(), 2)
	if err == nil || finds != 2 || !strings.Contains(err.Error(), "mistaken, node 0, does not serve after 1s (it waits for its peers)\nits last words:") {
		t.Errorf("without node 1: error %v after %d tries, want one after 1", err, finds-1)
	}
	m.started(2, false)
	m.gone(2)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.start(ctx, h.programs[0], cluster.Default(), 2); !errors.Is(err, context.Canceled) || finds != 3 {
		t.Errorf("interrupted: error %v after %d tries, want canceled after 1", err, finds-2)
	}
}

// What does not stop when it is asked to is killed, all of it.
func testStubborn(t *testing.T, h *house) {
	m := mistake(t, "stubborn")
	cfg := cluster.Default()
	cfg.Server.DrainTimeout = time.Millisecond
	s, err := h.start(t.Context(), h.programs[0], cfg, 2)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = time.Millisecond
	err = h.stop(s)
	if err == nil || strings.Count(err.Error(), "did not stop when asked to, and was killed") != 2 {
		t.Errorf("two stubborn servers: error %v", err)
	}
	m.gone(2)
}

// A server that dies ends the context of those who watch it, and is the reason of
// whatever came of that.
func testWatch(t *testing.T, h *house) {
	m := mistake(t, "")
	s, err := h.start(t.Context(), h.programs[0], cluster.Default(), 2)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := h.watch(t.Context())
	defer cancel()
	if err := reason(ctx, nil); err != nil {
		t.Errorf("no error has the reason %v", err)
	}
	s.procs[1].cmd.Process.Kill()
	err = reason(ctx, errors.New("connection reset"))
	if !errors.Is(err, errDied) || !strings.Contains(err.Error(), "mistaken, node 1, died (") {
		t.Errorf("the reason is %v, want that node 1 died", err)
	}
	if err := h.stop(s); !errors.Is(err, errDied) {
		t.Errorf("stopping says %v, want that node 1 died", err)
	}
	m.gone(2)
	alone, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := reason(alone, errDied); err != errDied {
		t.Errorf("with everybody alive the reason is %v", err)
	}
}

func TestProcEndsWithStandardInput(t *testing.T) {
	p, err := startProc(exec.Command("go", "version"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.dead
	if got := p.said.String(); p.err != nil || !strings.HasPrefix(got, "    go version go") || strings.Contains(got, "\n") {
		t.Errorf("go version says %q, error %v", got, p.err)
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
	addrs, err := freeAddrs(6)
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
