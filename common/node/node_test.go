package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// A listener hands out what a test puts into next: connections and errors.
type listener struct {
	next    chan any
	asked   []time.Time   // when Accept was called
	closing time.Duration // how long Close takes
	closed  bool
}

func newListener(next ...any) *listener {
	ln := &listener{next: make(chan any, 100)}
	for _, x := range next {
		ln.next <- x
	}
	return ln
}

func (ln *listener) Accept() (net.Conn, error) {
	ln.asked = append(ln.asked, time.Now())
	x := <-ln.next
	if err, ok := x.(error); ok {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: err}
	}
	return x.(net.Conn), nil
}

func (ln *listener) Close() error {
	<-time.After(ln.closing)
	ln.closed = true
	ln.next <- net.ErrClosed
	return nil
}

func (ln *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7001} }

func newNode(edit func(*cluster.Config)) (*Node, logged) {
	cfg := cluster.Default()
	if edit != nil {
		edit(&cfg)
	}
	log := make(logged, 1000)
	return New(cfg, 0, slog.New(newHandler(log, "stage0"))), log
}

// open is a client's end of nc.
func open(n *Node, nc net.Conn) (*wire.Conn, error) {
	return wire.Open(context.Background(), nc, n.Config.Hello(n.Self), wire.Limits{})
}

// connect has n accept a connection, and returns both ends.
func connect(t testing.TB, n *Node, ctx context.Context) (*Conn, *wire.Conn) {
	t.Helper()
	near, far := net.Pipe()
	opened := make(chan *wire.Conn)
	go func() {
		c, err := open(n, near)
		if err != nil {
			t.Errorf("opening a connection: %v", err)
		}
		opened <- c
	}()
	c, err := n.Accept(ctx, newListener(far))
	if err != nil {
		t.Fatal(err)
	}
	return c, <-opened
}

// connectServed has n accept a connection and serve it, as a stage does. It returns the
// client's end, and a channel that is closed when the connection has ended.
func connectServed(t *testing.T, n *Node, apply func([]wire.Op) []wire.Result) (client *wire.Conn, ended chan struct{}) {
	c, client := connect(t, n, t.Context())
	ended = make(chan struct{})
	go func() { // ends with the connection
		serveConn(n, c, apply)
		close(ended)
	}()
	return client, ended
}

// send writes requests to c in one go, and reads as many answers.
func send(c *wire.Conn, requests ...[]wire.Op) (codes []wire.Code) {
	for _, ops := range requests {
		c.WriteRequest(&wire.Request{Ops: ops})
	}
	c.Flush()
	for range requests {
		var r wire.Response
		c.ReadResponse(&r) // a Code of 0 where there is no answer
		codes = append(codes, r.Code)
	}
	return codes
}

func get(key string) []wire.Op { return []wire.Op{{Kind: wire.Get, Key: key}} }

func missing(ops []wire.Op) []wire.Result {
	return slices.Repeat([]wire.Result{{Status: wire.Missing}}, len(ops))
}

// After an error that may pass, Accept tries again, less and less often, and logs it once a second: what
// net/http takes for temporary, and what the system reports of a client, a network or its memory.
func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newNode(nil)
		near, far := net.Pipe()
		gone, left := net.Pipe()
		gone.Close()
		ln := newListener(syscall.EMFILE, os.ErrDeadlineExceeded, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED,
			syscall.EPROTO, syscall.ENETDOWN, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE,
			left, // accepted, though the client has gone: there are descriptors again
			syscall.ENOBUFS, far)
		go open(n, near)
		c, err := n.Accept(t.Context(), ln)
		if err != nil {
			t.Fatalf("Accept: %v, want the connection after the errors", err)
		}
		var pauses []string
		for i := range ln.asked[1:] {
			pauses = append(pauses, ln.asked[i+1].Sub(ln.asked[i]).String())
		}
		if got, want := strings.Join(pauses, " "), "5ms 10ms 20ms 40ms 80ms 160ms 320ms 640ms 1s 1s 1s 1s 0s 5ms"; got != want {
			t.Errorf("pauses of %s, want %s", got, want)
		}
		// Errors were at 0, .005, .015, ..., .635, 1.275, 2.275, ..., 5.275 s.
		if got := log.lines(); len(got) != 7 || !containsAll(unwrap(got[0]+got[1]), "too many open files", "and 7 more") {
			t.Errorf("logged:\n%s\nwant 6 lines about errors and one about the client", strings.Join(got, ""))
		}
		s := n.Stats.Snapshot()
		if got := fmt.Sprint(s.Errors, s.Connections, s.Open); got != "map[accept:13 lost:1] 2 1" {
			t.Errorf("counted %s (errors, connections, open), want 13 of accept and one lost, 2, 1", got)
		}
		c.Close()
		near.Close()
	})
}

