package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// The test binary is also the servers that tests start as processes.
func TestMain(m *testing.M) {
	switch os.Getenv("LOCKSTEP_TEST_SERVER") {
	case "":
		os.Unsetenv("LOCKSTEP_SECRET")
		os.Exit(m.Run())
	case "drains":
		Main(serveOne)
	case "crowded":
		Main(serveMany)
	case "stuck":
		Main(func(_ context.Context, _ net.Listener, n *Node) error {
			n.Stats.Open.Add(1)
			select {}
		})
	}
}

// serveOne is the simplest stage: one goroutine.
func serveOne(ctx context.Context, ln net.Listener, n *Node) error {
	table := n.NewTable()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err
		}
		serveConn(n, c, table.Apply)
	}
}

// serveMany has a goroutine for each connection, and a lock around the table.
func serveMany(ctx context.Context, ln net.Listener, n *Node) error {
	table := n.NewTable()
	var mu sync.Mutex // guards table
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err
		}
		conns.Go(func() { // ends when its client leaves or ctx ends
			serveConn(n, c, func(ops []wire.Op) []wire.Result {
				mu.Lock()
				defer mu.Unlock()
				return table.Apply(ops)
			})
		})
	}
}

func serveConn(n *Node, c *Conn, apply func([]wire.Op) []wire.Result) {
	defer c.Close()
	for c.Ready() {
		n.Answer(c, apply)
		c.Flush()
	}
}

// child returns a server of TestMain as a process that is not started yet.
func child(t *testing.T, server, file string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-config", file) // without -child: standard input is at its end
	cmd.Env = append(os.Environ(), "LOCKSTEP_TEST_SERVER="+server, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// listen listens until the end of the test.
func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// config writes a file with n nodes whose ports are free.
func config(t *testing.T, n int) (cfg cluster.Config, file string) {
	t.Helper()
	cfg = cluster.Default()
	cfg.Nodes = nil
	addrs, err := FreeAddrs(2 * n)
	for pair := range slices.Chunk(addrs, 2) {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: pair[0], Control: pair[1]})
	}
	file = filepath.Join(t.TempDir(), "cluster.json")
	if err := errors.Join(err, cfg.Save(file)); err != nil {
		t.Fatal(err)
	}
	return cfg, file
}

// write returns a new file that holds text.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cluster.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A process is a Run in this process.
type process struct {
	t      *testing.T
	stdin  *io.PipeWriter
	stdout bytes.Buffer
	stderr logged
	code   chan int
}

// unwrap undoes the line breaks of the log.
func unwrap(log string) string { return strings.Join(strings.Fields(log), " ") }

func containsAll(s string, words ...string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(s, word) })
}

// logged receives what a process logs, a message at a time.
type logged chan string

func (l logged) Write(b []byte) (int, error) { l <- string(b); return len(b), nil }

// lines takes what has been logged so far.
func (l logged) lines() (lines []string) {
	for len(l) > 0 {
		lines = append(lines, <-l)
	}
	return lines
}

func run(t *testing.T, serve Serve, args ...string) *process {
	stdin, w := io.Pipe()
	p := &process{t: t, stdin: w, stderr: make(logged, 1000), code: make(chan int, 1)}
	go func() { // ends when the test closes stdin or serve returns
		p.code <- Run(append([]string{"/somewhere/stage0.exe", "-child"}, args...), stdin, &p.stdout, p.stderr, serve)
		close(p.stderr)
	}()
	t.Cleanup(func() { w.Close() })
	return p
}

// wait reads on until a message has all words in it, and returns it.
func (p *process) wait(words ...string) string {
	p.t.Helper()
	for late := time.After(10 * time.Second); ; {
		select {
		case line, ok := <-p.stderr:
			if !ok {
				p.t.Fatalf("ended without logging %q", words)
			}
			if containsAll(unwrap(line), words...) {
				return line
			}
		case <-late:
			p.t.Fatalf("did not log %q within 10 s", words)
		}
	}
}

// end waits for the end and returns the exit code and the rest of the log.
func (p *process) end() (code int, stderr string) {
	p.t.Helper()
	select {
	case code = <-p.code:
	case <-time.After(10 * time.Second):
		p.t.Fatal("did not end within 10 s")
	}
	for line := range p.stderr {
		stderr += line
	}
	return code, stderr
}

// stop closes standard input, and waits for the end.
func (p *process) stop() (code int, stderr string) {
	p.t.Helper()
	p.stdin.Close()
	return p.end()
}

// putKey stores a key, as a client, which it returns.
func putKey(t *testing.T, cfg cluster.Config) *client.Client {
	t.Helper()
	cl, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	if created, err := cl.Put(t.Context(), "k", nil); !created || err != nil {
		t.Errorf("Put: created %v, %v", created, err)
	}
	return cl
}

