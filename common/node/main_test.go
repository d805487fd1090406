package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
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
	"lockstep/common/control"
	"lockstep/common/wire"
)

// The test binary is also the servers that tests start as processes.
func TestMain(m *testing.M) {
	if os.Getenv("LOCKSTEP_TEST_SERVER") != "" {
		Main(serve)
	}
	os.Unsetenv("LOCKSTEP_SECRET")
	os.Exit(m.Run())
}

// serve is a stage with a goroutine for each connection, and a lock around the table.
func serve(ctx context.Context, ln net.Listener, n *Node) error {
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

// config writes a file with n nodes whose ports are free, and changes.
func config(t *testing.T, n int, change ...func(*cluster.Config)) (cfg cluster.Config, file string) {
	t.Helper()
	cfg = cluster.Default()
	cfg.Nodes = nil
	addrs, err := FreeAddrs(2 * n)
	for pair := range slices.Chunk(addrs, 2) {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: pair[0], Control: pair[1]})
	}
	for _, f := range change {
		f(&cfg)
	}
	file = filepath.Join(t.TempDir(), "cluster.json")
	if err := errors.Join(err, cfg.Save(file)); err != nil {
		t.Fatal(err)
	}
	return cfg, file
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
		p.code <- Run(slices.Concat([]string{"/somewhere/stage0.exe", "-child"}, args), stdin, &p.stdout, p.stderr, serve)
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

// stop closes standard input, waits for the end and returns the exit code and the rest of the log.
func (p *process) stop() (code int, stderr string) {
	p.stdin.Close()
	for line := range p.stderr {
		stderr += line
	}
	return <-p.code, stderr
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

const theSecret = "correct horse battery staple"

// A mistake in flags or configuration: one line about it without a secret, nothing on stdout,
// and the exit code.
func TestRunRefuses(t *testing.T) {
	elsewhere := func(c *cluster.Config) { c.Nodes[0] = cluster.Node{Addr: "192.0.2.1:7001", Control: "192.0.2.1:7101"} }
	_, one := config(t, 1)
	_, two := config(t, 2)
	_, open := config(t, 1, elsewhere)
	_, far := config(t, 1, elsewhere, func(c *cluster.Config) { c.Secret = theSecret })
	busy, inUse := config(t, 1)
	listen(t, busy.Nodes[0].Control)
	absent := filepath.Join(t.TempDir(), "missing.json")
	for _, test := range []struct {
		secret, file, args string // the secret of the environment
		code               int
		says               []string
	}{
		{theSecret, one, "-secret", 2, []string{"-secret", "-h lists the flags"}},
		{theSecret, one, "\x1b[2J", 2, []string{`"\x1b[2J"`}},
		{theSecret, one, "-workers 0", 2, []string{"server.workers: 0 is not in 1..4096"}},
		{"", one, "-node 1", 2, []string{"-node 1", one, "nodes 0 to 0"}},
		{"", two, "", 1, []string{"pass -node N"}},
		{"", absent + "\x1b[2J", "", 1, []string{absent, "a file that holds {} keeps every default"}},
		{"", one, "-profile " + one, 1, []string{one}},
		{"", inUse, "", 1, []string{busy.Nodes[0].Control, "another server", inUse}},
		{"", open, "", 1, []string{"nodes[0].addr: 192.0.2.1:7001", "secret", "LOCKSTEP_SECRET", "-insecure"}},
		{"", far, "", 1, []string{"192.0.2.1:7001", "this machine does not have that address"}},
	} {
		t.Setenv("LOCKSTEP_SECRET", test.secret)
		p := run(t, nil, append(strings.Fields(test.args), "-config", test.file)...)
		code, stderr := p.stop()
		if code != test.code || p.stdout.Len() > 0 {
			t.Errorf("%+v: exit code %d, stdout %q, want %d and nothing", test, code, &p.stdout, test.code)
		}
		if !strings.HasPrefix(stderr, "stage0: ") || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "\x1b") {
			t.Errorf("%+v: %q, want one line for a terminal", test, stderr)
		}
		if !containsAll(stderr, test.says...) || strings.Contains(stderr, theSecret) {
			t.Errorf("%+v: %q, want %q in it, and no secret", test, stderr, test.says)
		}
	}
	listen(t, busy.Nodes[0].Addr) // given up, since the other port is in use
}

