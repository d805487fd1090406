package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/wire"
)

const theSecret = "correct horse battery staple"

// serveEach has a goroutine for each connection.
func serveEach(ctx context.Context, ln net.Listener, n *Node) error {
	table := n.NewTable()
	var mu sync.Mutex // guards table
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if c == nil {
			return err
		}
		conns.Go(func() {
			defer c.Close()
			for c.Ready() {
				n.Answer(c, func(ops []wire.Op) []wire.Result {
					mu.Lock()
					defer mu.Unlock()
					return table.Apply(ops)
				})
				c.Flush()
			}
		})
	}
}

// A server with a secret, at both its ports, among strangers: whoever knows the
// secret is served at once, nobody else is, and nothing that is said holds it.
func TestSecretAmongStrangers(t *testing.T) {
	cfg, file := config(t, 1)
	t.Setenv("LOCKSTEP_SECRET", theSecret)
	p := run(t, serveEach, "-config", file, "-v", "-frame_timeout", "2s")
	said := p.wait("serving on")

	var silent []net.Conn
	for _, addr := range []string{cfg.Nodes[0].Addr, cfg.Nodes[0].Control} {
		for range 50 {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			silent = append(silent, nc)
		}
	}
	know := cfg
	know.Secret = theSecret
	cl, err := client.Dial(t.Context(), know)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if created, err := cl.Put(t.Context(), "k", nil); !created || err != nil {
		t.Errorf("Put beside silent strangers: %v, %v", created, err)
	}
	if s, err := cl.Stats(t.Context(), 0); err != nil || s.Requests != 1 {
		t.Errorf("Stats beside silent strangers: %+v, %v", s, err)
	}
	for name, secret := range map[string]string{"none": "", "another": "another one, and as long"} {
		guess := cfg
		guess.Secret = secret
		if _, err := client.Dial(t.Context(), guess); !errors.Is(err, wire.ErrMismatch) || !strings.Contains(err.Error(), "secret") {
			t.Errorf("Dial with a secret, %s: %v, want %v", name, err, wire.ErrMismatch)
		}
		if _, err := client.Stats(t.Context(), guess, 0); !errors.Is(err, wire.ErrMismatch) || !strings.Contains(err.Error(), "secret") {
			t.Errorf("Stats with a secret, %s: %v, want %v", name, err, wire.ErrMismatch)
		}
	}
	nc, err := net.Dial("tcp", cfg.Nodes[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, strings.Repeat("GET / HTTP/1.1\r\n", 10))
	for _, nc := range append(silent, nc) { // each is ended in its time
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("somebody who proves nothing is still connected")
		}
	}
	answer, err := control.AskStats(t.Context(), cfg.Nodes[0].Control, "nodes", 0, theSecret)
	if err != nil {
		t.Error(err)
	}
	cl.Close()
	p.stdin.Close()
	code, stderr := p.end()
	if code != 0 {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	said += stderr + p.stdout.String() + string(answer)
	if !strings.Contains(said, "does not know the secret") || !strings.Contains(said, `"stage":"stage0"`) {
		t.Errorf("not all that was said is here: %s", said)
	}
	if strings.Contains(said, theSecret) {
		t.Errorf("the secret is in\n%s", said)
	}
}

// Nothing that a server refuses to start with shows a secret, nor does its help.
func TestSecretIsNeverShown(t *testing.T) {
	_, plain := config(t, 1)
	dir := t.TempDir()
	write := func(text string) string {
		name := filepath.Join(dir, fmt.Sprint(time.Now().UnixNano(), ".json"))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const short = "hush, hush"
	for _, test := range []struct{ env, file, args string }{
		{theSecret, plain, "-h"},
		{theSecret, plain, "-workers=0"},
		{theSecret, plain, "-secret"},
		{theSecret, plain, "-node=7"},
		{theSecret, write(`{"server": {"workers": 0}}`), ""},
		{theSecret, write(`{"nodes": []}`), ""},
		{short, plain, ""},
		{"", write(`{"secret": "` + short + `"}`), ""},
		{"", write(`{"secret": ["` + theSecret + `"]}`), ""},
		{"", write(`{"secret": {"` + theSecret + `": 1}}`), ""},
		{"", write(`{"secret": "` + theSecret + `", "secret": "` + theSecret + `"}`), ""},
		{"", write(`{"secret": "` + theSecret + `", "sekret": "` + theSecret + `"}`), ""},
		{"", write(`{"secret": "` + theSecret + `\x"}`), ""},
		{"", write(`{"secret": "` + theSecret + `", "nodes": [{"addr": "192.0.2.1:7001", "control": "192.0.2.1:7101"}]}`), ""},
	} {
		t.Setenv("LOCKSTEP_SECRET", test.env)
		args := append([]string{"-config", test.file}, strings.Fields(test.args)...)
		p := run(t, nil, args...)
		code, stderr := p.end()
		if (code == 0) != (test.args == "-h") {
			t.Errorf("%+v: exit code %d, %q", test, code, stderr)
		}
		if said := stderr + p.stdout.String(); strings.Contains(said, theSecret) || strings.Contains(said, short) || len(said) == 0 {
			t.Errorf("%+v: it says %s", test, said)
		}
	}
}

// What keeps a server from listening, and what can be done about it.
func TestListenHints(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EADDRINUSE:    "is another server running there? stop it",
		syscall.EADDRNOTAVAIL: "this machine does not have that address",
		syscall.EACCES:        "ports below 1024",
		10048:                 "is another server",
		10049:                 "does not have that address",
		10013:                 "ports below 1024",
		syscall.EMFILE:        "",
	} {
		got := hint(fmt.Errorf("listening: %w", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", errno)}))
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%d (%v): the hint is %q, want %q", errno, errno, got, want)
		}
	}
	if got := hint(errors.New("no such host")); got != "" {
		t.Errorf("of another error: the hint is %q", got)
	}

	cfg, file := config(t, 1)
	cfg.Nodes[0].Addr = "192.0.2.1:7001" // of no machine: RFC 5737
	if err := cfg.Save(file); err != nil {
		t.Fatal(err)
	}
	p := run(t, nil, "-config", file, "-insecure")
	if code, stderr := p.end(); code != 1 || !strings.Contains(stderr, "192.0.2.1:7001") || !strings.Contains(stderr, "does not have that address") || !strings.Contains(stderr, file+" says where node 0 listens") {
		t.Errorf("an address of no machine: exit code %d, %q", code, stderr)
	}
}

// A node that has ended lingers for those that have not passed the barrier yet; a
// second signal ends that.
func TestSecondSignalEndsTheLingering(t *testing.T) {
	n, _ := newNode(func(c *cluster.Config) { c.Nodes = make([]cluster.Node, 2) })
	service, port, err := listen(cluster.Node{Addr: "127.0.0.1:0", Control: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	n.Config.Nodes[0] = cluster.Node{Addr: service.Addr().String(), Control: port.Addr().String()}
	n.Config.Nodes[1] = cluster.Node{Addr: "127.0.0.1:1", Control: other.Addr().String()}
	var asked atomic.Int64
	go func() { // node 1 says all that makes node 0 pass, and never that it has passed; ends with its listener
		for {
			nc, err := other.Accept()
			if err != nil {
				return
			}
			c, err := wire.Greet(nc, wire.Hello{Purpose: wire.ControlPort, Group: "nodes", Number: 1}, wire.Limits{Idle: time.Second})
			if err != nil {
				continue
			}
			var q wire.Control
			if c.Ready() && c.ReadControl(&q) {
				asked.Add(1)
				q.Seen, q.From, q.To, q.Ready = []uint64{q.Incarnation, 7}, 1, 0, true
				q.Incarnation = 7
				c.WriteControl(&q)
				c.Flush()
			}
			c.Close()
		}
	}()
	signals, ended := make(chan os.Signal), make(chan error)
	go func() {
		ended <- n.run("stage0", service, port, serveOne, signals, nil)
	}()
	until := func(what string, done func() bool) {
		for late := time.Now().Add(10 * time.Second); !done(); runtime.Gosched() {
			if time.Now().After(late) {
				t.Fatalf("node 0 does not %s", what)
			}
		}
	}
	until("pass", n.Stats.Serving.Load)
	before, begin := asked.Load(), time.Now()
	signals <- os.Interrupt
	until("linger", func() bool { return asked.Load() > before })
	signals <- os.Interrupt
	if err := <-ended; err != nil || time.Since(begin) > 1500*time.Millisecond {
		t.Errorf("ended with %v after %v, want the second signal to end the lingering of 2 s", err, time.Since(begin))
	}
}