// dial connects to addr until the end of the test.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// A mistake in flags or configuration: one line about it, nothing on stdout, and the exit
// code.
func TestRunRefuses(t *testing.T) {
	_, one := config(t, 1)
	_, two := config(t, 2)
	absent := filepath.Join(t.TempDir(), "missing.json")
	broken := write(t, "{\n\"server\": {\n")
	value := write(t, `{"server": {"workers": 0}}`)
	busy, inUse := config(t, 1)
	listen(t, busy.Nodes[0].Control)
	exposed := write(t, `{"nodes": [{"addr": "0.0.0.0:7001", "control": "127.0.0.1:7101"}]}`)

	for _, test := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"-bucketz", "3"}, 2, []string{"-bucketz", "-h lists the flags"}},
		{[]string{"-config", one, "serve"}, 2, []string{`"serve"`, "-h lists the flags"}},
		{[]string{"-config", one, "\x1b[2J"}, 2, []string{`"\x1b[2J"`}},
		{[]string{"-config", one, "-workers", "0"}, 2, []string{"server.workers: 0 is not in 1..4096"}},
		{[]string{"-config", one, "-node", "1"}, 2, []string{"-node 1", one, "nodes 0 to 0"}},
		{[]string{"-config", two}, 1, []string{"pass -node N"}},
		{[]string{"-config", absent + "\x1b[2J"}, 1, []string{absent, "a file that holds {} keeps every default"}},
		{[]string{"-config", broken}, 1, []string{broken + ":2: "}},
		{[]string{"-config", value}, 1, []string{value, "server.workers: 0 is not in 1..4096"}},
		{[]string{"-config", exposed}, 1, []string{"nodes[0].addr: 0.0.0.0:7001", "secret", "LOCKSTEP_SECRET", "-insecure"}},
		{[]string{"-config", one, "-profile", one}, 1, []string{one}},
		{[]string{"-config", inUse}, 1, []string{busy.Nodes[0].Control, "another server", inUse}},
	} {
		p := run(t, func(context.Context, net.Listener, *Node) error {
			t.Errorf("%q: served", test.args)
			return nil
		}, test.args...)
		code, stderr := p.end()
		if code != test.code || p.stdout.Len() > 0 {
			t.Errorf("%q: exit code %d, stdout %q, want %d and nothing", test.args, code, &p.stdout, test.code)
		}
		if !strings.HasPrefix(stderr, "stage0: ") || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "\x1b") {
			t.Errorf("%q: %q, want one line for a terminal", test.args, stderr)
		}
		if !containsAll(stderr, test.says...) {
			t.Errorf("%q: %q, want %q in it", test.args, stderr, test.says)
		}
	}
	listen(t, busy.Nodes[0].Addr) // given up, since the other port is in use
}

func TestHelp(t *testing.T) {
	p := run(t, nil, "-h")
	code, stderr := p.end()
	said := p.stdout.String()
	if code != 0 || stderr != "" || !containsAll(said, "stage0 serves", "-config FILE",
		cluster.DefaultPath, "-node NUMBER", "-workers N ", "-drain_timeout TIME", "-profile DIRECTORY", "-v  ") || strings.Contains(said, "-child") {
		t.Errorf("exit code %d, %q, want 0, nothing, and all flags but the internal one in\n%s", code, stderr, said)
	}
	for line := range strings.Lines(said) {
		if len(line) > 81 {
			t.Errorf("%q is wider than 80 columns", line)
		}
	}
}

// From the start to the end of standard input, with profiles and all statistics, or without.
func TestServeAndDrain(t *testing.T) {
	t.Parallel()
	for _, verbose := range []bool{false, true} {
		cfg, file := config(t, 1)
		args, profiles := []string{"-config", file}, filepath.Join(t.TempDir(), "new", "profiles")
		if verbose {
			args = append(args, "-v", "-profile", profiles)
		}
		p := run(t, serveOne, args...)
		p.wait("serving on "+cfg.Nodes[0].Addr, "Ctrl-C")
		cl := putKey(t, cfg)
		s, err := cl.Stats(t.Context(), 0)
		if err != nil || !s.Serving || s.Stage != "stage0" || s.Requests != 1 || s.Open != 1 {
			t.Errorf("Stats: %+v, %v, want stage0, serving, with one request and one connection", s, err)
		}
		if verbose {
			cl.Close()
		}
		p.stdin.Close() // with a client that is still there, or without
		p.wait("end of input", "answering what has arrived")
		cl.Close()
		if code, stderr := p.end(); code != 0 || stderr != "" {
			t.Errorf("exit code %d, %q, want 0 and no further line", code, stderr)
		}
		stats := strings.Split(strings.TrimSuffix(p.stdout.String(), "\n"), "\n")
		if !strings.Contains(stats[0], " 1 in ") || !strings.Contains(stats[1], "accepted 1, open 0") || verbose != (len(stats) > 6) || len(stats) < 6 {
			t.Errorf("statistics, verbose %v:\n%s", verbose, &p.stdout)
		}
		for _, name := range []string{"cpu", "heap", "block", "mutex", "trace"} {
			if info, err := os.Stat(filepath.Join(profiles, name+".out")); verbose != (err == nil && info.Size() > 0) {
				t.Errorf("%s: %v, or empty, want a profile: %v", name, err, verbose)
			}
		}
	}
}

