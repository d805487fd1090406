package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

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

func run(t *testing.T, stage Serve, args ...string) *process {
	stdin, w := io.Pipe()
	p := &process{t: t, stdin: w, stderr: make(logged, 1000), code: make(chan int, 1)}
	go func() { // ends when the test closes stdin or serve returns
		p.code <- Run(slices.Concat([]string{"/somewhere/stage0.exe", "-child"}, args), stdin, &p.stdout, p.stderr, stage)
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
	_, exposed := config(t, 1, elsewhere)
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
		{"", one, "-node 1", 2, []string{"-node 1", one, "nodes 0 to 0"}},
		{"", two, "", 1, []string{"pass -node N"}},
		{"", absent + "\x1b[2J", "", 1, []string{absent, "a file that holds {} keeps every default"}},
		{"", one, "-profile " + one, 1, []string{one}},
		{"", inUse, "", 1, []string{busy.Nodes[0].Control, "another server", inUse}},
		{"", exposed, "", 1, []string{"nodes[0].addr: 192.0.2.1:7001", "secret", "LOCKSTEP_SECRET", "-insecure"}},
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

func TestHelp(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", theSecret)
	p := run(t, nil, "-h")
	code, stderr := p.stop()
	said := p.stdout.String()
	if code != 0 || stderr != "" || !containsAll(said, "-config FILE", cluster.DefaultPath, "-workers N ", "-profile DIRECTORY") ||
		strings.Contains(said, "-child") || strings.Contains(said, theSecret) {
		t.Errorf("exit code %d, %q, want 0, nothing, and all flags but the internal one, in\n%s", code, stderr, said)
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
			happen := map[string]func(){ // each is received before the next is sent
				"signal": func() { signals <- os.Interrupt },
				"eof":    func() { eof <- struct{}{} },
				"later":  func() { <-time.After(later) },
			}
			begin := time.Now()
			err := n.run("stage0", newListener(), newListener(), func(context.Context, net.Listener, *Node) error {
				n.Stats.Open.Add(test.open)
				go func() {
					for event := range strings.FieldsSeq(test.events) {
						happen[event]()
					}
				}()
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

// After its drain a node lingers for nodes that have not passed the barrier yet. A second signal ends it.
func TestSecondSignalEndsTheLingering(t *testing.T) {
	t.Parallel() // waits
	cfg, _ := config(t, 2)
	n, log := newNode(func(c *cluster.Config) { c.Nodes = cfg.Nodes })
	service, port := listen(t, cfg.Nodes[0].Addr), listen(t, cfg.Nodes[0].Control)
	answer := func(q wire.Control) (wire.Control, bool) { // node 1 lets node 0 pass, and never says that it has passed itself
		q.Seen, q.From, q.To, q.Ready, q.Incarnation = []uint64{q.Incarnation, 7}, 1, 0, true, 7
		return q, true
	}
	go control.Serve(t.Context(), listen(t, cfg.Nodes[1].Control), control.Hello("nodes", 1, ""), 1, answer) // ends with the test
	signals, ended := make(chan os.Signal), make(chan error)
	go func() { ended <- n.run("stage0", service, port, serve, signals, nil) }()
	(&process{t: t, stderr: log}).wait("serving on")
	signals <- os.Interrupt
	begin := time.Now()
	<-time.After(2 * moment) // nearer signals count as one
	signals <- os.Interrupt
	if err := <-ended; err != nil || time.Since(begin) > 1500*time.Millisecond {
		t.Errorf("ended with %v after %v, want the second signal to end the lingering of 2 s", err, time.Since(begin))
	}
}

// Two nodes, started one after the other: neither serves before both have started. A node that is
// stopped while it waits has nothing to drain and no statistics. A check tells of each node what works
// and what does not.
func TestNodesWaitForEachOther(t *testing.T) {
	t.Parallel()
	secret := func(c *cluster.Config) { c.Secret = theSecret }
	cfg, file := config(t, 2, secret)
	checks := func(code int, zero, one string, args ...string) {
		t.Helper()
		p := run(t, nil, append([]string{"-check", "-config"}, args...)...)
		got, stderr := p.stop()
		lines := strings.Split(p.stdout.String(), "\n")
		if got != code || stderr != "" || len(lines) != 3 || !strings.HasPrefix(lines[0], "node 0 (") ||
			!strings.Contains(lines[0], zero) || !strings.Contains(lines[1], one) {
			t.Errorf("-check %q: exit code %d, %q, %q, want %d, %q and %q", args, got, stderr, lines, code, zero, one)
		}
	}
	checks(1, "refused: does it run (-node 0)?", "refused: does it run (-node 1)?", file)

	var both atomic.Bool
	serving := make(chan *Node, 1) // number 0
	start := func(args ...string) *process {
		return run(t, func(ctx context.Context, ln net.Listener, n *Node) error {
			if !both.Load() {
				t.Errorf("node %d serves before there are two", n.Self)
			} else if n.Self == 0 {
				serving <- n
			}
			return serve(ctx, ln, n)
		}, append(args, "-config", file)...)
	}
	alone := start("-node", "0")
	if code, stderr := alone.stop(); code != 0 || alone.stdout.Len() > 0 {
		t.Errorf("a node that was stopped while it waited: exit code %d, %q, %q, want 0 and no statistics", code, stderr, &alone.stdout)
	}

	zero := start("-node", "0")
	both.Store(true)
	one := start("-node", "1", "-workers", "4")
	zero.wait("node 1 ("+cfg.Nodes[1].Addr+")", "works differently: workers is 8 here, 4 there")
	zero.wait("serving on " + cfg.Nodes[0].Addr)
	one.wait("serving on " + cfg.Nodes[1].Addr)
	checks(0, ": serves; stage0 for ", "; note that workers is 8 here, 4 there", file)

	// One that is restarted serves beside the other at once, and says that its keys are gone.
	if code, stderr := one.stop(); code != 0 || strings.Contains(stderr, "restarted") {
		t.Errorf("the first start of node 1: exit code %d, %q", code, stderr)
	}
	one = start("-node", "1")
	one.wait("node 1: restarted while the other nodes ran: this node's table is empty")
	one.wait("serving on " + cfg.Nodes[1].Addr)

	_, other := config(t, 2, func(c *cluster.Config) { c.Nodes, c.Secret = cfg.Nodes, "another one, and as long" })
	checks(1, "has another secret", "another secret", other)
	_, other = config(t, 2, secret, func(c *cluster.Config) {
		c.Nodes[0] = cluster.Node{Addr: cfg.Nodes[0].Control, Control: cfg.Nodes[0].Addr}
		c.Nodes[1].Addr = "nowhere.invalid:7001"
	})
	checks(1, "are addr and control mixed up?", "are addr and control right", other)
	if says, err := checkNode("stage9", cfg, 0); !strings.Contains(fmt.Sprint(err), "runs stage0, and this is stage9") {
		t.Errorf("%q, %v, want that the stage is another", says, err)
	}
	(<-serving).Stats.Serving.Store(false)
	checks(1, "does not serve: it waits for other nodes", ": serves; ", file)
	for _, p := range []*process{zero, one} {
		if code, stderr := p.stop(); code != 0 || p.stdout.Len() == 0 {
			t.Errorf("exit code %d, %q, %q, want 0 and statistics", code, stderr, &p.stdout)
		}
	}
}

func TestFreeAddrs(t *testing.T) {
	addrs, err := FreeAddrs(6)
	if err != nil || len(addrs) != 6 {
		t.Errorf("the addresses are %v, error %v, want 6", addrs, err)
	}
	for _, addr := range addrs {
		if !regexp.MustCompile(`^127\.0\.0\.1:([12]\d|3[01])\d{3}$`).MatchString(addr) || Taken(addr) || listen(t, addr) == nil || !Taken(addr) {
			t.Errorf("%s: want it free, on loopback, below the ephemeral range, and then taken", addr)
		}
	}
}

// What a stranger has sent must not write to the terminal, nor look like another line.
func TestLog(t *testing.T) {
	for _, test := range []struct {
		key   string
		value any
		want  string
	}{
		{"key", "", `message key ""`},
		{"key", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 7001}, "message key 10.0.0.7:7001"},
		{"err", errors.New("reading: \r\x00"), `message: "reading: \r\x00"`},
		{"err", "forged\n15:04:05 stage0 node 0: all is well", `message: "forged\n15:04:05 stage0 node 0: all is well"`},
		{"err", strings.Repeat("long ", 100), "message: " + strings.Repeat("long ", 5) + "lo.."},
	} {
		var out bytes.Buffer
		slog.New(newHandler(&out, "stage0")).With("node", 3).Info("message", test.key, test.value)
		at, got, _ := strings.Cut(out.String(), " ")
		if _, err := time.Parse(time.TimeOnly, at); err != nil || !strings.HasPrefix(got, "stage0 node 3: "+test.want) {
			t.Errorf("%#v is logged as %q, want the time and %q", test.value, &out, test.want)
		}
		for i, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			if utf8.RuneCountInString(line) > logWidth || i > 0 && !strings.HasPrefix(line, strings.Repeat(" ", logIndent)) {
				t.Errorf("%#v: line %d is %q, want at most %d columns, and an indent after the first", test.value, i, line, logWidth)
			}
		}
	}
}

// A hostile network must not fill the disk: of each message one line a second is logged,
// and how many it stands for. Noise does not hide a panic.
func TestLogIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newNode(nil)
		for range 3 {
			for i := range 1200 {
				n.trouble("slow", "ended", "err", i)
			}
			<-time.After(time.Second)
		}
		n.trouble("panic", "panicked")
		n.trouble("lost", "ended", "err", "last")
		const want = "ended: 0\nended: 0 (and 1 199 more like it)\nended: 0 (and 1 199 more like it)\n" +
			"panicked\nended: last (and 1 199 more like it)\n"
		if got := regexp.MustCompile("(?m)^.* node 0: ").ReplaceAllString(strings.Join(log.lines(), ""), ""); got != want {
			t.Errorf("logged\n%s, want\n%s", got, want)
		}
	})
}

// A server is stuck if requests are in progress and none is finished for 10 s, not counting their
// work. A process that was stopped for 5 s says so; one that was a little late does not.
func TestStuck(t *testing.T) {
	const stuck = "stuck: no request was finished for 10s"
	none := func(*Node) {}
	progress := func(n *Node) { n.Stats.QueueWait.Add(0); n.Stats.Turn.Add(0) }
	request := func(n *Node) { n.Stats.Requests.Add(1) }
	for _, test := range []struct {
		name       string
		turns      int         // in progress for half a minute
		goesOn     func(*Node) // what is done in between
		work, late time.Duration
		want       string // in the log; empty: nothing
	}{
		{"one stuck, others idle", 1, none, 0, 0, stuck},
		{"one stuck, others go on", 1, progress, 0, 0, ""},
		{"long work", 1, none, time.Second, 0, ""},
		{"one turn of many requests", 1, request, 0, 0, ""},
		{"idle, and suspended", 0, none, 0, 5 * time.Second, "did not run for 5.00s"},
		{"a little late", 0, none, 0, 900 * time.Millisecond, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, log := newNode(func(c *cluster.Config) { c.Server.Work.Time = test.work })
			progress(n) // one that is done
			for range test.turns {
				n.Stats.QueueWait.Add(0)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			late := test.late
			n.watchStuck(ctx, func(_ context.Context, d time.Duration) {
				<-time.After(d + late)
				late = 0 // from now on
				test.goesOn(n)
			})
			lines := strings.Join(log.lines(), "")
			if strings.Count(lines, " node 0: ") != min(1, len(test.want)) || !strings.Contains(lines, test.want) {
				t.Errorf("%s: the log is %q, want %q in its only line", test.name, lines, test.want)
			}
			if got := n.Stats.Suspended.Load().Total; got != test.late.Truncate(time.Second) {
				t.Errorf("%s: suspended for %v", test.name, got)
			}
		})
	}
}

func TestWhereabouts(t *testing.T) {
	at := func(state, call, line string) string {
		return "goroutine 7 [" + state + "]:\nsync.(*Mutex).Lock(...)\n\t/usr/local/go/src/sync/mutex.go:46\n" +
			"main." + call + "(0x0?, {0x1, 0x2})\n\t/home/ada/mine/" + line + " +0x51\ncreated by main.serve in goroutine 1"
	}
	first, reading := at("select", "main", "main.go:5"), at("IO wait", "serve.func1", "server.go:21")
	blocked := at("sync.Mutex.Lock, 2 minutes", "(*store).apply", "store.go:26")
	spinning := at("running", "(*store).apply", "store.go:30")
	got := Whereabouts("main.", first, reading, reading, reading, blocked, blocked, spinning)
	if want := "2 × (*store).apply, mine/store.go:26, waits in Mutex.Lock; 3 × serve.func1, mine/server.go:21, waits in IO; " +
		"1 × (*store).apply, mine/store.go:30, runs"; got != want {
		t.Errorf("goroutines are at %q, want %q", got, want)
	}
	if got := Stacks("no such word", "node.TestWhereabouts("); len(got) != 1 || !strings.HasPrefix(got[0], "goroutine ") {
		t.Errorf("the stacks are %q, want one", got)
	}
}
