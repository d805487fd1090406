package barrier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/control"
	"lockstep/common/wire"
)

var errDropped = errors.New("dropped")

// A network is in memory, so that synctest owns its time. Its addresses are "0", "1" and
// so on, and a process dials with its own name.
type network struct {
	listeners sync.Map // by address
	cut       sync.Map // by link, such as "0>1": the error when 0 dials 1; errDropped: none before the time is over
	dialed    sync.Map // connections
	joined    []*Barrier
	log       strings.Builder // of process 0; for the test when nobody waits
}

// onNetwork runs a test in a bubble of its own, with a network, and closes what has joined.
func onNetwork(t *testing.T, test func(*testing.T, *network)) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		test(t, n)
		for _, b := range n.joined {
			b.Close()
		}
	})
}

type listener struct {
	net.Listener // nil
	accepted     chan net.Conn
	closed       chan struct{}
}

func (n *network) listen(addr string) *listener {
	l := &listener{accepted: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners.Store(addr, l)
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.accepted:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	close(l.closed)
	return nil
}

// links sets the error of dials on these links; nil repairs them.
func (n *network) links(err error, links ...string) {
	for _, link := range links {
		n.cut.Store(link, err)
	}
}

func (n *network) dial(ctx context.Context, from, to string) (net.Conn, error) {
	there, _ := n.listeners.Load(to)
	l, up := there.(*listener)
	cut, _ := n.cut.Load(from + ">" + to)
	refused := &net.OpError{Op: "dial", Net: "memory", Err: syscall.ECONNREFUSED}
	switch {
	case cut == errDropped:
		l = new(listener) // accepts nothing
	case cut != nil:
		return nil, cut.(error)
	case !up:
		return nil, refused
	}
	near, far := net.Pipe()
	select {
	case l.accepted <- far:
		n.dialed.Store(near, true)
		return near, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// join starts process self of a group on the network.
func (n *network) join(group string, self, of int, change ...func(*Config)) *Barrier {
	cfg := Config{Group: group, Self: self, Fingerprint: "ours"}
	for i := range of {
		cfg.Peers = append(cfg.Peers, fmt.Sprint(i))
	}
	cfg.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) {
		return n.dial(ctx, fmt.Sprint(self), addr)
	}
	if self == 0 {
		cfg.Log = slog.New(slog.NewTextHandler(&n.log, nil))
	}
	for _, f := range change {
		f(&cfg)
	}
	b := New(n.listen(fmt.Sprint(self)), cfg)
	n.joined = append(n.joined, b)
	return b
}

// all has all processes of a group join.
func (n *network) all(group string, of int) []*Barrier {
	for i := range of {
		n.join(group, i, of)
	}
	return n.joined
}

// A result is what Wait returned.
type result struct {
	payloads [][]byte
	err      error
}

// within returns a context that ends after the limit, and at the end of the test.
func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// wait calls Wait with a payload that names the process, for at most two minutes.
func wait(ctx context.Context, b *Barrier) <-chan result { return waitAll(ctx, b)[0] }

func waitAll(ctx context.Context, barriers ...*Barrier) (waits []<-chan result) {
	for _, b := range barriers {
		done := make(chan result, 1)
		waits = append(waits, done)
		go func() { // ends with Wait
			limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			payloads, err := b.Wait(limited, []byte{'a' + byte(b.cfg.Self)})
			done <- result{payloads, err}
		}()
	}
	return waits
}

// meet ends the calls of wait, which must all succeed.
func meet(t *testing.T, want string, waits ...<-chan result) {
	t.Helper()
	for _, w := range waits {
		r := <-w
		if got := string(bytes.Join(r.payloads, nil)); got != want || r.err != nil {
			t.Errorf("Wait: payloads %q, error %v; want %q", got, r.err, want)
		}
	}
}

// Real sockets and a secret.
func TestTCP(t *testing.T) {
	const secret = "a secret of 24 characters"
	ctx := within(t, 20*time.Second)
	addrs, barriers := make([]string, 2), make([]*Barrier, 2)
	for i := range addrs {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = ln.Addr().String()
		barriers[i] = New(ln, Config{Group: "nodes", Self: i, Peers: addrs, Fingerprint: "ours", Secret: secret,
			Answers: map[wire.ControlKind]func() any{wire.Stats: func() any { return "counted by " + addrs[i] }}})
	}
	for range 3 { // rounds
		meet(t, "ab", waitAll(ctx, barriers...)...)
	}
	hello, question := control.Hello("nodes", 1, secret), wire.Control{Kind: wire.Stats}
	got, err := control.Ask(ctx, new(net.Dialer).DialContext, addrs[1], hello, question)
	if want := `"counted by ` + addrs[1] + `"`; string(got.Payload) != want || err != nil {
		t.Errorf("asked for statistics: %q, %v; want %q", got.Payload, err, want)
	}
	barriers[0].Close()
	barriers[1].Close()
	if nc, err := net.Dial("tcp", addrs[0]); err == nil {
		nc.Close()
		t.Errorf("after Close %s still accepts", addrs[0])
	}
}

// Questions that claim what only an answer may claim change nothing.
func TestLies(t *testing.T) {
	onNetwork(t, func(t *testing.T, n *network) {
		b := n.join("nodes", 0, 3)
		b.core.arrive(nil)
		before := fmt.Sprint(b.core)
		for _, from := range []int{0, 1, -1, 1 << 40} {
			for _, round := range []int{1, -1 << 62, 1 << 62} {
				lie := wire.Control{Kind: wire.Barrier, Group: "nodes", From: from, Fingerprint: "ours", Round: round,
					Incarnation: 1, Ready: true, Passed: true, Seen: []uint64{1, 1, 1}}
				answer, ok := b.answer(lie)
				if got := fmt.Sprint(b.core); !ok || answer.Passed || answer.Round != round || got != before {
					t.Errorf("%+v is answered %+v, %v, and makes %s of %s", lie, answer, ok, got, before)
				}
			}
		}
		if _, ok := b.answer(wire.Control{Kind: 77}); ok {
			t.Error("a question that nobody knows is answered")
		}
	})
}

// While it waits it logs for whom and why.
func TestProgress(t *testing.T) {
	onNetwork(t, func(t *testing.T, n *network) {
		w0, b1 := wait(t.Context(), n.join("nodes", 0, 3)), n.join("nodes", 1, 3)
		<-time.After(3 * time.Second)
		w1 := wait(t.Context(), b1)
		<-time.After(2 * time.Second)
		n.links(errDropped, "2>1") // so that they do not pass yet
		w2 := wait(t.Context(), n.join("nodes", 2, 3))
		<-time.After(4 * time.Second)
		n.links(nil, "2>1")
		meet(t, "abc", w0, w1, w2)
		const refused = "node 2 (2): cannot be reached: connection refused"
		want := []string{
			"1/3 ready after 1s; waiting for node 1 (1): not ready yet; " + refused,
			"2/3 ready after 4s; waiting for " + refused,
			"3/3 ready after 7s; waiting for node 2 (2): it has not seen node 1 ready",
		}
		if !slices.EqualFunc(slices.Collect(strings.Lines(n.log.String())), want, strings.Contains) {
			t.Errorf("node 0 said\n%s\nwant %q", &n.log, want)
		}
	})
}

// A process that waits asks at least ten times a second, so the last to arrive is not
// delayed for longer than that. It closes the connections that it dialled.
func TestPause(t *testing.T) {
	onNetwork(t, func(t *testing.T, n *network) {
		b := n.all("nodes", 2)
		w0 := wait(t.Context(), b[0])
		<-time.After(10 * time.Second)
		late := time.Now()
		meet(t, "ab", w0, wait(t.Context(), b[1]))
		if took := time.Since(late); took > 2*maxPause {
			t.Errorf("passed %v after the last had arrived, want at most %v", took, 2*maxPause)
		}
		for nc := range n.dialed.Range {
			if nc.(net.Conn).SetDeadline(time.Time{}) == nil {
				t.Error("the dialler did not close a connection")
			}
		}
	})
}

// At the address of node 1 is another process. That is not fatal: it goes, and the right one comes.
func TestMismatch(t *testing.T) {
	for want, other := range map[string]func(*Config){
		"number 2, not 1":             func(c *Config) { c.Self = 2 },
		"3 nodes, and this process 2": func(*Config) {},
	} {
		onNetwork(t, func(t *testing.T, n *network) {
			b0, wrong := n.join("nodes", 0, 2), n.join("nodes", 1, 3, other)
			waits := waitAll(within(t, time.Second), b0, wrong)
			if got := fmt.Sprint((<-waits[0]).err); !strings.Contains(got, "waiting for node 1 (1): ") || !strings.Contains(got, want) {
				t.Errorf("Wait: %v, want %q", got, want)
			}
			<-waits[1]
			wrong.Close()
			meet(t, "ab", waitAll(t.Context(), b0, n.join("nodes", 1, 2))...)
		})
	}
}

// Clients that have started together do not go on with one that has restarted, and that
// one does not start.
func TestVoid(t *testing.T) {
	onNetwork(t, func(t *testing.T, n *network) {
		b := n.all("clients", 3)
		meet(t, "abc", waitAll(t.Context(), b...)...)
		b[1].Close()
		r := <-wait(within(t, 2*time.Second), n.join("clients", 1, 3))
		if got := fmt.Sprint(r.err); !strings.Contains(got, "client 0 (0): it has started with an earlier client 1") {
			t.Errorf("the restarted client's Wait says %s", got)
		}
		for _, w := range waitAll(t.Context(), b[0], b[2]) {
			r := <-w
			want := "barrier of clients, round 2: client 1 (1): the run is void: "
			if !errors.Is(r.err, ErrVoid) || !strings.HasPrefix(r.err.Error(), want) {
				t.Errorf("the Wait of another says %v, want %v", r.err, want)
			}
		}
	})
}

// Once clients have met, they go on without one that has ended or is silent, and say so. They
// wait for one that answers, however long it takes. One that they have given up learns of it.
func TestMissing(t *testing.T) {
	for end, after := range map[string]time.Duration{
		"cannot be reached: connection refused": refusedTime,
		"cannot be reached: no answer":          silentTime,
	} {
		onNetwork(t, func(t *testing.T, n *network) {
			b := []*Barrier{n.join("clients", 0, 3), n.join("clients", 2, 3)}
			waits := waitAll(t.Context(), b...)
			<-time.After(refusedTime + time.Second) // they have not met
			missing := n.join("clients", 1, 3)
			meet(t, "abc", append(waits, wait(t.Context(), missing))...)
			waits = waitAll(t.Context(), b...)
			<-time.After(silentTime + time.Second)
			if len(waits[0])+len(waits[1]) > 0 {
				t.Fatal("they did not wait for one that is slow")
			}
			begin := time.Now()
			if after == refusedTime {
				missing.Close()
			} else {
				n.links(errDropped, "0>1") // 2 learns it from 0
			}
			meet(t, "ac", waits...)
			const says = "client 1 (1) is missing: "
			if took, log := time.Since(begin), n.log.String(); took < after-maxPause || took > after+3*time.Second ||
				!strings.Contains(log, says+end+"; going on without it") && !strings.Contains(log, says+errGivenUp.Error()) {
				t.Errorf("after %v it says\n%s\nwant %s, after %v", took, log, end, after)
			}
			begin = time.Now()
			meet(t, "ac", waitAll(t.Context(), b...)...)
			if took := time.Since(begin); took > time.Second {
				t.Errorf("%s: the next round takes %v", end, took)
			}
			if after == refusedTime {
				return
			}
			r := <-wait(t.Context(), missing)
			if !errors.Is(r.err, ErrVoid) || !strings.Contains(r.err.Error(), "it has gone on without this client") {
				t.Errorf("the Wait of the one that is missing says %v", r.err)
			}
		})
	}
}

// Gather takes payloads of any size, one of nothing, and the end of a process on the way.
func TestGather(t *testing.T) {
	onNetwork(t, func(t *testing.T, n *network) {
		want := [][]byte{bytes.Repeat([]byte("a long payload"), 7000), {}, make([]byte, MaxPayload)}
		gather := func(of int, want ...[]byte) {
			var all sync.WaitGroup
			for i, b := range n.joined[:of] {
				all.Go(func() {
					if got, err := b.Gather(t.Context(), want[i]); err != nil || !reflect.DeepEqual(got, want) { // nil is not empty
						t.Errorf("%d gathers %d payloads, error %v", i, len(got), err)
					}
				})
			}
			all.Wait()
		}
		n.all("clients", 3)
		gather(3, want...)
		go func() { // ends with Close
			n.joined[2].Wait(t.Context(), make([]byte, MaxPayload))
			n.joined[2].Close()
		}()
		gather(2, want[0], want[1], nil)
	})
}

// The maximum size of a payload, and that payloads share no memory.
func TestPayload(t *testing.T) {
	onNetwork(t, func(t *testing.T, n *network) {
		b := n.all("nodes", 2)
		if _, err := b[0].Wait(t.Context(), make([]byte, MaxPayload+1)); err == nil || !strings.Contains(err.Error(), "49153") {
			t.Errorf("Wait with MaxPayload + 1 bytes: %v, want an error that says 49153", err)
		}
		// 0 overwrites all that it was given, and is asked again.
		large := bytes.Repeat([]byte("a"), MaxPayload)
		w1 := wait(t.Context(), b[1])
		payloads, err := b[0].Wait(t.Context(), large)
		if err != nil {
			t.Fatal(err)
		}
		meet(t, string(large)+"b", w1)
		clear(payloads[0])
		clear(large)
		if again, _ := b[0].answer(b[1].core.question(0)); !bytes.Equal(again.Payload, bytes.Repeat([]byte("a"), MaxPayload)) {
			t.Errorf("asked again it answers %.20q", again.Payload)
		}
	})
}

// Close waits for a peer that has not passed yet, for at most lingerTime, and not for one
// that cannot be dialled. Hurry, before or meanwhile, ends it.
func TestClose(t *testing.T) {
	soon := time.Second + 2*maxPause
	for name, test := range map[string]struct {
		help func(n *network, b2 *Barrier) // for 2, after a second
		want time.Duration
	}{
		"the other passes": {func(n *network, _ *Barrier) { n.links(nil, "2>0", "2>1") }, soon},
		"the other ends":   {func(_ *network, b2 *Barrier) { b2.Close() }, soon},
		"the other stays":  {func(*network, *Barrier) {}, lingerTime},
		"hurry":            {func(n *network, _ *Barrier) { n.joined[1].Hurry() }, time.Second},
		"in a hurry":       {func(*network, *Barrier) {}, 0},
	} {
		onNetwork(t, func(t *testing.T, n *network) {
			b := n.all("nodes", 3)
			// 2 sees the others ready, and is cut off before they can say all ready.
			n.links(syscall.EHOSTUNREACH, "0>2", "1>2")
			w := waitAll(t.Context(), b...)
			<-time.After(time.Second)
			n.links(syscall.EHOSTUNREACH, "2>0", "2>1")
			n.links(nil, "0>2", "1>2")
			meet(t, "abc", w[0], w[1])
			start := time.Now()
			time.AfterFunc(time.Second, func() { test.help(n, b[2]) })
			if test.want == 0 {
				b[1].Hurry()
			}
			b[1].Close()
			if got := time.Since(start); got > test.want || got < min(test.want, time.Second) {
				t.Errorf("%s: Close took %v, want %v", name, got, test.want)
			}
			b[2].Close()
			if r := <-w[2]; r.err == nil != (name == "the other passes") || r.err != nil && !errors.Is(r.err, net.ErrClosed) {
				t.Errorf("%s: its Wait says %v", name, r.err)
			}
		})
	}
}

// A peer makes up a new fingerprint for each answer. What is logged of it is bounded, short
// and fit for a terminal, and does not hide another peer's mismatch.
func TestMadeUpFingerprints(t *testing.T) {
	onNetwork(t, func(t *testing.T, n *network) {
		ctx := within(t, 5*time.Second)
		var told atomic.Int64
		go control.Serve(ctx, n.listen("1"), control.Hello("nodes", 1, ""), 1, func(q wire.Control) (wire.Control, bool) {
			q.From, q.To, q.Incarnation, q.Ready = 1, 0, 7, true
			q.Fingerprint = fmt.Sprintf("ours=%d\x1b[2J\n%s", told.Add(1), strings.Repeat("\x07", 2000))
			return q, true
		})
		w0 := wait(ctx, n.join("nodes", 0, 3))
		<-time.After(3 * time.Second) // the clock is synctest's
		w2 := wait(ctx, n.join("nodes", 2, 3, func(c *Config) { c.Fingerprint = "ours=too" }))
		r0 := <-w0
		<-w2
		if got := strings.Count(n.log.String(), "WARN"); got != maxReasons+1 {
			t.Errorf("%d mismatches were logged, want %d of the liar and one of the other", got, maxReasons)
		}
		if !strings.Contains(n.log.String(), `node 2 (2): the two ends disagree: ours is \"\" here, too there: `) {
			t.Errorf("the mismatch of node 2 is not in\n%s", &n.log)
		}
		for _, line := range append(slices.Collect(strings.Lines(n.log.String())), r0.err.Error()) {
			if len(line) > 500 || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\x07\n") {
				t.Errorf("%d bytes, or unfit for a terminal: %q", len(line), line)
			}
		}
	})
}

// An answer counts only if every field is right. What differs is said, and what to do about it.
func TestStray(t *testing.T) {
	const ours, other = "version=1\nstage=s4\nnodes[0].addr=10.0.0.7:7001\n", ": give both the same properties.json and flags"
	another := func(old, new string) func(*wire.Control) {
		return func(m *wire.Control) { m.Fingerprint = strings.Replace(ours, old, new, 1) }
	}
	for want, spoil := range map[string]func(*wire.Control){
		"this is number 1 of nodes, and answers number 0 about round 1": func(m *wire.Control) { m.Kind = wire.Stats },
		"number 1 of clients, ": func(m *wire.Control) { m.Group = "clients" },
		"about round 2":         func(m *wire.Control) { m.Round = 2 },
		"this is number 0":      func(m *wire.Control) { m.From = 0 },
		"answers number 2":      func(m *wire.Control) { m.To = 2 },
		"<nil>":                 func(m *wire.Control) { m.Ready = false },
		"disagree: version is 1 here, 2 there: build both from one source": another("1", "2"),
		"stage is s4 here, a b there: start the same stage on both":        another("s4", "a b"),
		"nodes[0].addr is 10.0.0.7:7001 here, 10.0.0.8:7001 there" + other: another("0.7", "0.8"),
		"the configuration" + other:                                        func(m *wire.Control) { m.Fingerprint += "more" },
	} {
		c := core{group: "nodes", fingerprint: ours, incarnation: 10, heard: make([]wire.Control, 2)}
		c.arrive(nil)
		good := wire.Control{Kind: wire.Barrier, Group: "nodes", Fingerprint: ours, Round: 1, From: 1,
			Incarnation: 20, Ready: true, Seen: []uint64{10, 20}, Passed: true}
		stray := good
		spoil(&stray)
		if err := c.learn(1, stray); !strings.Contains(fmt.Sprint(err), want) || c.passed {
			t.Errorf("an answer is taken for %v, passed %v; want it to be ignored: %s", err, c.passed, want)
		}
		if err := c.learn(1, good); err != nil || !c.passed {
			t.Errorf("then a good one: error %v, passed %v; want it to pass", err, c.passed)
		}
	}
}
