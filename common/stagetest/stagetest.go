// Package stagetest is the conformance suite of the stages: what every server of
// this table promises, whatever goes on inside it. A stage's own test hands it
// its serve function:
//
//	func TestStage(t *testing.T) { stagetest.Run(t, serve) }
//
// Clients of the suite take turns where they must, so that a stage that serves
// one client at a time passes too.
package stagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/stagetest/faults"
	"lockstep/common/wire"
)

// Run holds a stage to the promises that all stages make, one subtest each.
func Run(t *testing.T, serve node.Serve) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, node.Serve)
	}{
		{"Operations", testOperations},
		{"Batches", testBatches},
		{"BatchesAreAtomic", testBatchesAreAtomic},
		{"CountersLoseNoIncrement", testCounters},
		{"MoneyIsConserved", testMoney},
		{"AnswersInOrder", testAnswersInOrder},
		{"Limits", testLimits},
		{"WrongNode", testWrongNode},
		{"BusyMeansNotApplied", testBusy},
		{"GarbageHarmsNobodyElse", testGarbage},
		{"SlowSenderIsEnded", testSlowSender},
		{"MaxConnections", testMaxConnections},
		{"DrainAnswersWhatHasArrived", testDrain},
		{"StopEndsIdleClients", testStopIdle},
		{"ListenerThatFails", testListenerFails},
		{"CutsAtEveryByte", testCuts},
		{"AnswersThatDisappear", testHole},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, serve) })
	}
}

// A stage is one that serves, inside the test, a cluster of its own.
type stage struct {
	t      *testing.T
	cfg    cluster.Config
	nodes  []*node.Node
	cancel context.CancelFunc
	served sync.WaitGroup
}

// start runs serve as every node of a cluster, configured by edit, until the end
// of the test.
func start(t *testing.T, serve node.Serve, edit func(*cluster.Config)) *stage {
	t.Helper()
	return startBehind(t, serve, edit, func(addr string) string { return addr })
}

// startBehind is start, where clients connect to a node at the address that front
// returns for its real one.
func startBehind(t *testing.T, serve node.Serve, edit func(*cluster.Config), front func(addr string) string) *stage {
	t.Helper()
	s := &stage{t: t, cfg: cluster.Default()}
	if edit != nil {
		edit(&s.cfg)
	}
	listeners := make([]net.Listener, len(s.cfg.Nodes))
	for i := range s.cfg.Nodes {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i] = ln
		s.cfg.Nodes[i] = cluster.Node{Addr: front(ln.Addr().String()), Control: fmt.Sprintf("127.0.0.1:%d", 1+i)}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for i, ln := range listeners {
		n := node.New(s.cfg, i, slog.New(slog.NewTextHandler(t.Output(), nil)))
		s.nodes = append(s.nodes, n)
		s.served.Go(func() { // ends after stop
			if err := serve(ctx, ln, n); err != nil {
				t.Errorf("serve returned %v, want nil at the end of its context", err)
			}
		})
	}
	t.Cleanup(func() {
		s.stop()
		noneLeft(t, serve)
	})
	return s
}

// stop ends the stage, and waits until serve has returned on every node.
func (s *stage) stop() {
	s.cancel()
	s.served.Wait()
	for i, n := range s.nodes {
		if open := n.Stats.Open.Load(); open != 0 {
			s.t.Errorf("node %d: serve has returned with %d connections open", i, open)
		}
	}
}

