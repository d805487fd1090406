package barrier

// What strangers, and peers that lie, can do to a barrier: nothing that lasts.

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/wire"
)

// lies are questions that say what only an answer may say.
func lies() (all []wire.Control) {
	for _, from := range []int{0, 1, 2, -1, 99, 1 << 40} {
		for _, m := range []wire.Control{
			{Fingerprint: "ours", Round: 1, Incarnation: 1},
			{Fingerprint: "ours", Round: 1, Incarnation: 1, Ready: true, Passed: true, Seen: []uint64{1, 1, 1}, Payload: []byte("forged")},
			{Fingerprint: "theirs", Round: 1, Incarnation: 1, Ready: true},
			{Fingerprint: "ours", Round: -1 << 62, Incarnation: 1, Ready: true},
			{Fingerprint: "ours", Round: 1 << 62, Incarnation: 1, Ready: true},
			{},
		} {
			m.Kind, m.Group, m.From = wire.Barrier, "nodes", from
			all = append(all, m)
		}
	}
	return append(all, wire.Control{Kind: wire.Barrier, Group: "clients", Round: 1, Ready: true}, wire.Control{Kind: 77})
}

// shout sends each lie over a connection of its own.
func shout(ctx context.Context, dial func() (net.Conn, error), h wire.Hello) error {
	for _, lie := range lies() {
		nc, err := dial()
		if err != nil {
			return err
		}
		c, err := wire.Open(ctx, nc, h, limits)
		if err != nil {
			return err
		}
		answer, err := c.Ask(ctx, &lie)
		if lie.Kind == wire.Barrier && (err != nil || answer.Passed || answer.Round != lie.Round) {
			return fmt.Errorf("%+v is answered %+v, %v", lie, answer, err)
		}
		c.Close()
	}
	return nil
}

// junk is what may come where a frame belongs.
var junk = map[string][]byte{
	"http":             []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
	"a huge frame":     {0xff, 0xff, 0xff, 0xff, 1, 2, 3},
	"an empty frame":   {0, 0, 0, 0},
	"half a length":    {0, 0},
	"half a frame":     {0, 0, 0, 100, 99, 1},
	"the largest half": append([]byte{0, 1, 0, 0}, make([]byte, 60_000)...),
	"garbage":          append([]byte{0, 0, 0, 32}, bytes.Repeat([]byte{0xf8}, 32)...),
}

// Everything at once against one process of three: it goes on answering for its
// statistics, starts with nobody but its peers, and starts with them.
func TestAttack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var said log
		b0 := n.join("nodes", 0, 3, func(c *Config) {
			c.Log, c.Stats = said.logger(), func() []byte { return []byte("counted") }
		})
		w0 := wait(t.Context(), b0)
		stranger := func() (net.Conn, error) { return n.dial(t.Context(), "stranger", "0") }
		stats := func(when string) {
			t.Helper()
			dial := func(context.Context, string) (net.Conn, error) { return stranger() }
			start := time.Now()
			answer, err := ask(t.Context(), dial, "0", hello("nodes", 0, ""), wire.Control{Kind: wire.Stats})
			if string(answer.Payload) != "counted" || err != nil || time.Since(start) > 0 {
				t.Errorf("statistics %s: %q, %v, after %v; want them at once", when, answer.Payload, err, time.Since(start))
			}
		}
		if err := shout(t.Context(), stranger, hello("nodes", 0, "")); err != nil {
			t.Error(err)
		}
		stats("after lies")

		var open []net.Conn
		for range 1000 {
			nc, err := stranger()
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, nc)
		}
		stats("beside a thousand silent connections")
		alive := 0
		for _, nc := range open {
			nc.SetReadDeadline(time.Now().Add(time.Nanosecond))
			if n, _ := nc.Read(make([]byte, 1)); n > 0 { // of the greeting, which a net.Pipe keeps until it is read
				alive++
			}
		}
		if alive > maxConns {
			t.Errorf("%d connections are open, want at most %d", alive, maxConns)
		}

		for name, bytes := range junk {
			nc, err := stranger()
			if err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, nc) // ends with the connection
			nc.Write(bytes)
			start := time.Now()
			for time.Since(start) < serveTime { // one byte, now and then
				<-time.After(time.Second) // the clock is synctest's
				if _, err = nc.Write([]byte{0}); err != nil {
					break
				}
			}
			if took := time.Since(start); took > 2*answerTime {
				t.Errorf("%s, and a byte a second, held a connection for %v, want at most %v", name, took, 2*answerTime)
			}
			stats("after " + name)
		}

		// One that never stops asking has its time, and no more.
		nc, err := stranger()
		if err != nil {
			t.Fatal(err)
		}
		c, err := wire.Open(t.Context(), nc, hello("nodes", 0, ""), limits)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for err == nil && time.Since(start) < time.Minute {
			<-time.After(time.Second) // the clock is synctest's
			_, err = c.Ask(t.Context(), &wire.Control{Kind: wire.Stats})
		}
		if took := time.Since(start); took != serveTime && took != serveTime+time.Second {
			t.Errorf("one that asked every second was served for %v, want %v", took, serveTime)
		}

		select {
		case r := <-w0:
			t.Fatalf("it started with nobody: %q, %v", r.payloads, r.err)
		default:
		}
		if got := said.String(); !strings.Contains(got, "1/3 ready") || strings.Contains(got, "2/3") || strings.Contains(got, "WARN") {
			t.Errorf("meanwhile it said\n%s\nwant 1/3 ready, and nothing about strangers", got)
		}
		b1, b2 := n.join("nodes", 1, 3), n.join("nodes", 2, 3)
		for _, w := range []<-chan result{w0, wait(t.Context(), b1), wait(t.Context(), b2)} {
			(<-w).check(t, "abc")
		}
		closeAll(t, b0, b1, b2)
		for _, nc := range open {
			nc.Close()
		}
	})
}

