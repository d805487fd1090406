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
	next   chan any
	asked  []time.Time     // when Accept was called
	closed context.Context // ends in Close
	end    context.CancelFunc
}

func newListener(next ...any) *listener {
	ln := &listener{next: make(chan any, 100)}
	ln.closed, ln.end = context.WithCancel(context.Background())
	for _, x := range next {
		ln.next <- x
	}
	return ln
}

func (ln *listener) Accept() (net.Conn, error) {
	ln.asked = append(ln.asked, time.Now())
	select {
	case x := <-ln.next:
		if err, ok := x.(error); ok {
			return nil, err
		}
		return x.(net.Conn), nil
	case <-ln.closed.Done():
		return nil, net.ErrClosed
	}
}

func (ln *listener) Close() error   { ln.end(); return nil }
func (ln *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7001} }

// accepting is what a listener's Accept returns for an error of the system.
func accepting(err syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
}

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

// Without free descriptors Accept tries less and less often, and logs it once a second.
func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newNode(nil)
		near, far := net.Pipe()
		gone, left := net.Pipe()
		gone.Close()
		ln := newListener(slices.Repeat([]any{accepting(syscall.EMFILE)}, 12)...)
		ln.next <- left // accepted, though the client has gone: there are descriptors again
		ln.next <- accepting(syscall.ENOBUFS)
		ln.next <- far
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
		if got := log.lines(); len(got) != 7 || !strings.Contains(unwrap(got[0]), "too many open files") || !strings.Contains(got[1], "and 7 more") {
			t.Errorf("logged:\n%s\nwant 6 lines about errors and one about the client", strings.Join(got, ""))
		}
		if s := n.Stats.Snapshot(); !maps.Equal(s.Errors, map[string]int64{"accept": 13, "lost": 1}) || s.Connections != 2 || s.Open != 1 {
			t.Errorf("counted %v, %d connections, %d open, want 13 of accept and one lost, 2, 1", s.Errors, s.Connections, s.Open)
		}
		c.Close()
		near.Close()
	})
}

// A slowListener takes a millisecond to close.
type slowListener struct{ *listener }

func (ln slowListener) Close() error {
	<-time.After(time.Millisecond)
	return ln.listener.Close()
}

// The end of its context ends Accept, also in a pause and before it begins. It returns when the
// listener is closed: otherwise clients would wait for a greeting that never comes.
func TestAcceptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNode(nil)
		for _, ln := range []*listener{newListener(), newListener(accepting(syscall.EMFILE), accepting(syscall.EMFILE))} {
			ctx, cancel := context.WithCancel(t.Context())
			begin := time.Now()
			time.AfterFunc(6*time.Millisecond, cancel)
			for _, want := range []time.Duration{7 * time.Millisecond, 8 * time.Millisecond} {
				c, err := n.Accept(ctx, slowListener{ln})
				if took := time.Since(begin); c != nil || err != ErrStopped || took != want || len(ln.asked) > 2 || ln.closed.Err() == nil {
					t.Errorf("Accept: %v, %v after %v and %d tries, closed %v, want %v after %v, at most 2, and closed",
						c, err, took, len(ln.asked), ln.closed.Err(), ErrStopped, want)
				}
			}
		}
		if s := n.Stats.Snapshot(); s.Errors["accept"] != 2 || len(s.Errors) != 1 {
			t.Errorf("counted %v, want the two errors before the pauses", s.Errors)
		}
	})
}

// It also ends the wait for a place among strangers, and those who have one keep it.
func TestAcceptEndsAmongStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNode(func(c *cluster.Config) { c.Secret = theSecret })
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

// What net/http takes for temporary and what the system reports of a client, a network or
// its memory may pass; an error because the listener is closed does not.
func TestPasses(t *testing.T) {
	all := map[error]bool{os.ErrDeadlineExceeded: true, net.ErrClosed: false, io.ErrClosedPipe: false}
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.EPROTO, syscall.ENETDOWN, syscall.EBADF, syscall.EINVAL} {
		all[accepting(errno)] = errno != syscall.EBADF && errno != syscall.EINVAL
	}
	for err, want := range all {
		if got := passes(err); got != want {
			t.Errorf("%v may pass: %v, want %v", err, got, want)
		}
	}
}