// noneLeft fails the test if a goroutine of the stage's package runs on.
func noneLeft(t *testing.T, serve node.Serve) {
	t.Helper()
	name := runtime.FuncForPC(reflect.ValueOf(serve).Pointer()).Name()
	pkg := name[:strings.LastIndex(name, "/")+1]
	pkg += strings.SplitAfter(strings.TrimPrefix(name, pkg), ".")[0]
	var left []string
	for range 1000 { // a goroutine that has told its WaitGroup may need a moment to be gone
		left = nil
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(stack, pkg) && !strings.Contains(stack, "testing.tRunner") {
				left = append(left, stack)
			}
		}
		if left == nil {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("serve has returned, and left behind:\n%s", strings.Join(left, "\n\n"))
}

// client returns a new client of the stage. Whoever is done with it closes it:
// others may be waiting.
func (s *stage) client() *client.Client {
	s.t.Helper()
	cl, err := client.Dial(s.t.Context(), s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return cl
}

// dial returns a connection to node i for a test that speaks the protocol itself.
func (s *stage) dial(i int) *wire.Conn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.cfg.Nodes[i].Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := wire.Open(s.t.Context(), nc, wire.Hello{Purpose: wire.Service, Group: "nodes", Number: i, Fingerprint: s.cfg.Fingerprint()}, wire.Limits{})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func get(key string) wire.Op        { return wire.Op{Kind: wire.Get, Key: key} }
func put(key, value string) wire.Op { return wire.Op{Kind: wire.Put, Key: key, Value: []byte(value)} }
func del(key string) wire.Op        { return wire.Op{Kind: wire.Delete, Key: key} }
func cas(key, old, value string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Old: []byte(old), Value: []byte(value)}
}
func insert(key, value string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Absent: true, Value: []byte(value)}
}

// do executes ops, and writes the results as words does.
func do(t *testing.T, cl *client.Client, ops ...wire.Op) string {
	t.Helper()
	results, err := cl.Do(t.Context(), ops...)
	if err != nil {
		t.Errorf("Do(%v): %v", ops, err)
	}
	return words(results)
}

// words writes results like "found:blue missing".
func words(results []wire.Result) string {
	var list []string
	for _, r := range results {
		word := r.Status.String()
		if r.Status == wire.Found {
			word += ":" + string(r.Value)
		}
		list = append(list, word)
	}
	return strings.Join(list, " ")
}

func testOperations(t *testing.T, serve node.Serve) {
	cl := start(t, serve, nil).client()
	defer cl.Close()
	large := strings.Repeat("v", wire.MaxValue)
	for _, step := range []struct {
		op   wire.Op
		want string
	}{
		{get("k"), "missing"},
		{del("k"), "missing"},
		{put("k", "1"), "created"},
		{get("k"), "found:1"},
		{put("k", "2"), "replaced"},
		{get("k"), "found:2"},
		{cas("k", "1", "3"), "mismatch"},
		{get("k"), "found:2"},
		{cas("k", "2", "3"), "swapped"},
		{get("k"), "found:3"},
		{insert("k", "4"), "mismatch"},
		{del("k"), "deleted"},
		{get("k"), "missing"},
		{cas("k", "3", "5"), "mismatch"},
		{insert("k", "6"), "swapped"},
		{get("k"), "found:6"},
		{put("empty", ""), "created"},
		{get("empty"), "found:"},
		{cas("empty", "", "full"), "swapped"},
		{put("large", large), "created"},
		{get("large"), "found:" + large},
		{put(strings.Repeat("k", wire.MaxKey), "v"), "created"},
		{get(strings.Repeat("k", wire.MaxKey)), "found:v"},
		{put("\x00\xff", "bytes"), "created"},
		{get("\x00\xff"), "found:bytes"},
	} {
		if got := do(t, cl, step.op); got != step.want {
			t.Errorf("%v %.20q: %.60s, want %.60s", step.op.Kind, step.op.Key, got, step.want)
		}
	}
	cl.Put(t.Context(), "empty", nil)
	if value, ok, err := cl.Get(t.Context(), "empty"); value == nil || len(value) != 0 || !ok || err != nil {
		t.Errorf("Get of an empty value = %v, %v, %v, want an empty slice that is not nil, true, nil", value, ok, err)
	}
	if swapped, err := cl.CompareAndSwap(t.Context(), "new", nil, []byte("x")); !swapped || err != nil {
		t.Errorf("CompareAndSwap(nil) of a key that is absent = %v, %v, want true, nil", swapped, err)
	}
}