// A stage that fails: its error, its statistics, exit code 1.
// A node may listen at another address than the one that its clients dial.
func TestListen(t *testing.T) {
	t.Parallel()
	cfg, _ := config(t, 1)
	cfg.Nodes[0].Listen, cfg.Nodes[0].Addr = cfg.Nodes[0].Addr, "192.0.2.1:7001"
	cfg.Secret = "a secret of 24 characters"
	file := filepath.Join(t.TempDir(), "nat.json")
	if err := cfg.Save(file); err != nil {
		t.Fatal(err)
	}
	p := run(t, serveOne, "-config", file)
	p.wait("serving on " + cfg.Nodes[0].Listen)
	cl := client.New(cfg)
	defer cl.Close()
	cl.DialContext = func(_ context.Context, _, addr string) (net.Conn, error) {
		if addr != cfg.Nodes[0].Addr {
			t.Errorf("the client dials %s, want %s", addr, cfg.Nodes[0].Addr)
		}
		return net.Dial("tcp", cfg.Nodes[0].Listen) // as NAT translates it
	}
	if created, err := cl.Put(t.Context(), "k", nil); !created || err != nil {
		t.Errorf("Put: created %v, %v", created, err)
	}
	if s, err := client.Stats(t.Context(), cfg, 0); !s.Serving || s.Keys != 1 {
		t.Errorf("at the control port: %+v, %v, want that it serves, with one key", s, err)
	}
	cl.Close()
	if code, stderr := p.stop(); code != 0 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestServeFails(t *testing.T) {
	_, file := config(t, 1)
	p := run(t, func(context.Context, net.Listener, *Node) error { return errors.New("out of order") }, "-config", file)
	code, stderr := p.end()
	if code != 1 || !strings.HasSuffix(stderr, "stage0: out of order\n") || strings.Count(p.stdout.String(), "\n") != 6 {
		t.Errorf("exit code %d, stderr %q, stdout %q, want 1, the error, six lines", code, stderr, &p.stdout)
	}
}

// Only a second signal cuts a drain short. One within a moment of the first does not count
// (timeout sends two), nor does the end of input: after Ctrl-C in a parent's terminal it
// comes too, before or after the signal.
func TestDrainCutShort(t *testing.T) {
	const timeout, later = 20 * moment, 3 * moment
	for _, test := range []struct {
		events string
		open   int64         // connections
		ends   time.Duration // when the stage does, or 0: never
		want   error
		after  time.Duration
	}{
		{"signal later signal", 1, 0, errCutShort, later},
		{"signal signal", 1, 0, errCutShort, timeout},
		{"signal signal signal later signal", 1, 0, errCutShort, later},
		{"signal eof", 1, 0, errCutShort, timeout},
		{"eof signal", 1, 0, errCutShort, timeout},
		{"eof signal later signal", 1, 0, errCutShort, later},
		{"signal eof later signal", 1, 0, errCutShort, later},
		{"signal signal", 1, moment, nil, moment},
		{"signal later signal", 0, later + moment, nil, later + moment},
		{"signal later signal", 0, 0, errCutShort, later + 10*moment},
		{"signal", 0, 0, errCutShort, timeout + 10*moment},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, log := newNode(func(c *cluster.Config) { c.Server.DrainTimeout = timeout })
			signals, eof, serving, over := make(chan os.Signal), make(chan struct{}), make(chan struct{}), make(chan struct{})
			defer close(over)
			go func() { // each event is received before the next is sent
				<-serving
				for event := range strings.FieldsSeq(test.events) {
					switch event {
					case "signal":
						signals <- os.Interrupt
					case "eof":
						eof <- struct{}{}
					case "later":
						<-time.After(later)
					}
				}
			}()
			begin := time.Now()
			err := n.run("stage0", newListener(), newListener(), func(context.Context, net.Listener, *Node) error {
				n.Stats.Open.Add(test.open)
				close(serving)
				if test.ends > 0 {
					<-time.After(test.ends)
				} else {
					<-over
				}
				return ErrStopped
			}, signals, eof)
			if took := time.Since(begin); !errors.Is(err, test.want) || took != test.after {
				t.Errorf("%s, %d open, the stage ends after %v: %v after %v, want %v after %v",
					test.events, test.open, test.ends, err, took, test.want, test.after)
			}
			if got := strings.Join(log.lines(), ""); strings.Count(got, "answering what has arrived") != 1 {
				t.Errorf("%s: logged %q, want one line about the drain", test.events, got)
			}
		})
	}
}