// An error that does not pass is returned, and ends the connections.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newNode(nil)
		c, client := connect(t, n, t.Context())
		broken := errors.New("broken")
		got, err := n.Accept(t.Context(), newListener(broken))
		if got != nil || !errors.Is(err, broken) || !strings.Contains(err.Error(), "127.0.0.1:7001") {
			t.Errorf("Accept: %v, %v, want the error and the address", got, err)
		}
		if c.Ready() || c.Err() != wire.ErrStopped {
			t.Errorf("a connection goes on (%v)", c.Err())
		}
		go c.Close()
		var r wire.Response
		if client.ReadResponse(&r); r.Code != wire.Goodbye {
			t.Errorf("its client reads %v, want goodbye", r.Code)
		}
	})
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
		{"", "proves nothing", 2 * time.Second, "slow", "too long"},
		{string(request), "reads nothing", limits.WriteTimeout, "lost", "timeout"},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, log := newNode(func(c *cluster.Config) {
				if test.then == "proves nothing" {
					c.Secret = theSecret
				}
			})
			near, far := net.Pipe()
			var client sync.WaitGroup
			client.Go(func() { // ends when the connection does
				io.ReadFull(near, make([]byte, 64)) // the greeting
				io.WriteString(near, test.sends)
				if test.then == "reads nothing" {
					<-time.After(2 * limits.WriteTimeout)
				}
				if test.then != "leaves" {
					io.Copy(io.Discard, near)
				}
				near.Close()
			})
			c, err := n.Accept(t.Context(), newListener(far))
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			serveConn(n, c, missing)
			if took := time.Since(begin); took != test.after {
				t.Errorf("%+v: ended after %v", test, took)
			}
			client.Wait()
			want := map[string]int64{test.want: 1}
			delete(want, "")
			if s := n.Stats.Snapshot(); !maps.Equal(s.Errors, want) || s.Open != 0 || s.Connections != 1 {
				t.Errorf("%+v: counted %v, %d of %d open, want %v, 0 of 1", test, s.Errors, s.Open, s.Connections, want)
			}
			if got := log.lines(); len(got) != len(want) || !strings.Contains(unwrap(strings.Join(got, "")), test.says) {
				t.Errorf("%+v: logged %q, want %d lines with %q", test, got, len(want), test.says)
			}
			if err := c.Close(); !errors.Is(err, net.ErrClosed) || n.Stats.Open.Load() != 0 {
				t.Errorf("%+v: the second Close: %v, and then %d open", test, err, n.Stats.Open.Load())
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
		c, client := connect(t, n, t.Context())
		var applied, turns []int
		var served sync.WaitGroup
		served.Go(func() { // ends with the connection
			for c.Ready() {
				ops := 0
				n.Answer(c, func(request []wire.Op) []wire.Result {
					applied, ops = append(applied, len(request)), ops+len(request)
					return slices.Repeat([]wire.Result{{Status: wire.Found, Value: make([]byte, test.value)}}, len(request))
				})
				turns = append(turns, ops)
				c.Flush()
			}
		})
		var requests [][]wire.Op
		sum := 0
		for _, ops := range test.requests {
			requests = append(requests, slices.Repeat(get("k"), ops))
			sum += ops
		}
		codes := send(client, requests...)
		client.Close()
		served.Wait()
		if !slices.Equal(codes, slices.Repeat([]wire.Code{wire.OK}, len(requests))) || !slices.Equal(applied, test.requests) || !slices.Equal(turns, test.want) {
			t.Errorf("requests of %v operations: answers %v, applied %v, in turns of %v, want turns of %v", test.requests, codes, applied, turns, test.want)
		}
		if s := n.Stats.Snapshot(); s.Requests != int64(len(requests)) || s.Ops != int64(sum) || s.QueueWait.Count != int64(len(turns)) || s.Turn.Count != int64(len(turns)) || s.Turn.Total <= 0 {
			t.Errorf("counted %d requests, %d operations, %d turns begun, %+v ended, want %d, %d, %d, %[7]d", s.Requests, s.Ops, s.QueueWait.Count, s.Turn, len(requests), sum, len(turns))
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
			case "error":
				return []wire.Result{}[:len(ops)]
			case "few":
				return missing(ops[1:])
			case "many":
				return missing(append(ops, ops...))
			}
			return missing(ops)
		})
		want := []wire.Code{wire.Failed, wire.OK, wire.Failed, wire.Failed, wire.OK, wire.Failed}
		if got := send(client, get("panic"), get("a"), get("error"), get("few"), get("b"), get("many")); !slices.Equal(got, want) {
			t.Errorf("answered %v, want %v", got, want)
		}
		if s := n.Stats.Snapshot(); s.Panics != 4 || s.Errors["panic"] != 4 || s.Requests != 2 || s.Ops != 2 {
			t.Errorf("counted %d panics, %v, %d requests of %d operations, want 4, 4, 2 of 2", s.Panics, s.Errors, s.Requests, s.Ops)
		}
		lines := log.lines()
		if len(lines) != 1 || !regexp.MustCompile(`node 0: panicked: "at \\x1b\[2J the disco", node/node_test\.go:\d+\n +in node\.TestAnswerRecovers.*, node/node_test\.go:\d+\n$`).MatchString(lines[0]) {
			t.Errorf("logged %q, want one line with the first panic and its place", lines)
		}
		client.Close()
	})
}

