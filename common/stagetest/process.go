package stagetest

import (
	"bufio"
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

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
)

// Main is a stage's TestMain. It lets the test binary run as the stage's server, for the
// tests that need a process; without it they are skipped. Under the race detector, the tests
// end at the first data race, unless GORACE says otherwise: one that is met a thousand times
// would be reported as often.
//
//	func TestMain(m *testing.M) { stagetest.Main(m, serve) }
func Main(m *testing.M, serve node.Serve) {
	hasMain = true
	watchStage(serve)
	if os.Getenv("LOCKSTEP_TEST_SERVER") != "" {
		node.Main(serve)
	}
	if raceDetector && os.Getenv("GORACE") == "" { // which is read when a process starts
		os.Exit(untilOneRace())
	}
	code := m.Run()
	if code != 0 {
		fmt.Println("go vet finds a lock that is copied, and go test -race a data race.")
	}
	os.Exit(code)
}

// untilOneRace runs this program in a process that ends at the first data race, and returns its
// exit code. Of the race detector's report it prints where the two accesses were.
func untilOneRace() int {
	self, err := os.Executable()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	stderr, piped := cmd.StderrPipe()
	if err = errors.Join(err, piped, cmd.Start()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	reporting, frames := false, 0 // lines of the stack that are still printed, two a call
	for lines := bufio.NewReader(stderr); err == nil; {
		var line string
		line, err = lines.ReadString('\n')
		switch {
		case strings.HasPrefix(line, "WARNING: DATA RACE"):
			reporting = true
		case strings.HasPrefix(line, "====="):
			reporting = false
		case strings.Contains(line, " at 0x"): // an access: its stack follows, and after the accesses where the goroutines began
			frames = 8
		case line == "\n":
			frames = 0
		case reporting:
			if frames--; frames < 0 {
				continue
			}
		}
		io.WriteString(os.Stderr, line)
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
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
	p.cmd = exec.CommandContext(t.Context(), os.Args[0], append([]string{"-child", "-config", file}, args...)...)
	p.cmd.Env = append(os.Environ(), "LOCKSTEP_TEST_SERVER=1", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.stdin, err = p.cmd.StdinPipe()
	if err := errors.Join(err, p.cfg.Save(file), p.cmd.Start()); err != nil {
		t.Fatal(err)
	}
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
	_, log := p.wait()
	p.t.Fatalf("the server is not ready after 20s; its log:\n%s", log)
}

// wait ends the process and returns its exit code and its log.
func (p *process) wait() (code int, log string) {
	p.stdin.Close()
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode(), p.stderr.String()
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
		code, log := p.wait()
		if code != 0 || took > p.cfg.Server.DrainTimeout {
			t.Errorf("exit code %d after %v, want 0 within %v; its log:\n%s", code, took, p.cfg.Server.DrainTimeout, log)
		}
		acked, applied := stopWriters(), regexp.MustCompile(`(?m)^requests +([\d ]+) in `).FindStringSubmatch(p.stdout.String())
		if applied == nil || strings.ReplaceAll(applied[1], " ", "") != fmt.Sprint(acked) {
			t.Errorf("its clients had %d answers, and the server printed\n%s", acked, p.stdout.String())
		}
		checkLog(t, log, time.Since(began))
	}
}

// checkLog checks that what a stranger has sent is logged once a second at most, and never
// as it came.
func checkLog(t *testing.T, log string, took time.Duration) {
	const besides = 2 // that it serves, and that it stops
	for _, raw := range regexp.MustCompile(`(?m)^node 0: .*|^.* node 0: .*[^\P{Cc}\n].*`).FindAllString(log, -1) {
		t.Errorf("logged %q", raw)
	}
	lines, most := strings.Count(log, " node 0: "), besides+1+int(took/time.Second) // other lines are the stage's own
	if lines <= besides || lines > most {
		t.Errorf("%d lines in the log, want %d to %d:\n%s", lines, besides+1, most, log)
	}
}

// While an operation takes long, the control port answers. A drain ends at its timeout, even
// if the operation does not.
func testStopInTheMiddle(t *testing.T, serve node.Serve) {
	p := startProcess(t, "-work", "10s", "-drain_timeout", "50ms")
	cl := client.New(p.cfg)
	defer cl.Close()
	asked := make(chan error)
	go func() {
		_, err := cl.Delete(t.Context(), "k")
		asked <- err
	}()
	p.await(func(s metrics.Snapshot) bool { return s.QueueWait.Count == 1 && s.Requests == 0 })
	began := time.Now()
	p.stdin.Close()
	if err := <-asked; err == nil {
		t.Error("a delete that takes 10 s was answered before")
	}
	if code, log := p.wait(); code != 1 || time.Since(began) > 9*time.Second {
		t.Errorf("exit code %d after %v, want 1 before the end of the delete; its log:\n%s", code, time.Since(began), log)
	}
}

// tries returns few, or many if LOCKSTEP_SLOW is set and tests may take longer than seconds.
func tries(few, many int) int {
	if os.Getenv("LOCKSTEP_SLOW") != "" {
		return many
	}
	return few
}