// An error of listen is followed by what can be done about it. Windows has its own numbers.
func TestListenHints(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EACCES: "ports below 1024", syscall.EMFILE: "",
		10048: "another server", 10049: "this machine does not have that address", 10013: "ports below 1024",
	} {
		if got := hint(os.NewSyscallError("bind", errno)); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%d (%v): the hint is %q, want %q", errno, errno, got, want)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", theSecret)
	p := run(t, nil, "-h")
	code, stderr := p.stop()
	said := p.stdout.String()
	if code != 0 || stderr != "" || !containsAll(said, "stage0 serves", "-config FILE", cluster.DefaultPath, "-node NUMBER",
		"-workers N ", "-drain_timeout TIME", "-profile DIRECTORY", "-v  ") ||
		strings.Contains(said, "-child") || strings.Contains(said, theSecret) || slices.ContainsFunc(strings.Split(said, "\n"),
		func(line string) bool { return len(line) > 80 }) {
		t.Errorf("exit code %d, %q, want 0, nothing, and all flags but the internal one, in 80 columns, in\n%s", code, stderr, said)
	}
}

// From the start to the end of standard input, behind NAT, with profiles and all statistics.
// Nothing that it says contains the secret.
func TestServeAndDrain(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 1, func(c *cluster.Config) {
		c.Nodes[0].Listen, c.Nodes[0].Addr, c.Secret = c.Nodes[0].Addr, "192.0.2.1:7001", theSecret
	})
	profiles := filepath.Join(t.TempDir(), "new", "profiles")
	p := run(t, serve, "-config", file, "-v", "-profile", profiles)
	said := p.wait("serving on "+cfg.Nodes[0].Listen, "Ctrl-C")
	dial(t, cfg.Nodes[0].Listen).Write(make([]byte, 64))
	said += p.wait("does not know the secret")
	cl := client.New(cfg)
	defer cl.Close()
	cl.DialContext = func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("tcp", cfg.Nodes[0].Listen) // as NAT translates it
	}
	cl.Put(t.Context(), "k", nil)
	s, err := client.Stats(t.Context(), cfg, 0)
	if err != nil || !s.Serving || s.Stage != "stage0" || s.Requests != 1 || s.Open != 1 || s.Keys != 1 {
		t.Errorf("Stats: %+v, %v, want stage0, serving, with one request, connection and key", s, err)
	}
	p.stdin.Close() // while the client is still there
	said += p.wait("end of input", "answering what has arrived")
	cl.Close()
	if code, stderr := p.stop(); code != 0 || stderr != "" {
		t.Errorf("exit code %d, %q, want 0 and no further line", code, stderr)
	}
	if stats := p.stdout.String(); !containsAll(stats, " 1 in ", "accepted 2, open 0") || strings.Count(stats, "\n") <= 6 {
		t.Errorf("statistics:\n%s\nwant 2 connections, 1 request, and more than the usual 6 lines", stats)
	}
	if said += fmt.Sprintf("%s%+v", &p.stdout, s); strings.Contains(said, theSecret) {
		t.Errorf("the secret is in\n%s", said)
	}
	for _, name := range []string{"cpu", "heap", "block", "mutex", "trace"} {
		if info, err := os.Stat(filepath.Join(profiles, name+".out")); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, or empty, want a profile", name, err)
		}
	}
}

func TestServeFails(t *testing.T) {
	_, file := config(t, 1)
	p := run(t, func(context.Context, net.Listener, *Node) error { return errors.New("out of order") }, "-config", file)
	p.wait("stage0: out of order")
	if code, stderr := p.stop(); code != 1 || stderr != "" || strings.Count(p.stdout.String(), "\n") != 6 {
		t.Errorf("after the error, exit code %d, stderr %q, stdout %q, want 1, nothing, six lines", code, stderr, &p.stdout)
	}
}