// A refused turn is bounded as any other, so its answers stay far within MaxUnsent, and nothing of
// it is applied. A client that ignores Busy waits longer and longer for its next turn, until it is
// served. The end of the context ends the pause.
func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, log := newNode(nil)
		ctx, stop := context.WithCancel(t.Context())
		c, client := connect(t, n, ctx)
		go func() { // ends with the connection
			if got := send(client, slices.Repeat([][]wire.Op{get("k")}, 20)...); !slices.Equal(got, slices.Repeat([]wire.Code{wire.Busy}, 20)) {
				t.Errorf("refused with %v, want busy 20 times", got)
			}
			for send(client, get("k"))[0] != 0 {
			}
		}()
		pauses, last := "", time.Now()
		next := func(do func(), refused int64) {
			if !c.Ready() {
				t.Fatal(c.Err())
			}
			pauses, last = pauses+time.Since(last).String()+" ", time.Now()
			do()
			if got := n.Stats.Refusals.Load(); got != refused || c.Unsent() > wire.MaxUnsent {
				t.Errorf("refused %d requests with %d bytes, want %d", got, c.Unsent(), refused)
			}
			c.Flush()
		}
		refuse := func() { n.Refuse(c) }
		for _, refused := range []int64{turnRequests, 20, 21, 22, 23, 24, 25, 26} {
			next(refuse, refused)
		}
		if s := n.Stats.Snapshot(); s.Requests != 0 || len(s.Errors) != 0 || len(log) != 0 {
			t.Errorf("counted %d requests, %v, logged %q, want 0, nothing, nothing", s.Requests, s.Errors, log.lines())
		}
		next(func() { n.Answer(c, missing) }, 26)
		next(refuse, 27)
		next(refuse, 28)
		time.AfterFunc(time.Microsecond, stop)
		next(refuse, 29)
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
	n, log := newNode(func(c *cluster.Config) { c.Secret, c.Server.MaxConnections = theSecret, 2 })
	n.strangers.Most = 3
	ln := listen(t, "127.0.0.1:0")
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- serve(ctx, ln, n) }()
	reach := func() net.Conn { return dial(t, ln.Addr().String()) }
	client := func(nc net.Conn) (*wire.Conn, []wire.Code) {
		c, err := open(n, nc)
		if err != nil {
			t.Error(err)
			return c, nil
		}
		return c, send(c, get("k"))
	}
	ok := []wire.Code{wire.OK}
	var strangers []net.Conn
	for range 3 {
		nc := reach()
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		io.ReadFull(nc, make([]byte, 64)) // the greeting
		strangers = append(strangers, nc)
	}
	first, got := client(reach()) // the fourth: the oldest gives way
	if count := n.Stats.Open.Load(); !slices.Equal(got, ok) || count != 1 {
		t.Errorf("a client among strangers: %v, %d connections are counted, want %v, 1", got, count, ok)
	}
	if _, err := io.Copy(io.Discard, strangers[0]); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the oldest stranger is still connected")
	}

	// Two more clients, both greeted while there was a place. The one that came last is first to prove itself.
	slow := reach()
	second, got := client(reach())
	if _, refused := client(slow); !slices.Equal(got, ok) || !slices.Equal(refused, []wire.Code{wire.Goodbye}) {
		t.Errorf("of two clients for one place, one is answered %v, want %v, and one %v, want goodbye", got, ok, refused)
	}
	if _, err := open(n, reach()); !errors.Is(err, wire.ErrRefused) || !strings.Contains(err.Error(), "all 2 places are taken") {
		t.Errorf("a client when all places are taken: %v, want %v, since all 2 places are taken", err, wire.ErrRefused)
	}
	first.Close()
	for n.Stats.Open.Load() > 1 {
		runtime.Gosched()
	}
	third, got := client(reach())
	if !slices.Equal(got, ok) {
		t.Errorf("in the freed place: %v, want %v", got, ok)
	}
	stop()
	for _, c := range []io.Closer{slow, second, third} { // for which it would wait
		c.Close()
	}
	if err := <-served; err != ErrStopped {
		t.Errorf("serving ended with %v, want %v", err, ErrStopped)
	}
	s := n.Stats.Snapshot()
	if s.Errors["stranger"] == 0 || s.Errors["max_connections"] != 1 || s.Open != 0 || s.Connections != 8 {
		t.Errorf("counted %v, want strangers that gave way, and one refusal; %d open of %d, want 0 of 8", s.Errors, s.Open, s.Connections)
	}
	if said := unwrap(strings.Join(log.lines(), "")); !containsAll(said, "proved nothing, and gave way", "max_connections") {
		t.Errorf("logged %q, want that a stranger gave way, and max_connections", said)
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
		var wg sync.WaitGroup
		ask := func(bytes int) {
			wg.Go(func() {
				b.take(bytes)
				holding.Add(1)
				<-gate
				holding.Add(-1)
				b.give(bytes)
			})
			synctest.Wait()
		}
		ask(large)
		ask(2 * large) // waits for all of the memory
		ask(large)     // does not overtake it
		if n := holding.Load(); n != 1 {
			t.Errorf("%d hold memory, want only the first", n)
		}
		for range 10 {
			ask(smallRequest)
		}
		if n := holding.Load(); n != 11 {
			t.Errorf("%d hold memory, want the small requests too", n)
		}
		<-time.After(time.Second)
		close(gate)
		wg.Wait()
		if got, want := wait.Load(), (metrics.Timing{Count: 3, Total: 2 * time.Second}); got != want {
			t.Errorf("the large requests waited %+v, want %+v", got, want)
		}
		if b.free != 2*large {
			t.Errorf("%d bytes are free at the end, want %d", b.free, 2*large)
		}
	})
}

