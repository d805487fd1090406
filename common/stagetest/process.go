package stagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// Main is a stage's TestMain: its test binary is also the stage itself, for the tests
// that need a process. Without it they are skipped.
//
//	func TestMain(m *testing.M) { stagetest.Main(m, serve) }
func Main(m *testing.M, serve node.Serve) {
	hasMain = true
	if os.Getenv("LOCKSTEP_TEST_SERVER") != "" {
		node.Main(serve)
	}
	os.Exit(m.Run())
}

var hasMain bool // the test binary can be started as the stage

// A process is a stage of its own, started as bench starts it.
type process struct {
	t      *testing.T
	cfg    cluster.Config
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// startProcess starts the stage whose test this is, and returns when it serves.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	if !hasMain {
		t.Skip("this test needs the stage as a process: func TestMain(m *testing.M) { stagetest.Main(m, serve) }")
	}
	t.Setenv("LOCKSTEP_SECRET", "")
	p := &process{t: t, cfg: cluster.Default()}
	addrs := freeAddrs(t)
	p.cfg.Nodes = []cluster.Node{{Addr: addrs[0], Control: addrs[1]}}
	file := filepath.Join(t.TempDir(), "cluster.json")
	if err := p.cfg.Save(file); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.CommandContext(t.Context(), os.Args[0], append([]string{"-child", "-config", file}, args...)...)
	p.cmd.Env = append(os.Environ(), "LOCKSTEP_TEST_SERVER=1", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.wait() })
	p.until(func(int64, int64) bool { return true })
	return p
}

// freeAddrs returns two addresses where nobody listens, outside the ephemeral range.
func freeAddrs(t *testing.T) (addrs []string) {
	t.Helper()
	for range 1000 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000)))
		if err != nil {
			continue
		}
		defer ln.Close() // not before both are found
		if addrs = append(addrs, ln.Addr().String()); len(addrs) == 2 {
			return addrs
		}
	}
	t.Fatal("no free ports")
	return nil
}

// until waits until the process serves and has counted what ok wants.
func (p *process) until(ok func(open, requests int64) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for {
		s, err := client.Stats(ctx, p.cfg, 0)
		if err == nil && s.Serving && ok(s.Open, s.Requests) {
			return
		}
		if ctx.Err() != nil {
			p.stdin.Close()
			p.t.Fatalf("waited in vain (%v), and the server said:\n%s", err, p.said())
		}
		<-time.After(time.Millisecond)
	}
}

// wait waits for the process, and returns its exit code.
func (p *process) wait() int {
	p.stdin.Close()
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// said is what it logged, once it has ended.
func (p *process) said() string {
	p.wait()
	return p.stderr.String()
}

// A process is stopped under full load: each request is answered or was never applied,
// and the exit code is 0. What strangers sent before stands in its log once a second at
// most, and never as it came. Signals and the end of standard input stop it in turns:
// three times, and with LOCKSTEP_SLOW=1 fifty times.
func testDrainOfAProcess(t *testing.T, serve node.Serve) {
	stops := []func(*process){
		func(p *process) { p.cmd.Process.Signal(syscall.SIGTERM) },
		func(p *process) { p.stdin.Close() },
	}
	if runtime.GOOS == "windows" { // where no signal can be sent to another process
		stops = stops[1:]
	}
	times := 3
	if slow() {
		times = 50
	}
	for i := range times {
		drainProcess(t, stops[i%len(stops)])
	}
}

func drainProcess(t *testing.T, stop func(*process)) {
	began := time.Now()
	p := startProcess(t)
	p.forgeLines()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var acked atomic.Int64
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() { // ends with ctx: a client goes on to look for the server
			cl := client.New(p.cfg)
			defer cl.Close()
			for {
				results, err := cl.Do(ctx, put(fmt.Sprint("client", i), "v"))
				if errors.Is(err, client.ErrUnknown) || err != nil && results[0].Status != wire.NotRun {
					t.Errorf("client %d: %v, %v: a drain must leave nobody in doubt", i, results[0].Status, err)
				}
				if err != nil {
					return
				}
				acked.Add(1)
			}
		})
	}
	p.until(func(_, requests int64) bool { return requests > 200 })
	stopped := time.Now()
	stop(p)
	p.cmd.Wait()
	took := time.Since(stopped)
	cancel()
	clients.Wait()
	if code := p.wait(); code != 0 || took > p.cfg.Server.DrainTimeout {
		t.Errorf("exit code %d after %v, want 0 within %v; it said:\n%s", code, took, p.cfg.Server.DrainTimeout, p.said())
	}
	applied, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(p.stdout.String(), "requests")), " in ")
	if got := strings.ReplaceAll(applied, " ", ""); got != fmt.Sprint(acked.Load()) {
		t.Errorf("the server applied %s requests, its clients had %d answers", got, acked.Load())
	}
	p.checkLog(began)
}

// checkLog checks that what a stranger has sent is logged once a second at most, and never
// as it came.
func (p *process) checkLog(began time.Time) {
	const besides = 2 // that it serves, and that it stops
	lines := strings.Split(strings.TrimSuffix(p.said(), "\n"), "\n")
	for _, line := range lines {
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) ||
			!strings.HasPrefix(line, "  ") && !strings.Contains(line, " node 0: ") {
			p.t.Errorf("logged %q", line)
		}
	}
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "  ") }) // continued
	if most := besides + 1 + int(time.Since(began)/time.Second); len(lines) <= besides || len(lines) > most {
		p.t.Errorf("%d lines in the log, want %d to %d:\n%s", len(lines), besides+1, most, p.said())
	}
}

// forgeLines sends, on connections of their own, what would write to a terminal.
func (p *process) forgeLines() {
	p.t.Helper()
	for range 30 {
		nc, err := net.Dial("tcp", p.cfg.Nodes[0].Addr)
		if err != nil {
			p.t.Fatal(err)
		}
		io.WriteString(nc, "\x1b]0;owned\x07\r\nnode 0: all is well\n\x00\x9b2J")
		nc.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, nc)
		nc.Close()
	}
}