// Only a second signal cuts a drain short. One within a moment of the first does not count
// (timeout sends two), nor does the end of input: after Ctrl-C in a parent's terminal it
// comes too, before or after the signal.
func TestDrainCutShort(t *testing.T) {
	const timeout, later, never = 20 * moment, 3 * moment, time.Hour
	const one, none = "the drain was cut short (1 connection open)", "the drain was cut short (0 connections open)"
	for _, test := range []struct {
		events string
		open   int64         // connections
		ends   time.Duration // when the stage does
		want   string        // the error
		after  time.Duration
	}{
		{"signal signal signal later signal", 1, never, one, later},
		{"signal signal", 1, never, one, timeout},
		{"signal eof", 1, never, one, timeout},
		{"eof signal", 1, never, one, timeout},
		{"eof signal later signal", 1, never, one, later},
		{"signal eof later signal", 1, never, one, later},
		{"signal signal", 1, moment, "<nil>", moment},
		{"signal later signal", 0, later + moment, "<nil>", later + moment},
		{"signal later signal", 0, never, none, later + 10*moment},
		{"signal", 0, never, none, timeout + 10*moment},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, log := newNode(func(c *cluster.Config) { c.Server.DrainTimeout = timeout })
			signals, eof := make(chan os.Signal), make(chan struct{})
			events := func() { // each is received before the next is sent
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
			}
			begin := time.Now()
			err := n.run("stage0", newListener(), newListener(), func(context.Context, net.Listener, *Node) error {
				n.Stats.Open.Add(test.open)
				go events()
				<-time.After(test.ends)
				return ErrStopped
			}, signals, eof)
			took, said := time.Since(begin), strings.Join(log.lines(), "")
			if fmt.Sprint(err) != test.want || took != test.after || strings.Count(said, "answering what has arrived") != 1 {
				t.Errorf("%+v: %v after %v, logged %q, want one line about the drain", test, err, took, said)
			}
			<-time.After(never) // the stage has ended
		})
	}
}

// Two nodes, started one after the other: neither serves before both have started. A node that is
// stopped while it waits has nothing to drain and no statistics. A check tells of each node what works
// and what does not.
func TestNodesWaitForEachOther(t *testing.T) {
	t.Parallel()
	secret := func(c *cluster.Config) { c.Secret = theSecret }
	cfg, file := config(t, 2, secret)
	check := func(code int, zero, one string, args ...string) {
		t.Helper()
		p := run(t, nil, append([]string{"-check", "-config"}, args...)...)
		got, stderr := p.stop()
		lines := strings.Split(p.stdout.String(), "\n")
		if got != code || stderr != "" || len(lines) != 3 || !strings.HasPrefix(lines[0], "node 0 (") ||
			!strings.Contains(lines[0], zero) || !strings.Contains(lines[1], one) {
			t.Errorf("-check %q: exit code %d, %q, %q, want %d, %q and %q", args, got, stderr, lines, code, zero, one)
		}
	}
	check(1, "refused: does it run (-node 0)?", "refused: does it run (-node 1)?", file)

	var both atomic.Bool
	serving := make(chan *Node, 1) // number 0
	start := func(args ...string) *process {
		return run(t, func(ctx context.Context, ln net.Listener, n *Node) error {
			if !both.Load() {
				t.Errorf("node %d serves before there are two", n.Self)
			} else if n.Self == 0 {
				serving <- n
			}
			for { // one client after another
				c, err := n.Accept(ctx, ln)
				if err != nil {
					return err
				}
				serveConn(n, c, missing)
			}
		}, append(args, "-config", file)...)
	}
	alone := start("-node", "0")
	s, err := client.Stats(t.Context(), cfg, 0)
	for late := time.Now().Add(10 * time.Second); control.Refused(err) && time.Now().Before(late); {
		s, err = client.Stats(t.Context(), cfg, 0) // it does not listen yet
	}
	if err != nil || s.Serving {
		t.Errorf("Stats of a node that waits: %v, serving %v, want false", err, s.Serving)
	}
	if code, stderr := alone.stop(); code != 0 || alone.stdout.Len() > 0 {
		t.Errorf("a node that was stopped while it waited: exit code %d, %q, %q, want 0 and no statistics", code, stderr, &alone.stdout)
	}

	zero := start("-node", "0")
	both.Store(true)
	one := start("-node", "1", "-workers", "4")
	zero.wait("node 1 ("+cfg.Nodes[1].Addr+")", "works differently: workers is 8 here, 4 there")
	zero.wait("serving on " + cfg.Nodes[0].Addr)
	one.wait("serving on " + cfg.Nodes[1].Addr)
	check(0, ": serves; stage0 for ", "; note that workers is 8 here, 4 there", file)

	// One that is restarted serves beside the other at once, says that its keys are gone, and
	// counts as another incarnation.
	first, err := client.Stats(t.Context(), cfg, 1)
	if code, stderr := one.stop(); err != nil || code != 0 || strings.Contains(stderr, "restarted") {
		t.Errorf("the first start of node 1: exit code %d, %q, error %v", code, stderr, err)
	}
	one = start("-node", "1")
	one.wait("node 1: restarted while the other nodes ran: this node's table is empty")
	one.wait("serving on " + cfg.Nodes[1].Addr)
	if second, err := client.Stats(t.Context(), cfg, 1); err != nil || second.Incarnation == first.Incarnation {
		t.Errorf("node 1 was restarted, and is incarnation %d as before; error %v", second.Incarnation, err)
	}

	_, other := config(t, 2, func(c *cluster.Config) { c.Nodes, c.Secret = cfg.Nodes, "another one, and as long" })
	check(1, "has another secret", "another secret", other)
	_, other = config(t, 2, secret, func(c *cluster.Config) {
		c.Nodes[0] = cluster.Node{Addr: cfg.Nodes[0].Control, Control: cfg.Nodes[0].Addr}
		c.Nodes[1].Addr = "nowhere.invalid:7001"
	})
	check(1, "are addr and control mixed up?", "are addr and control right", other)
	if says, err := checkNode("stage9", cfg, 0); !strings.Contains(fmt.Sprint(err), "runs stage0, and this is stage9") {
		t.Errorf("%q, %v, want that the stage is another", says, err)
	}
	cl, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	(<-serving).Stats.Serving.Store(false)
	check(1, "does not serve: it waits for other nodes", "does not greet: it serves another client", file)
	cl.Close()
	for _, p := range []*process{zero, one} {
		if code, stderr := p.stop(); code != 0 || p.stdout.Len() == 0 {
			t.Errorf("exit code %d, %q, %q, want 0 and statistics", code, stderr, &p.stdout)
		}
	}
}

