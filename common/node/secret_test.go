package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
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

// A server with a secret, and strangers at both its ports: clients that know the secret are
// served at once, others are not, and no output contains the secret.
func TestSecretAmongStrangers(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 1)
	know := cfg
	know.Secret = theSecret
	if err := know.Save(file); err != nil {
		t.Fatal(err)
	}
	p := run(t, serveMany, "-config", file, "-v", "-frame_timeout", "200ms")
	said := p.wait("serving on")

	var silent []net.Conn
	for _, addr := range []string{cfg.Nodes[0].Addr, cfg.Nodes[0].Control} {
		for range 50 {
			silent = append(silent, dial(t, addr))
		}
	}
	cl := putKey(t, know)
	if s, err := cl.Stats(t.Context(), 0); err != nil || s.Requests != 1 {
		t.Errorf("Stats beside silent strangers: %+v, %v", s, err)
	}
	for _, secret := range []string{"", "another one, and as long"} {
		cfg.Secret = secret
		_, dialed := client.Dial(t.Context(), cfg)
		_, asked := client.Stats(t.Context(), cfg, 0)
		if !errors.Is(dialed, wire.ErrMismatch) || !errors.Is(asked, wire.ErrMismatch) {
			t.Errorf("with secret %q: %v, %v, want %v", secret, dialed, asked, wire.ErrMismatch)
		}
	}
	for _, nc := range silent[:50] { // each is ended by its deadline; package control tests the other port's
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a client without a proof is still connected")
		}
	}
	answer, err := control.Ask(t.Context(), new(net.Dialer).DialContext, cfg.Nodes[0].Control, control.Hello("nodes", 0, theSecret), wire.Control{Kind: wire.Stats})
	if err != nil {
		t.Error(err)
	}
	cl.Close()
	code, stderr := p.stop()
	if code != 0 {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	said += stderr + p.stdout.String() + string(answer.Payload)
	if !containsAll(unwrap(said), "ended the connection", "error secret:", `"stage":"stage0"`) {
		t.Errorf("the log or the statistics are not in\n%s", said)
	}
	if strings.Contains(said, theSecret) {
		t.Errorf("the secret is in\n%s", said)
	}
}

// Strangers take no place of a client that knows the secret, however many they are: the oldest
// of them give way. Clients beyond max_connections are refused even if they were greeted before.
func TestStrangersGiveWay(t *testing.T) {
	t.Parallel()
	n, log := newNode(func(c *cluster.Config) { c.Secret, c.Server.MaxConnections = theSecret, 2 })
	n.strangers.Most = 3
	ln := listen(t, "127.0.0.1:0")
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- serveMany(ctx, ln, n) }()
	greeted := func() net.Conn {
		nc := dial(t, ln.Addr().String())
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if greeting := make([]byte, 64); !strings.HasPrefix(readAll(t, nc, greeting), "lockstep\x00") {
			t.Fatalf("greeted with %q", greeting)
		}
		return nc
	}
	hello := wire.Hello{Purpose: wire.Service, Group: "nodes", Fingerprint: n.Config.Fingerprint(), Secret: theSecret}
	client := func() (*wire.Conn, error) {
		return wire.Open(ctx, dial(t, ln.Addr().String()), hello, wire.Limits{})
	}
	var strangers []net.Conn
	for range 3 {
		strangers = append(strangers, greeted())
	}
	first, err := client() // the fourth: the oldest gives way
	if err != nil {
		t.Fatal(err)
	}
	if got := send(first, get("k")); got[0] != wire.OK {
		t.Errorf("a client among strangers: %v, want ok", got)
	}
	if _, err := io.Copy(io.Discard, strangers[0]); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the oldest stranger is still connected")
	}
	if open := n.Stats.Open.Load(); open != 1 {
		t.Errorf("%d connections are counted, want that of the client", open)
	}

	// Two more clients, both greeted while there was a place.
	pending := make(chan net.Conn, 1)
	gate := make(chan struct{})
	late := make(chan []wire.Code, 1)
	go func() {
		nc := &gated{Conn: dial(t, ln.Addr().String()), gate: gate, greeted: pending}
		c, err := wire.Open(ctx, nc, hello, wire.Limits{})
		if err != nil {
			t.Error(err)
			late <- nil
			return
		}
		defer c.Close()
		late <- send(c, get("k"))
	}()
	<-pending
	second, err := client()
	if err != nil {
		t.Fatal(err)
	}
	send(second, get("k"))
	close(gate)
	if got := <-late; len(got) != 1 || got[0] != wire.Goodbye {
		t.Errorf("a client that proves itself when all places are taken is answered %v, want goodbye", got)
	}
	if _, err := client(); !errors.Is(err, wire.ErrRefused) {
		t.Errorf("a client when all places are taken: %v, want %v", err, wire.ErrRefused)
	}
	stop()
	for _, c := range []*wire.Conn{first, second} { // for which it would wait
		c.Close()
	}
	if err := <-served; err != ErrStopped {
		t.Error(err)
	}
	if errs := n.Stats.Snapshot().Errors; errs["stranger"] == 0 || errs["max_connections"] != 1 || n.Stats.Open.Load() != 0 {
		t.Errorf("counted %v, %d open, want strangers that gave way, and one refusal", errs, n.Stats.Open.Load())
	}
	if said := unwrap(strings.Join(log.lines(), "")); !strings.Contains(said, "proved nothing, and gave way") {
		t.Errorf("logged %q, want that a stranger gave way", said)
	}
}