func testBatches(t *testing.T, serve node.Serve) {
	cl := start(t, serve, nil).client()
	defer cl.Close()
	for _, step := range []struct {
		ops  []wire.Op
		want string
	}{
		{[]wire.Op{put("a", "1"), put("b", "2"), get("a"), put("a", "3"), get("a")}, "created created found:1 replaced found:3"},
		{[]wire.Op{get("a"), del("a"), get("a"), del("a"), put("a", "4")}, "found:3 deleted missing missing created"},
		{[]wire.Op{put("a", "lost"), cas("b", "wrong", "x"), get("a")}, "aborted mismatch aborted"},
		{[]wire.Op{get("a"), get("b")}, "found:4 found:2"},
		{[]wire.Op{cas("a", "4", "5"), cas("b", "wrong", "x")}, "aborted mismatch"},
		{[]wire.Op{cas("a", "wrong", "5"), cas("b", "wrong", "x")}, "mismatch mismatch"},
		{[]wire.Op{cas("a", "4", "5"), cas("b", "2", "6"), get("a"), get("b")}, "swapped swapped found:5 found:6"},
		// Checked before anything runs: the put does not make the comparison true, or false.
		{[]wire.Op{put("a", "7"), cas("a", "7", "8")}, "aborted mismatch"},
		{[]wire.Op{put("a", "7"), cas("a", "5", "8"), get("a")}, "replaced swapped found:8"},
		{[]wire.Op{insert("c", "1"), insert("c", "2"), get("c")}, "swapped swapped found:2"},
	} {
		if got := do(t, cl, step.ops...); got != step.want {
			t.Errorf("%v: %s, want %s", step.ops, got, step.want)
		}
	}
	most := make([]wire.Op, wire.MaxOps)
	for i := range most {
		most[i] = put(fmt.Sprint(i%700), fmt.Sprint(i))
	}
	if got, want := do(t, cl, most...), strings.Repeat("created ", 700)+strings.Repeat("replaced ", wire.MaxOps-700); got+" " != want {
		t.Errorf("%d puts: %.80s...", len(most), got)
	}
}

// busyTable is work that makes a store without its lock lose updates.
func busyTable(c *cluster.Config) { c.Server.Work = cluster.Work{Time: 20 * time.Microsecond} }

// Writers store the same value under all keys of a batch; readers must never see two.
func testBatchesAreAtomic(t *testing.T, serve node.Serve) {
	s := start(t, serve, busyTable)
	keys := []string{"a", "b", "c", "d"}
	crowd(8, func(i int) {
		cl := s.client()
		defer cl.Close()
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		for n := range 25 {
			ops := make([]wire.Op, len(keys))
			for j, k := range rng.Perm(len(keys)) { // in any order: locks taken in that order would deadlock
				ops[j] = put(keys[k], fmt.Sprint(i, n))
			}
			do(t, cl, ops...)
			for j, k := range rng.Perm(len(keys)) {
				ops[j] = get(keys[k])
			}
			results, err := cl.Do(t.Context(), ops...)
			for _, r := range results {
				if err != nil || !bytes.Equal(r.Value, results[0].Value) {
					t.Errorf("half of a batch was seen: %q and %q (%v)", results[0].Value, r.Value, err)
				}
			}
		}
	})
}