// The end of its context ends Accept, also in a pause and before it begins. It returns when the
// listener is closed: otherwise clients would wait for a greeting that never comes.
func TestAcceptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNode(nil)
		for _, ln := range []*listener{newListener(), newListener(syscall.EMFILE, syscall.EMFILE)} {
			ln.closing = time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Millisecond)
			defer cancel()
			begin := time.Now()
			for _, want := range []time.Duration{7 * time.Millisecond, 8 * time.Millisecond} {
				c, err := n.Accept(ctx, ln)
				if took := time.Since(begin); c != nil || err != ErrStopped || took != want || len(ln.asked) > 2 || !ln.closed {
					t.Errorf("Accept: %v, %v after %v and %d tries, closed %v, want %v after %v, at most 2, and closed",
						c, err, took, len(ln.asked), ln.closed, ErrStopped, want)
				}
			}
		}

		// The end of the context ends the wait for a place among the strangers, who stay.
		n, _ = newNode(func(c *cluster.Config) { c.Secret = theSecret })
		n.strangers.Most = 1
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		begin := time.Now()
		var conns []*Conn
		for range 2 {
			near, far := net.Pipe()
			go io.Copy(io.Discard, near) // ends with the connection
			c, _ := n.Accept(ctx, newListener(far))
			conns = append(conns, c)
		}
		took := time.Since(begin)
		for _, c := range conns {
			serveConn(n, c, missing)
		}
		if s := n.Stats.Snapshot(); took != time.Millisecond || len(s.Errors) > 0 {
			t.Errorf("Accept waited %v and ended connections: %v; want 1ms, until its context ended, and none", took, s.Errors)
		}
	})
}

// An error that does not pass, as that of a closed listener, is returned, and ends the connections.
func TestAcceptFails(t *testing.T) {
	for _, broken := range []error{net.ErrClosed, io.ErrClosedPipe, syscall.EBADF, syscall.EINVAL} {
		synctest.Test(t, func(t *testing.T) {
			n, _ := newNode(nil)
			c, _ := connect(t, n, t.Context())
			got, err := n.Accept(t.Context(), newListener(broken))
			if got != nil || !errors.Is(err, broken) || !strings.Contains(err.Error(), "127.0.0.1:7001") {
				t.Errorf("Accept: %v, %v, want the error %v and the address", got, err, broken)
			}
			if c.Ready() || c.Err() != wire.ErrStopped {
				t.Errorf("%v: a connection goes on (%v)", broken, c.Err())
			}
		})
	}
}