// The memory of a request is given back, even after a panic; and the largest possible
// request fits the budget, so that no request waits forever.
func TestBudgetIsGivenBack(t *testing.T) {
	n, _ := newNode(nil)
	cost := 0
	client, ended := connectServed(t, n, func(ops []wire.Op) []wire.Result {
		if cost = max(cost, decodedMemory-n.memory.free); cost == 0 {
			t.Error("a large request holds no memory")
		}
		if ops[0].Absent {
			panic("in the middle")
		}
		return missing(ops)
	})
	largest := make([]wire.Op, wire.MaxOps)
	for i := range largest {
		largest[i] = wire.Op{Kind: wire.CompareAndSwap, Key: "a key of 24 bytes or so..", Value: make([]byte, 14), Old: make([]byte, 14)}
	}
	send(client, largest)
	largest[0].Absent, largest[0].Old = true, nil
	if got := send(client, largest); got[0] != wire.Failed {
		t.Errorf("answered %v, want that it failed", got)
	}
	client.Close()
	<-ended
	if cost < 250<<10 || cost > 288<<10 || n.memory.free != decodedMemory {
		t.Errorf("the largest request costs %d bytes, and %d are free at the end, want 250 to 288 KiB, and %d", cost, n.memory.free, decodedMemory)
	}
}
