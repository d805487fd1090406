package stagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
)

// Main is a stage's TestMain. It lets the test binary run as the stage's server, for the
// tests that need a process; without it they are skipped.
//
//	func TestMain(m *testing.M) { stagetest.Main(m, serve) }
func Main(m *testing.M, serve node.Serve) {
	hasMain = true
	watchStage(serve)
	if os.Getenv("LOCKSTEP_TEST_SERVER") != "" {
		node.Main(serve)
	}
	os.Exit(m.Run())
}

var hasMain bool // the test binary can run as the stage's server

// A process is a stage in a process of its own, started as bench starts it.
type process struct {
	t      *testing.T
	cfg    cluster.Config
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// startProcess starts the stage under test and returns when it serves.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	if !hasMain {
		t.Skip("needs the stage as a process; add: func TestMain(m *testing.M) { stagetest.Main(m, serve) }")
	}
	t.Setenv("LOCKSTEP_SECRET", "")
	p := &process{t: t, cfg: cluster.Default()}
	addrs, err := node.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	p.cfg.Nodes = []cluster.Node{{Addr: addrs[0], Control: addrs[1]}}
	file := filepath.Join(t.TempDir(), "cluster.json")
	if err := p.cfg.Save(file); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.CommandContext(t.Context(), os.Args[0], append([]string{"-child", "-config", file}, args...)...)
	p.cmd.Env = append(os.Environ(), "LOCKSTEP_TEST_SERVER=1", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err := errors.Join(err, p.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	t.Cleanup(func() { p.wait() })
	p.await(func(s metrics.Snapshot) bool { return s.Open == 0 })
	return p
}

// await waits until the process serves and its statistics are as wanted.
func (p *process) await(wanted func(metrics.Snapshot) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if s, err := client.Stats(ctx, p.cfg, 0); err == nil && s.Serving && wanted(s) {
			return
		}
		<-time.After(time.Millisecond)
	}
	p.t.Fatalf("the server is not ready after 20s; its log:\n%s", p.said())
}

// wait ends the process and returns its exit code.
func (p *process) wait() int {
	p.stdin.Close()
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// said ends the process and returns its log.
func (p *process) said() string {
	p.wait()
	return p.stderr.String()
}

// A process is stopped under full load, by a signal and by the end of standard input in
// turn. Each request is answered or was never applied, and the exit code is 0. What strangers
// sent before is logged once a second at most, and never as it came.
func testDrainOfAProcess(t *testing.T, serve node.Serve) {
	for i := range tries(2, 50) {
		began := time.Now()
		p := startProcess(t)
		for range 30 {
			feed(t, p.cfg.Nodes[0].Addr, "\x1b]0;owned\x07\r\nnode 0: all is well\n\x00\x9b2J")
		}
		stopWriters := startWriters(t, p.cfg)
		stopped := time.Now()
		if i%2 == 0 && runtime.GOOS != "windows" { // which cannot signal a process
			p.cmd.Process.Signal(syscall.SIGTERM)
		} else {
			p.stdin.Close()
		}
		p.cmd.Wait()
		took := time.Since(stopped)
		if code := p.wait(); code != 0 || took > p.cfg.Server.DrainTimeout {
			t.Errorf("exit code %d after %v, want 0 within %v; its log:\n%s", code, took, p.cfg.Server.DrainTimeout, p.said())
		}
		acked, applied := stopWriters(), regexp.MustCompile(`(?m)^requests +([\d ]+) in `).FindStringSubmatch(p.stdout.String())
		if applied == nil || strings.ReplaceAll(applied[1], " ", "") != fmt.Sprint(acked) {
			t.Errorf("its clients had %d answers, and the server printed\n%s", acked, p.stdout.String())
		}
		p.checkLog(began)
	}
}

// checkLog checks that what a stranger has sent is logged once a second at most, and never
// as it came.
func (p *process) checkLog(began time.Time) {
	const besides = 2 // that it serves, and that it stops
	log, lines := p.said(), 0
	for line := range strings.Lines(log) {
		_, text, found := strings.Cut(line, " node 0: ") // other lines are the stage's own
		if strings.HasPrefix(line, "node 0: ") || found && strings.ContainsFunc(strings.TrimSuffix(text, "\n"), unicode.IsControl) {
			p.t.Errorf("logged %q", line)
		}
		if found {
			lines++
		}
	}
	if most := besides + 1 + int(time.Since(began)/time.Second); lines <= besides || lines > most {
		p.t.Errorf("%d lines in the log, want %d to %d:\n%s", lines, besides+1, most, log)
	}
}