// The end of a connection is counted by its kind, and logged unless it is ordinary.
func TestEndsOfConnections(t *testing.T) {
	limits := cluster.Default().Server
	request, _ := wire.AppendRequest(nil, &wire.Request{Ops: get("k")})
	for _, test := range []struct {
		sends, then string // then it leaves, waits, or does not even read
		after       time.Duration
		want        string // the kind of error; empty: none
		says        string
	}{
		{"", "leaves", 0, "", ""},
		{"", "waits", limits.IdleTimeout, "", ""},
		{"\x00\x00\x00\x08half", "leaves", 0, "lost", "unexpected EOF"},
		{"\x00\x00\x00\x08half", "waits", limits.FrameTimeout, "slow", "too long"},
		{"\x00\x00\x00\x03abc", "waits", 0, "malformed", "reading a request"},
		{string(make([]byte, 64)), "proves nothing", 0, "secret", "does not know the secret"},
		{string(request), "reads nothing", limits.WriteTimeout, "lost", "timeout"},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, log := newNode(nil)
			if test.then == "proves nothing" {
				n.Config.Secret = theSecret
			}
			near, far := net.Pipe()
			go func() { // ends when the connection does
				io.ReadFull(near, make([]byte, 64)) // the greeting
				io.WriteString(near, test.sends)
				if test.then == "reads nothing" {
					<-t.Context().Done()
				}
				if test.then != "leaves" {
					io.Copy(io.Discard, near)
				}
				near.Close()
			}()
			c, _ := n.Accept(t.Context(), newListener(far))
			begin := time.Now()
			serveConn(n, c, missing)
			took, again := time.Since(begin), c.Close()
			want := map[string]int64{test.want: 1}
			delete(want, "")
			s, lines := n.Stats.Snapshot(), log.lines()
			if took != test.after || !maps.Equal(s.Errors, want) || s.Open != 0 || s.Connections != 1 || !errors.Is(again, net.ErrClosed) {
				t.Errorf("%+v: ended after %v, counted %v, %d of %d open, and the second Close: %v",
					test, took, s.Errors, s.Open, s.Connections, again)
			}
			if len(lines) != len(want) || !strings.Contains(unwrap(strings.Join(lines, "")), test.says) {
				t.Errorf("%+v: logged %q, want %d lines", test, lines, len(want))
			}
		})
	}
}

// A turn answers the requests that have arrived, in order: at most 16, and at most 64 operations
// beyond the first request. It ends when 64 KiB of answers are unsent, so its memory is bounded.
func TestTurns(t *testing.T) {
	for _, test := range []struct {
		requests []int // the operations in each
		value    int   // the bytes in each result
		want     []int // the operations in each turn
	}{
		{[]int{1, 2, 1}, 0, []int{4}},
		{slices.Repeat([]int{1}, 40), 0, []int{16, 16, 8}},
		{[]int{70, 30, 30, 4, 1}, 0, []int{134, 1}},
		{[]int{1, 60, 5, 1}, 0, []int{61, 6}},
		{[]int{70, 65}, 0, []int{70, 65}},
		{[]int{1, 1, 1, 1, 1, 1}, wire.MaxValue, []int{4, 2}},
	} {
		n, _ := newNode(nil)
		var applied, turns []int
		client, ended := connectServed(t, n, func(ops []wire.Op) []wire.Result {
			if applied = append(applied, len(ops)); int64(len(turns)) < n.Stats.QueueWait.Load().Count { // of turns begun
				turns = append(turns, 0)
			}
			turns[len(turns)-1] += len(ops)
			return slices.Repeat([]wire.Result{{Status: wire.Found, Value: make([]byte, test.value)}}, len(ops))
		})
		var requests [][]wire.Op
		for _, ops := range test.requests {
			requests = append(requests, slices.Repeat(get("k"), ops))
		}
		send(client, requests...)
		client.Close()
		<-ended
		if !slices.Equal(applied, test.requests) || !slices.Equal(turns, test.want) {
			t.Errorf("requests of %v operations: applied %v, in turns of %v, want turns of %v", test.requests, applied, turns, test.want)
		}
		if took := n.Stats.Turn.Load(); took.Count != int64(len(turns)) || took.Total <= 0 {
			t.Errorf("counted %+v, want %d turns, and their time", took, len(turns))
		}
	}
}

// A request with a key of another node is refused as a whole.
func TestWrongNode(t *testing.T) {
	n, _ := newNode(func(c *cluster.Config) { c.Nodes = make([]cluster.Node, 2) })
	client, ended := connectServed(t, n, missing)
	keys := [2][]wire.Op{} // by node
	for i := range 100 {
		key := fmt.Sprint("key", i)
		keys[n.Config.Owner(key)] = get(key)
	}
	got := send(client, keys[0], keys[1], slices.Concat(keys[0], keys[1]))
	if want := []wire.Code{wire.OK, wire.WrongNode, wire.WrongNode}; !slices.Equal(got, want) {
		t.Errorf("a key of node 0, one of node 1, and both: node 0 answers %v, want %v", got, want)
	}
	client.Close()
	<-ended
}