// A peer that makes up a new fingerprint for every answer: what is logged of it is
// bounded, short and fit for a terminal, and does not drown another peer's mismatch.
func TestMadeUpFingerprints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var said log
		b0 := n.join("nodes", 0, 3, func(c *Config) { c.Log = said.logger() })
		liar := n.listen("1")
		lied := make(chan int)
		go func() { // ends when the listener is closed
			told := 0
			for ; ; told++ {
				nc, err := liar.Accept()
				if err != nil {
					break
				}
				c, err := wire.Greet(nc, hello("nodes", 1, ""), limits)
				if err != nil {
					continue
				}
				var q wire.Control
				if c.Ready() && c.ReadControl(&q) {
					q.From, q.To, q.Incarnation, q.Ready = 1, 0, 7, true
					q.Fingerprint = fmt.Sprintf("ours %d\x1b[2J\n%s", told, strings.Repeat("\x07", 2000))
					c.WriteControl(&q)
					c.Flush()
				}
				c.Close()
			}
			lied <- told
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		w0 := wait(ctx, b0)
		<-time.After(10 * time.Second) // the clock is synctest's
		b2 := n.join("nodes", 2, 3, func(c *Config) { c.Fingerprint = "ours too" })
		w2 := wait(ctx, b2)
		r0 := <-w0
		<-w2
		closeAll(t, b0, b2)
		liar.Close()
		if told := <-lied; told < 50 {
			t.Fatalf("the liar was asked %d times only", told)
		}
		if got := strings.Count(said.String(), "WARN"); got != maxReasons+1 {
			t.Errorf("%d mismatches were logged, want %d of the liar, and the other's", got, maxReasons)
		}
		if !strings.Contains(said.String(), `node 2 (2): the two ends disagree about ours: here \"\", there too: `) {
			t.Errorf("the mismatch of node 2 is not in\n%s", &said)
		}
		for _, line := range append(said.lines, r0.err.Error()) {
			if len(line) > 500 || strings.ContainsAny(line, "\x1b\x07\n") {
				t.Errorf("%d bytes, or unfit for a terminal: %q", len(line), line)
			}
		}
	})
}

// What a mismatch says: the first difference, and what to do.
func TestDifference(t *testing.T) {
	const here = "version 1\nstage s4\nnodes 2\nnodes[0].addr 10.0.0.7:7001\nnodes[0].control c:1\nnodes[1].addr d:1\nnodes[1].control d:2\n"
	change := func(old, new string) string { return strings.Replace(here, old, new, 1) }
	const nodes = ": give both the same nodes in properties.json"
	for _, test := range []struct{ there, want string }{
		{change("version 1", "version 2"), "version: here 1, there 2: build both from one source"},
		{change("stage s4", "stage a b"), `stage: here s4, there "a b": start the same stage on both`},
		{change("nodes 2", "nodes 3") + "nodes[2].addr e:1\n", "nodes: here 2, there 3" + nodes},
		{change("10.0.0.7", "10.0.0.8"), "nodes[0].addr: here 10.0.0.7:7001, there 10.0.0.8:7001" + nodes},
		{change("d:2", "d:3"), "nodes[1].control: here d:2, there d:3" + nodes},
		{"", `version: here 1, there ""` + ": build both from one source"},
		{"HTTP/1.1 400 Bad Request", `version: here 1, there "HTTP/1.1 400 Bad Request": build both from one source`},
		{here + "more", `the configuration: here "", there more` + nodes},
		{here[:12], `stage: here s4, there st: start the same stage on both`},
	} {
		got := difference(here, test.there)
		if got != test.want {
			t.Errorf("%q\n got %s\nwant %s", test.there, got, test.want)
		}
	}
	for _, long := range []string{strings.Repeat("x", 1000), strings.Repeat("\U0010ffff", 1000), strings.Repeat("\x00", 1000), strings.Repeat(" \n", 1000)} {
		for _, there := range []string{long, "version " + long, change("nodes[1].addr d:1", "nodes[1].addr "+long)} {
			if got := difference(here, there); len(got) > 170 {
				t.Errorf("%.40q is told in %d bytes: %s", there, len(got), got)
			}
		}
	}
}