// A gated connection sends nothing before its gate is open.
type gated struct {
	net.Conn
	gate    chan struct{}
	greeted chan net.Conn // receives the connection at its first Write
}

func (g *gated) Write(b []byte) (int, error) {
	select {
	case g.greeted <- g:
	default:
	}
	<-g.gate
	return g.Conn.Write(b)
}

func readAll(t *testing.T, nc net.Conn, b []byte) string {
	t.Helper()
	if _, err := io.ReadFull(nc, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// No error about flags or configuration shows a secret, and neither does the help.
func TestSecretIsNeverShown(t *testing.T) {
	_, plain := config(t, 1)
	const short = "hush, hush"
	for _, test := range []struct{ env, file, args string }{
		{theSecret, plain, "-h"},
		{theSecret, plain, "-workers=0"},
		{theSecret, plain, "-secret"},
		{theSecret, write(t, `{"server": {"workers": 0}}`), ""},
		{short, plain, ""},
		{"", write(t, `{"secret": "`+short+`"}`), ""},
		{"", write(t, `{"secret": ["`+theSecret+`"]}`), ""},
		{"", write(t, `{"secret": "`+theSecret+`", "secret": "`+theSecret+`"}`), ""},
		{"", write(t, `{"secret": "`+theSecret+`", "sekret": "`+theSecret+`"}`), ""},
		{"", write(t, `{"secret": "`+theSecret+`\x"}`), ""},
		{"", write(t, `{"secret": "`+theSecret+`", "nodes": [{"addr": "192.0.2.1:7001", "control": "192.0.2.1:7101"}]}`), ""},
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

// An error of listen is followed by what can be done about it.
func TestListenHints(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EADDRINUSE: "another server", syscall.EADDRNOTAVAIL: "this machine does not have that address", syscall.EACCES: "ports below 1024",
		10048: "another server", 10049: "this machine does not have that address", 10013: "ports below 1024", syscall.EMFILE: "",
	} {
		got := hint(fmt.Errorf("listening: %w", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", errno)}))
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%d (%v): the hint is %q, want %q", errno, errno, got, want)
		}
	}
}

// After its drain a node lingers for nodes that have not passed the barrier yet. A second
// signal ends that.
func TestSecondSignalEndsTheLingering(t *testing.T) {
	t.Parallel()
	cfg, _ := config(t, 2)
	n, _ := newNode(func(c *cluster.Config) { c.Nodes = cfg.Nodes })
	service, port := listen(t, cfg.Nodes[0].Addr), listen(t, cfg.Nodes[0].Control)
	var asked atomic.Int64
	// Node 1 lets node 0 pass, and never says that it has passed itself. It ends with the test.
	go control.Serve(t.Context(), listen(t, cfg.Nodes[1].Control), control.Hello("nodes", 1, ""), 1, func(q wire.Control) (wire.Control, bool) {
		asked.Add(1)
		q.Seen, q.From, q.To, q.Ready = []uint64{q.Incarnation, 7}, 1, 0, true
		q.Incarnation = 7
		return q, true
	})
	signals, ended := make(chan os.Signal), make(chan error)
	go func() { ended <- n.run("stage0", service, port, serveOne, signals, nil) }()
	for !n.Stats.Serving.Load() {
		runtime.Gosched()
	}
	before, begin := asked.Load(), time.Now()
	signals <- os.Interrupt
	for asked.Load() == before { // until it lingers
		runtime.Gosched()
	}
	<-time.After(2 * moment) // nearer signals count as one
	signals <- os.Interrupt
	if err := <-ended; err != nil || time.Since(begin) > 1500*time.Millisecond {
		t.Errorf("ended with %v after %v, want the second signal to end the lingering of 2 s", err, time.Since(begin))
	}
}