// crowd runs f n times at once, and returns when all have.
func crowd(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func testCounters(t *testing.T, serve node.Serve) {
	const clients, counters = 8, 100
	s := start(t, serve, busyTable)
	crowd(clients, func(i int) {
		cl := s.client()
		defer cl.Close()
		for c := range counters {
			increment(t, cl, fmt.Sprint("counter", (c+i)%counters))
		}
	})
	cl := s.client()
	defer cl.Close()
	for c := range counters {
		key := fmt.Sprint("counter", c)
		if value, _, err := cl.Get(t.Context(), key); string(value) != fmt.Sprint(clients) || err != nil {
			t.Errorf("%s is %q (%v) after %d increments", key, value, err, clients)
		}
	}
}

// increment adds one to a counter, by comparing and swapping until nobody was faster.
func increment(t *testing.T, cl *client.Client, key string) {
	for {
		old, _, err := cl.Get(t.Context(), key)
		if err != nil {
			t.Errorf("Get: %v", err)
			return
		}
		n := 0
		fmt.Sscan(string(old), &n)
		swapped, err := cl.CompareAndSwap(t.Context(), key, old, fmt.Append(nil, n+1))
		if err != nil {
			t.Errorf("CompareAndSwap: %v", err)
			return
		}
		if swapped {
			return
		}
	}
}

func testMoney(t *testing.T, serve node.Serve) {
	const clients, accounts, transfers, each = 8, 6, 30, 100
	s := start(t, serve, busyTable)
	account := func(i int) string { return fmt.Sprint("account", i) }
	cl := s.client()
	for i := range accounts {
		do(t, cl, put(account(i), fmt.Sprint(each)))
	}
	cl.Close()
	crowd(clients, func(i int) {
		cl := s.client()
		defer cl.Close()
		rng := rand.New(rand.NewPCG(2, uint64(i)))
		for range transfers {
			from, to := rng.IntN(accounts), rng.IntN(accounts-1)
			if to >= from {
				to++
			}
			transfer(t, cl, account(from), account(to), 1+rng.IntN(20))
		}
	})
	cl = s.client()
	defer cl.Close()
	total := 0
	for i := range accounts {
		value, _, err := cl.Get(t.Context(), account(i))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		fmt.Sscan(string(value), &n)
		total += n
	}
	if total != accounts*each {
		t.Errorf("the accounts hold %d in all, want %d", total, accounts*each)
	}
}

// transfer moves an amount by a batch of two CompareAndSwaps: both, or neither.
func transfer(t *testing.T, cl *client.Client, from, to string, amount int) {
	for {
		balances, err := cl.Do(t.Context(), get(from), get(to))
		if err != nil {
			t.Errorf("reading balances: %v", err)
			return
		}
		a, b := 0, 0
		fmt.Sscan(string(balances[0].Value), &a)
		fmt.Sscan(string(balances[1].Value), &b)
		moved, err := cl.Do(t.Context(),
			cas(from, string(balances[0].Value), fmt.Sprint(a-amount)), cas(to, string(balances[1].Value), fmt.Sprint(b+amount)))
		if err != nil {
			t.Errorf("moving money: %v", err)
			return
		}
		if moved[0].Status == wire.Swapped {
			return
		}
	}
}

func testAnswersInOrder(t *testing.T, serve node.Serve) {
	c := start(t, serve, nil).dial(0)
	defer c.Close()
	const n = 300
	for i := range n { // all in one write: many turns' worth
		if err := c.WriteRequest(&wire.Request{Ops: []wire.Op{put("k", fmt.Sprint(i)), get("k")}}); err != nil {
			t.Fatal(err)
		}
	}
	c.Flush()
	for i := range n {
		var r wire.Response
		if !c.ReadResponse(&r) {
			t.Fatalf("answer %d of %d: %v", i, n, c.Err())
		}
		if r.Code != wire.OK || string(r.Results[1].Value) != fmt.Sprint(i) {
			t.Fatalf("answer %d of %d is %v %v", i, n, r.Code, r.Results)
		}
	}
}

func testLimits(t *testing.T, serve node.Serve) {
	cl := start(t, serve, nil).client()
	defer cl.Close()
	for _, test := range []struct {
		name string
		ops  []wire.Op
	}{
		{"key of 0 bytes", []wire.Op{get("")}},
		{"key of 251 bytes", []wire.Op{get(strings.Repeat("k", wire.MaxKey+1))}},
		{"value of 16 KiB + 1", []wire.Op{put("k", strings.Repeat("v", wire.MaxValue+1))}},
		{"1025 operations", make([]wire.Op, wire.MaxOps+1)},
		{"operation of no kind", []wire.Op{{Key: "k"}}},
		{"more than a frame", []wire.Op{put("a", strings.Repeat("v", wire.MaxValue)), put("b", strings.Repeat("v", wire.MaxValue)),
			put("c", strings.Repeat("v", wire.MaxValue)), put("d", strings.Repeat("v", wire.MaxValue))}},
	} {
		results, err := cl.Do(t.Context(), test.ops...)
		if err == nil || len(results) != len(test.ops) || results[0].Status != wire.NotRun {
			t.Errorf("%s: %d results, %v, want an error and nothing run", test.name, len(results), err)
		}
	}
	if got := do(t, cl, put("k", "v"), get("k")); got != "created found:v" {
		t.Errorf("after refused requests: %s, want created found:v", got)
	}
}

func testWrongNode(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Nodes = make([]cluster.Node, 2) })
	var keys [2]string // one of each node
	for i := 0; keys[0] == "" || keys[1] == ""; i++ {
		key := fmt.Sprint("key", i)
		keys[s.cfg.Owner(key)] = key
	}
	for i := range s.nodes {
		c := s.dial(i)
		for _, ops := range [][]wire.Op{{put(keys[1-i], "x")}, {put(keys[i], "x"), put(keys[1-i], "x")}} {
			var r wire.Response
			c.WriteRequest(&wire.Request{Ops: ops})
			if c.Flush(); !c.ReadResponse(&r) || r.Code != wire.WrongNode {
				t.Errorf("node %d answers %v (%v) for a key of the other, want wrong node", i, r.Code, c.Err())
			}
		}
		c.Close()
	}
	cl := s.client()
	defer cl.Close()
	if got := do(t, cl, get(keys[0]), put(keys[1], "1"), put(keys[0], "0"), get(keys[1])); got != "missing created created found:1" {
		t.Errorf("a batch over both nodes: %s, want missing created created found:1", got)
	}
}