// Two nodes, started one after the other: neither serves before both have started. A node
// that is stopped while it waits has nothing to drain and no statistics.
func TestNodesWaitForEachOther(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 2)
	var both atomic.Bool
	serve := func(ctx context.Context, ln net.Listener, n *Node) error {
		if !both.Load() {
			t.Errorf("node %d serves before there are two", n.Self)
		}
		return serveOne(ctx, ln, n)
	}
	alone := run(t, serve, "-config", file, "-node", "0")
	alone.wait("1/2 ready", "node 1 ("+cfg.Nodes[1].Control+")", "refused")
	s, err := client.Stats(t.Context(), cfg, 0)
	if err != nil || s.Serving {
		t.Errorf("Stats of a node that waits: %v, serving %v, want false", err, s.Serving)
	}
	if code, stderr := alone.stop(); code != 0 || alone.stdout.Len() > 0 {
		t.Errorf("a node that was stopped while it waited: exit code %d, %q, %q, want 0 and no statistics", code, stderr, &alone.stdout)
	}

	zero := run(t, serve, "-config", file, "-node", "0")
	both.Store(true)
	one := run(t, serve, "-config", file, "-node", "1", "-workers", "4")
	zero.wait("node 1 ("+cfg.Nodes[1].Addr+")", "works differently: workers is 8 here, 4 there")
	zero.wait("serving on " + cfg.Nodes[0].Addr)
	one.wait("serving on " + cfg.Nodes[1].Addr)

	// One that is restarted serves beside the other at once, says that its keys are gone, and
	// counts as another incarnation.
	first, err := client.Stats(t.Context(), cfg, 1)
	if !strings.Contains(first.Server, "workers=4") {
		t.Errorf("the statistics of node 1 say that its properties are %q, want 4 workers", first.Server)
	}
	if code, stderr := one.stop(); err != nil || code != 0 || strings.Contains(stderr, "restarted") {
		t.Errorf("the first start of node 1: exit code %d, %q, error %v", code, stderr, err)
	}
	one = run(t, serve, "-config", file, "-node", "1")
	one.wait("node 1: restarted while the other nodes ran: this node's table is empty")
	one.wait("serving on " + cfg.Nodes[1].Addr)
	if second, err := client.Stats(t.Context(), cfg, 1); err != nil || second.Incarnation == first.Incarnation {
		t.Errorf("node 1 was restarted, and is incarnation %d as before; error %v", second.Incarnation, err)
	}
	for _, p := range []*process{zero, one} {
		if code, stderr := p.stop(); code != 0 || p.stdout.Len() == 0 {
			t.Errorf("exit code %d, %q, %q, want 0 and statistics", code, stderr, &p.stdout)
		}
	}
}

// A server as a process of its own, and the signals of a terminal.
func TestSignals(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no signal can be sent to another process")
	}
	for _, test := range []struct {
		server  string
		signals []os.Signal
		code    int
		says    string
	}{
		{"drains", []os.Signal{syscall.SIGTERM}, 0, "terminated: answering what has arrived"},
		{"drains", []os.Signal{os.Interrupt}, 0, "interrupt: answering what has arrived"},
		{"drains", []os.Signal{syscall.SIGHUP}, 0, "hangup: answering what has arrived"},
		{"drains", []os.Signal{syscall.SIGTERM, syscall.SIGTERM}, 0, ""},
		{"stuck", []os.Signal{os.Interrupt, syscall.SIGTERM}, 1, "the drain was cut short (1 connection open)"},
	} {
		if test.signals[0] == syscall.SIGHUP && signal.Ignored(syscall.SIGHUP) {
			continue // under nohup, which the server would inherit
		}
		_, file := config(t, 1)
		var stdout bytes.Buffer
		stderr := make(logged, 100)
		cmd := child(t, test.server, file)
		cmd.Stdout, cmd.Stderr = &stdout, stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p := &process{t: t, stderr: stderr}
		p.wait("serving on")
		for i, s := range test.signals {
			if i > 0 && test.code == 1 {
				p.wait("answering what has arrived")
				<-time.After(2 * moment) // nearer signals count as one
			}
			cmd.Process.Signal(s)
		}
		p.wait(test.says)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != test.code || strings.Count(stdout.String(), "\n") != 6 {
			t.Errorf("%s after %v: exit code %d, stdout %q, want %d and six lines", test.server, test.signals, code, &stdout, test.code)
		}
	}
}