// A request that panics affects no other request, and its panic is logged with its place.
func TestAnswerRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newNode(nil)
		client, _ := connectServed(t, n, func(ops []wire.Op) []wire.Result {
			switch ops[0].Key {
			case "panic":
				panic("at \x1b[2J the disco")
			case "few":
				return missing(ops[1:])
			case "many":
				return missing(append(ops, ops...))
			}
			return missing(ops)
		})
		want := []wire.Code{wire.Failed, wire.OK, wire.Failed, wire.OK, wire.Failed}
		if got := send(client, get("panic"), get("a"), get("few"), get("b"), get("many")); !slices.Equal(got, want) {
			t.Errorf("answered %v, want %v", got, want)
		}
		if s := n.Stats.Snapshot(); s.Panics != 3 || s.Errors["panic"] != 3 || s.Requests != 2 || s.Ops != 2 {
			t.Errorf("counted %d panics, %v, %d requests of %d operations, want 3, 3, 2 of 2", s.Panics, s.Errors, s.Requests, s.Ops)
		}
		const at = `, node/node_test\.go:\d+\n`
		said := regexp.MustCompile(`^.* node 0: panicked: "at \\x1b\[2J the disco"` + at + ` +in node\.TestAnswerRecovers.*` + at + `$`)
		if got := strings.Join(log.lines(), ""); !said.MatchString(got) {
			t.Errorf("logged %q, want one line with the first panic and its place", got)
		}
		client.Close()
	})
}

// A refused turn has at most 16 requests, as any other. A client that ignores Busy waits longer
// and longer for its next turn, until it is served. The end of the context ends the pause.
func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNode(nil)
		ctx, stop := context.WithCancel(t.Context())
		c, client := connect(t, n, ctx)
		go func() { // ends with the connection
			got, want := send(client, slices.Repeat([][]wire.Op{get("k")}, 20)...), slices.Repeat([]wire.Code{wire.Busy}, 20)
			if !slices.Equal(got, want) {
				t.Errorf("refused with %v, want %v", got, want)
			}
			for send(client, get("k"))[0] != 0 {
			}
		}()
		pauses, last := "", time.Now()
		inTurn := func(do func(*Conn)) {
			if !c.Ready() {
				t.Fatal(c.Err())
			}
			pauses, last = pauses+time.Since(last).String()+" ", time.Now()
			do(c)
			c.Flush()
		}
		inTurn(n.Refuse)
		if got := n.Stats.Refusals.Load(); got != 16 {
			t.Errorf("refused %d requests in a turn, want 16", got)
		}
		for range 7 {
			inTurn(n.Refuse)
		}
		inTurn(func(c *Conn) { n.Answer(c, missing) })
		inTurn(n.Refuse)
		inTurn(n.Refuse)
		time.AfterFunc(time.Microsecond, stop)
		inTurn(n.Refuse)
		if want := "0s 1ms 2ms 4ms 8ms 16ms 32ms 32ms 32ms 0s 1ms 1µs "; pauses != want {
			t.Errorf("turns after %s, want %s", pauses, want)
		}
		client.Close()
		c.Close()
	})
}