// Clients that do not count the same clients never agree on who is there: each is
// told so.
func TestAnotherNumberOfClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		b0, b1 := n.join("clients", 0, 2), n.join("clients", 1, 3)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		w0, w1 := wait(ctx, b0), wait(ctx, b1)
		if r, want := <-w0, "client 1 (1): it counts 3 clients, and this process 2: give both the same properties.json"; r.err == nil || !strings.Contains(r.err.Error(), want) {
			t.Errorf("Wait says %v, want %q", r.err, want)
		}
		<-w1
		closeAll(t, b0, b1)
	})
}

// Hurry ends a Close that lingers for a peer that has not passed.
func TestHurry(t *testing.T) {
	for _, before := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			b0, b1 := n.join("nodes", 0, 2), n.join("nodes", 1, 2)
			n.links(errDropped, "1>0")
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			w0, w1 := wait(t.Context(), b0), wait(ctx, b1)
			<-w1 // in vain: but it has arrived, and 0 may go on when it has seen 0
			select {
			case <-w0:
				t.Fatal("0 passes although 1 has never heard it")
			default:
			}
			n.links(nil, "1>0")
			w1 = wait(t.Context(), b1)
			(<-w0).check(t, "ab")
			(<-w1).check(t, "ab")
			b1.mu.Lock()
			b1.core.passed = false // as one that is about to hear it
			b1.mu.Unlock()
			start := time.Now()
			closed := make(chan error)
			if before {
				b0.Hurry()
			}
			go func() { closed <- b0.Close() }()
			if !before {
				<-time.After(time.Second) // the clock is synctest's
				b0.Hurry()
			}
			if err := <-closed; err != nil || !before && time.Since(start) != time.Second || before && time.Since(start) > 0 {
				t.Errorf("Hurry before Close %v: Close took %v, %v, want no longer than until Hurry", before, time.Since(start), err)
			}
			b1.Hurry()
			closeAll(t, b1)
		})
	}
}

// The same over sockets: silent connections, junk and lies, from before the first
// process waits until all have passed, with and without a secret.
func TestAttackTCP(t *testing.T) {
	for _, secret := range []string{"", "a secret of 24 characters"} {
		var listeners []net.Listener
		var addrs []string
		for range 3 {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			listeners, addrs = append(listeners, ln), append(addrs, ln.Addr().String())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var barriers []*Barrier
		var waits []<-chan result
		start := func() {
			i := len(barriers)
			barriers = append(barriers, New(listeners[i], Config{Group: "nodes", Self: i, Peers: addrs, Fingerprint: "ours", Secret: secret,
				Stats: func() []byte { return []byte("counted") }}))
			waits = append(waits, wait(ctx, barriers[i]))
		}
		start()
		start()
		var open []net.Conn
		for i := range 2 * maxConns {
			nc, err := net.Dial("tcp", addrs[i%2])
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, nc)
		}
		for name, bytes := range junk {
			nc, err := net.Dial("tcp", addrs[0])
			if err != nil {
				t.Fatal(err)
			}
			nc.Write(bytes)
			if secret != "" && name == "http" { // and what looks like a request, in place of a proof
				nc.Write(binary.BigEndian.AppendUint32(nil, 100))
			}
			open = append(open, nc)
		}
		dial := func() (net.Conn, error) { return net.Dial("tcp", addrs[0]) }
		if err := shout(ctx, dial, hello("nodes", 0, secret)); err != nil {
			t.Error(err)
		}
		if answer, err := AskStats(ctx, addrs[0], "nodes", 0, secret); string(answer) != "counted" || err != nil {
			t.Errorf("statistics: %q, %v", answer, err)
		}
		for i, w := range waits {
			select {
			case r := <-w:
				t.Errorf("%d started without the third: %v", i, r.err)
			default:
			}
		}
		start()
		for _, w := range waits {
			(<-w).check(t, "abc")
		}
		closeAll(t, barriers...)
		for _, nc := range open {
			nc.Close()
		}
	}
}