// A server may say Busy, and then it has not done what it was asked.
func testBusy(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) {
		c.Server.Workers, c.Server.Queue, c.Server.Work.Time = 1, 0, 2*time.Millisecond
	})
	const clients, each = 8, 10
	var refused [clients][each]bool
	crowd(clients, func(i int) {
		cl := s.client()
		defer cl.Close()
		for n := range each {
			results, err := cl.Once(t.Context(), insert(fmt.Sprint(i, "-", n), "x"))
			refused[i][n] = errors.Is(err, client.ErrBusy)
			if err != nil && (!refused[i][n] || results[0].Status != wire.NotRun) {
				t.Errorf("Once: %v %v, want an answer, or NotRun and ErrBusy", results, err)
			}
		}
	})
	cl := s.client()
	defer cl.Close()
	for i := range clients {
		for n := range each {
			_, found, err := cl.Get(t.Context(), fmt.Sprint(i, "-", n))
			if found == refused[i][n] || err != nil {
				t.Errorf("request %d of client %d: refused %v, and then found %v (%v)", n, i, refused[i][n], found, err)
			}
		}
	}
}

func testGarbage(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	for _, garbage := range []string{
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"\x00\x00\x00\x00",
		"\x00\x01\x00\x01",
		"\x00\x00\x00\x05\x04\xff\x82\x01\x00",
		"\xff\xff\xff\xff\xff\xff\xff\xff",
		strings.Repeat("\x00\x00\x00\x01\x00", 100),
	} {
		nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, garbage)
		nc.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, nc); err != nil {
			t.Errorf("%.20q: %v, want the connection closed in order", garbage, err)
		}
		nc.Close()
		cl := s.client()
		if got := do(t, cl, put("k", "v"), del("k")); got != "created deleted" {
			t.Errorf("after %.20q another client's put is %s", garbage, got)
		}
		cl.Close()
	}
	s.stop()
	if got := s.nodes[0].Stats.Snapshot().Errors["malformed"]; got != 7 {
		t.Errorf("%d malformed connections counted, want 7", got)
	}
}

func testSlowSender(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Server.FrameTimeout = 30 * time.Millisecond })
	nc, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "\x00\x00\x00\x10half") // and no more
	cl := s.client()                           // which may have to wait until the server gives up
	if got := do(t, cl, put("k", "v")); got != "created" {
		t.Errorf("beside a slow sender: %s, want created", got)
	}
	cl.Close()
	if _, err := io.Copy(io.Discard, nc); err != nil {
		t.Errorf("the slow sender reads %v, want its connection closed in order", err)
	}
	nc.Close()
	s.stop()
	if got := s.nodes[0].Stats.Snapshot().Errors["slow"]; got != 1 {
		t.Errorf("%d slow connections counted, want 1", got)
	}
}