// Strangers take no place of a client that knows the secret, however many they are: the oldest
// of them give way. Clients beyond max_connections are refused even if they were greeted before,
// until there is a place again.
func TestStrangersGiveWay(t *testing.T) {
	t.Parallel()
	n, _ := newNode(func(c *cluster.Config) { c.Secret, c.Server.MaxConnections = theSecret, 2 })
	n.strangers.Most = 3
	ln := listen(t, "127.0.0.1:0")
	ctx, stop := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() { serve(ctx, ln, n) }) // ends at stop
	reach := func() net.Conn {
		nc := dial(t, ln.Addr().String())
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		return nc
	}
	client := func(nc net.Conn, want wire.Code, what string) *wire.Conn {
		t.Helper()
		c, err := open(n, nc)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := send(c, get("k"))[0]; got != want {
			t.Errorf("%s is answered %v, want %v", what, got, want)
		}
		return c
	}
	oldest := reach()
	for _, nc := range []net.Conn{oldest, reach(), reach()} {
		io.ReadFull(nc, make([]byte, 64)) // the greeting
	}
	first := client(reach(), wire.OK, "a client, the fourth stranger")
	if _, err := io.Copy(io.Discard, oldest); errors.Is(err, os.ErrDeadlineExceeded) || n.Stats.Open.Load() != 1 {
		t.Errorf("the oldest stranger: %v, and %d connections are counted, want its end, and 1", err, n.Stats.Open.Load())
	}

	// Two more clients, both greeted while there was a place. The one that came last is first to prove itself.
	slow := reach()
	second := client(reach(), wire.OK, "the first of two for one place")
	client(slow, wire.Goodbye, "the second of two for one place")
	if _, err := open(n, reach()); !errors.Is(err, wire.ErrRefused) || !strings.Contains(err.Error(), "all 2 places are taken") {
		t.Errorf("a client when all places are taken: %v, want %v, since all 2 places are taken", err, wire.ErrRefused)
	}
	first.Close()
	for n.Stats.Open.Load() > 1 {
		runtime.Gosched()
	}
	third := client(reach(), wire.OK, "a client in the freed place")
	stop()
	for _, c := range []io.Closer{slow, second, third} { // for which it would wait
		c.Close()
	}
	served.Wait()
	if s := n.Stats.Snapshot(); s.Errors["stranger"] == 0 || s.Errors["max_connections"] != 1 || s.Open != 0 || s.Connections != 8 {
		t.Errorf("counted %v, %d open of %d, want strangers that gave way, one refusal, 0 of 8", s.Errors, s.Open, s.Connections)
	}
}

// Large requests wait for memory in the order in which they came; small ones do not wait.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const large = 4 * smallRequest
		var wait metrics.Timer
		b := newBudget(2*large, &wait)
		var holding atomic.Int32
		gate := make(chan struct{})
		ask := func(bytes int, want int32, what string) {
			go func() { // ends after the gate is open
				b.take(bytes)
				holding.Add(1)
				<-gate
				b.give(bytes)
			}()
			synctest.Wait()
			if got := holding.Load(); got != want {
				t.Errorf("%d hold memory, want %s", got, what)
			}
		}
		ask(large, 1, "only the first")
		ask(2*large, 1, "only the first: this one needs all of the memory")
		ask(large, 1, "only the first: this one does not overtake the other")
		for i := range int32(10) {
			ask(smallRequest, 2+i, "the small requests too")
		}
		<-time.After(time.Second)
		close(gate)
		synctest.Wait()
		if got, want := wait.Load(), (metrics.Timing{Count: 3, Total: 2 * time.Second}); got != want || b.free != 2*large {
			t.Errorf("the large requests waited %+v, and %d bytes are free at the end, want %+v, and %d", got, b.free, want, 2*large)
		}
	})
}

// The memory of a request is given back, even after a panic; and the largest possible
// request fits the budget, so that no request waits forever.
func TestBudgetIsGivenBack(t *testing.T) {
	n, _ := newNode(nil)
	cost, calls := 0, 0
	client, ended := connectServed(t, n, func(ops []wire.Op) []wire.Result {
		if cost = max(cost, decodedMemory-n.memory.free); cost == 0 {
			t.Error("a large request holds no memory")
		}
		if calls++; calls == 2 {
			panic("in the middle")
		}
		return missing(ops)
	})
	largest := slices.Repeat([]wire.Op{
		{Kind: wire.CompareAndSwap, Key: "a key of 24 bytes or so..", Value: make([]byte, 14), Old: make([]byte, 14)}}, wire.MaxOps)
	if got := slices.Concat(send(client, largest), send(client, largest)); !slices.Equal(got, []wire.Code{wire.OK, wire.Failed}) {
		t.Errorf("answered %v, want ok, and that the second failed", got)
	}
	client.Close()
	<-ended
	if cost < 250<<10 || cost > 288<<10 || n.memory.free != decodedMemory {
		t.Errorf("the largest request costs %d bytes, want 250 to 288 KiB; %d of %d are free at the end",
			cost, n.memory.free, decodedMemory)
	}
}