// After its drain a node lingers for nodes that have not passed the barrier yet. A second
// signal ends that.
func TestSecondSignalEndsTheLingering(t *testing.T) {
	t.Parallel()
	cfg, _ := config(t, 2)
	n, log := newNode(func(c *cluster.Config) { c.Nodes = cfg.Nodes })
	service, port := listen(t, cfg.Nodes[0].Addr), listen(t, cfg.Nodes[0].Control)
	// Node 1 lets node 0 pass, and never says that it has passed itself. It ends with the test.
	answer := func(q wire.Control) (wire.Control, bool) {
		q.Seen, q.From, q.To, q.Ready, q.Incarnation = []uint64{q.Incarnation, 7}, 1, 0, true, 7
		return q, true
	}
	go control.Serve(t.Context(), listen(t, cfg.Nodes[1].Control), control.Hello("nodes", 1, ""), 1, answer)
	signals, ended := make(chan os.Signal), make(chan error)
	go func() { ended <- n.run("stage0", service, port, serve, signals, nil) }()
	(&process{t: t, stderr: log}).wait("serving on")
	begin := time.Now()
	signals <- os.Interrupt
	<-time.After(2 * moment) // nearer signals count as one
	signals <- os.Interrupt
	if err := <-ended; err != nil || time.Since(begin) > 1500*time.Millisecond {
		t.Errorf("ended with %v after %v, want the second signal to end the lingering of 2 s", err, time.Since(begin))
	}
}

func TestFreeAddrs(t *testing.T) {
	addrs, err := FreeAddrs(6)
	if err != nil || len(addrs) != 6 {
		t.Errorf("the addresses are %v, error %v, want 6", addrs, err)
	}
	for _, addr := range addrs {
		var port int
		fmt.Sscanf(addr, "127.0.0.1:%d", &port)
		if free := !Taken(addr); !free || port < 1024 || port > 32767 || listen(t, addr) == nil || !Taken(addr) {
			t.Errorf("%s is free: %v, want it free, on loopback, below the ephemeral range, and then taken", addr, free)
		}
	}
}