func testMaxConnections(t *testing.T, serve node.Serve) {
	s := start(t, serve, func(c *cluster.Config) { c.Server.MaxConnections = 1 })
	cl := s.client()
	second, err := net.Dial("tcp", s.cfg.Nodes[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	do(t, cl, put("k", "v"))
	cl.Close() // a stage that serves one client at a time takes the second only now
	greeting, err := io.ReadAll(io.LimitReader(second, 40))
	if !strings.HasPrefix(string(greeting), "lockstep: all 1 places") && !strings.HasPrefix(string(greeting), "lockstep\x00\x01") {
		t.Errorf("a client too many is told %q (%v), want why it is refused, or a greeting", greeting, err)
	}
	second.Close()
	cl = s.client() // tries again until the place is free
	defer cl.Close()
	if got := do(t, cl, get("k")); got != "found:v" {
		t.Errorf("in the freed place: %s, want found:v", got)
	}
}

// Clients write under full load while the server is stopped: what was
// acknowledged was applied, and nobody is left in doubt.
func testDrain(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	const clients = 4
	var acked [clients]int
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done sync.WaitGroup
	var once sync.Once
	loaded := make(chan struct{})
	for i := range clients {
		done.Go(func() {
			cl, err := client.Dial(ctx, s.cfg)
			if err != nil {
				return // one that was never served
			}
			defer cl.Close()
			for n := 0; ; n++ {
				results, err := cl.Do(ctx, put(fmt.Sprint("client", i), fmt.Sprint(n)))
				switch {
				case errors.Is(err, client.ErrUnknown):
					t.Errorf("client %d: %v: a drain must leave nobody in doubt", i, err)
					return
				case err != nil:
					if results[0].Status != wire.NotRun {
						t.Errorf("client %d: %v, status %v, want not run", i, err, results[0].Status)
					}
					return
				}
				if acked[i]++; acked[i] == 200 {
					once.Do(func() { close(loaded) })
				}
			}
		})
	}
	<-loaded
	s.stop()
	var total int
	cancel() // clients that look for the server
	done.Wait()
	for _, n := range acked {
		total += n
	}
	if got := s.nodes[0].Stats.Requests.Load(); got != int64(total) {
		t.Errorf("the server applied %d requests, its clients had %d answers", got, total)
	}
}

func testStopIdle(t *testing.T, serve node.Serve) {
	s := start(t, serve, nil)
	c := s.dial(0)
	defer c.Close()
	var r wire.Response
	c.WriteRequest(&wire.Request{Ops: []wire.Op{put("k", "v")}})
	if c.Flush(); !c.ReadResponse(&r) || r.Code != wire.OK {
		t.Fatalf("answer %v (%v), want ok", r.Code, c.Err())
	}
	s.cancel()
	if !c.ReadResponse(&r) || r.Code != wire.Goodbye {
		t.Errorf("an idle client is told %v (%v), want goodbye", r.Code, c.Err())
	}
	if c.ReadResponse(&r) || c.Err() != io.EOF {
		t.Errorf("after the goodbye: %v, want EOF", c.Err())
	}
	c.Close()
	s.stop()
}

// A listener that fails ends serve with its error, and the clients with it.
func testListenerFails(t *testing.T, serve node.Serve) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := cluster.Default()
	cfg.Nodes[0].Addr = ln.Addr().String()
	n := node.New(cfg, 0, slog.New(slog.NewTextHandler(t.Output(), nil)))
	broken := errors.New("broken")
	failing := &failingListener{Listener: ln, fail: make(chan struct{}), err: broken}
	served := make(chan error)
	go func() { served <- serve(t.Context(), failing, n) }()
	cl, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	do(t, cl, put("k", "v"))
	cl.Close()
	close(failing.fail)
	ln.Close()
	if err := <-served; !errors.Is(err, broken) {
		t.Errorf("serve returned %v, want the listener's error", err)
	}
	noneLeft(t, serve)
}

// A failingListener fails, with err, once fail is closed.
type failingListener struct {
	net.Listener
	fail chan struct{}
	err  error
}

func (l *failingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	select {
	case <-l.fail:
		return nil, l.err
	default:
		return nc, err
	}
}

// startProxied is start behind a proxy, and set says what goes wrong with the next
// connection; those after it are sound.
func startProxied(t *testing.T, serve node.Serve) (s *stage, set func(faults.Fault)) {
	t.Helper()
	var mu sync.Mutex // guards next
	var next faults.Fault
	s = startBehind(t, serve, nil, func(addr string) string {
		proxy, err := faults.NewProxy(addr, func(int) (f faults.Fault) {
			mu.Lock()
			defer mu.Unlock()
			f, next = next, f
			return f
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { proxy.Close() })
		return proxy.Addr()
	})
	return s, func(f faults.Fault) {
		mu.Lock()
		defer mu.Unlock()
		next = f
	}
}

// A request and its answer are cut at every byte. A write that was acknowledged is
// there, one that the client says was not run is not, none is applied twice, and the
// client can be used again at once.
func testCuts(t *testing.T, serve node.Serve) {
	s, set := startProxied(t, serve)
	request, err := wire.AppendRequest(nil, &wire.Request{Ops: []wire.Op{insert("key0000", "value")}})
	if err != nil {
		t.Fatal(err)
	}
	const greeting, answer = 64, 16 // bytes: the answer has fewer
	fates := make(map[wire.Status]int)
	for n, f := range cuts(len(request), greeting+answer) {
		cl := client.New(s.cfg)
		key := fmt.Sprintf("key%04d", n)
		set(f)
		results, err := cl.Do(t.Context(), insert(key, "value"))
		status := results[0].Status
		fates[status]++
		if unknown := errors.Is(err, client.ErrUnknown); unknown != (status == wire.Unknown) || (err == nil) != (status == wire.Swapped) {
			t.Errorf("%+v: the insert is %v, with the error %v", f, status, err)
		}
		value, found, err := cl.Get(t.Context(), key)
		if err != nil || found && string(value) != "value" || status == wire.Swapped && !found || status == wire.NotRun && found {
			t.Errorf("%+v: the insert was %v, and then get says %q, %v, %v", f, status, value, found, err)
		}
		cl.Close()

		set(f)
		cl = client.New(s.cfg)
		if _, again, err := cl.Get(t.Context(), key); err != nil || again != found {
			t.Errorf("%+v: a get that is cut says %v (%v), want %v: reads are repeated", f, again, err, found)
		}
		cl.Close()
	}
	// Until the greeting is whole nothing has been sent, and it is safe to try again.
	// From there on a client cannot tell a request that was lost from an answer.
	if fates[wire.Swapped] < greeting || fates[wire.Unknown] < len(request)-1 || len(fates) != 2 {
		t.Errorf("the cut inserts were %v, want those swapped whose greeting was cut, and the rest unknown", fates)
	}
}

// cuts is every cut of so many bytes of requests and of answers.
func cuts(requests, answers int) (all []faults.Fault) {
	for after := range requests {
		all = append(all, faults.Fault{Kind: faults.Cut, Way: faults.Requests, After: after})
	}
	for after := range answers {
		all = append(all, faults.Fault{Kind: faults.Cut, Way: faults.Answers, After: after})
	}
	return all
}

// An answer that disappears leaves a write unknown when its context ends, and not
// before; the write itself may have been applied, and is not applied later.
func testHole(t *testing.T, serve node.Serve) {
	s, set := startProxied(t, serve)
	set(faults.Fault{Kind: faults.Hole, Way: faults.Answers, After: 64})
	cl := client.New(s.cfg)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	results, err := cl.Do(ctx, put("k", "v"))
	if results[0].Status != wire.Unknown || !errors.Is(err, client.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a put whose answer disappears is %v, with the error %v, want unknown and the deadline", results[0].Status, err)
	}
	if value, found, err := cl.Get(t.Context(), "k"); !found || string(value) != "v" || err != nil {
		t.Errorf("the put was applied, and get says %q, %v, %v", value, found, err)
	}
	if n := cl.Counts().Unknown; n != 1 {
		t.Errorf("%d unknown outcomes counted, want 1", n)
	}
}
