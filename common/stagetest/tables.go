package stagetest

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/lincheck"
	"lockstep/common/node"
	"lockstep/common/wire"
)

func get(key string) wire.Op        { return wire.Op{Kind: wire.Get, Key: key} }
func put(key, value string) wire.Op { return wire.Op{Kind: wire.Put, Key: key, Value: []byte(value)} }
func del(key string) wire.Op        { return wire.Op{Kind: wire.Delete, Key: key} }
func cas(key, old, value string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Old: []byte(old), Value: []byte(value)}
}
func insert(key, value string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Absent: true, Value: []byte(value)}
}

// do executes ops and returns the words of the results. An error ends the test, or this client
// of a crowd.
func do(t *testing.T, cl *client.Client, ops ...wire.Op) string {
	t.Helper()
	return words(execute(t, cl, ops...))
}

// execute is like do, but returns the results as they are.
func execute(t *testing.T, cl *client.Client, ops ...wire.Op) []wire.Result {
	t.Helper()
	results, err := cl.Do(t.Context(), ops...)
	if err != nil {
		watching.skipStuck(t)
		t.Fatalf("%s: %v", spoken(ops), err)
	}
	return results
}

// spoken formats operations like `put color "blue", get color`, the first few of many.
func spoken(ops []wire.Op) string {
	var list []string
	for _, op := range ops[:min(len(ops), 6)] {
		list = append(list, op.Text(20))
	}
	if len(list) < len(ops) {
		list = append(list, fmt.Sprintf("and %d more", len(ops)-len(list)))
	}
	return strings.Join(list, ", ")
}

// words formats results like "found:blue missing".
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

// A script is operations on one table, with the words of their results.
type script []struct {
	ops  []wire.Op
	want string
}

// check executes the operations in requests of at most size.
func (s script) check(t *testing.T, cl *client.Client, size int) {
	t.Helper()
	for _, step := range s {
		var got []string
		for request := range slices.Chunk(step.ops, size) {
			got = append(got, do(t, cl, request...))
		}
		if got := strings.Join(got, " "); got != step.want {
			t.Fatalf("%s: answers %.80s, want %.80s", spoken(step.ops), got, step.want)
		}
	}
}

func testOperations(t *testing.T, serve node.Serve) {
	large := strings.Repeat("v", wire.MaxValue)
	script{
		{[]wire.Op{get("k"), del("k")}, "missing missing"},
		{[]wire.Op{put("k", "1"), get("k"), put("k", "2"), get("k")}, "created found:1 replaced found:2"},
		{[]wire.Op{cas("k", "1", "3"), get("k"), cas("k", "2", "3"), get("k")}, "mismatch found:2 swapped found:3"},
		{[]wire.Op{insert("k", "4"), get("k"), del("k"), get("k")}, "mismatch found:3 deleted missing"},
		{[]wire.Op{cas("k", "3", "5"), insert("k", "6"), get("k")}, "mismatch swapped found:6"},
		{[]wire.Op{put("empty", ""), get("empty"), cas("empty", "", "full"), get("empty")}, "created found: swapped found:full"},
		{[]wire.Op{put("large", large), get("large")}, "created found:" + large},
		{[]wire.Op{put(strings.Repeat("k", wire.MaxKey), "v"), get(strings.Repeat("k", wire.MaxKey))}, "created found:v"},
		{[]wire.Op{put("\x00\xff", "bytes"), get("\x00\xff")}, "created found:bytes"},
	}.check(t, start(t, serve, nil).client(), 1)
}

func testBatches(t *testing.T, serve node.Serve) {
	most := make([]wire.Op, wire.MaxOps)
	for i := range most {
		most[i] = put(fmt.Sprint(i%700), fmt.Sprint(i))
	}
	script{
		{[]wire.Op{put("a", "1"), put("b", "2"), get("a"), put("a", "3"), get("a")}, "created created found:1 replaced found:3"},
		{[]wire.Op{get("a"), del("a"), get("a"), del("a"), put("a", "4")}, "found:3 deleted missing missing created"},
		{[]wire.Op{put("a", "lost"), cas("b", "wrong", "x"), get("a")}, "aborted mismatch aborted"},
		{[]wire.Op{get("a"), get("b")}, "found:4 found:2"},
		{[]wire.Op{cas("a", "4", "5"), cas("b", "wrong", "x")}, "aborted mismatch"},
		{[]wire.Op{cas("a", "wrong", "5"), cas("b", "wrong", "x")}, "mismatch mismatch"},
		{[]wire.Op{cas("a", "4", "5"), cas("b", "2", "6"), get("a"), get("b")}, "swapped swapped found:5 found:6"},
		// Comparisons come before anything runs, so a put of the same batch has no influence.
		{[]wire.Op{put("a", "7"), cas("a", "7", "8")}, "aborted mismatch"},
		{[]wire.Op{put("a", "7"), cas("a", "5", "8"), get("a")}, "replaced swapped found:8"},
		{[]wire.Op{insert("c", "1"), insert("c", "2"), get("c")}, "swapped swapped found:2"},
		{most, strings.Repeat("created ", 700) + strings.Repeat("replaced ", wire.MaxOps-701) + "replaced"},
	}.check(t, start(t, serve, nil).client(), wire.MaxOps)
}

// busyTable configures work, so that a store without its lock loses updates.
func busyTable(c *cluster.Config) { c.Server.Work = cluster.Work{Time: 20 * time.Microsecond} }

// Writers store the same value under all keys of a batch. Readers never see two values.
func testBatchesAreAtomic(t *testing.T, serve node.Serve) {
	s := start(t, serve, busyTable)
	keys := []string{"a", "b", "c", "d"}
	s.crowd(8, func(i int, cl *client.Client) {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		for n := range 25 {
			ops := make([]wire.Op, len(keys))
			for j, k := range rng.Perm(len(keys)) { // locks taken in the order of the request would deadlock
				ops[j] = put(keys[k], fmt.Sprint(i, n))
			}
			do(t, cl, ops...)
			for j, k := range rng.Perm(len(keys)) {
				ops[j] = get(keys[k])
			}
			results := execute(t, cl, ops[:3]...) // not always the bucket that is locked first
			for _, r := range results {
				if !bytes.Equal(r.Value, results[0].Value) && !t.Failed() { // one client says so
					t.Fatalf("%s sees half of a batch: %q and %q", spoken(ops[:3]), results[0].Value, r.Value)
				}
			}
		}
	})
}

func testCounters(t *testing.T, serve node.Serve) {
	const clients, counters = 8, 100
	s := start(t, serve, busyTable)
	s.crowd(clients, func(i int, cl *client.Client) {
		for c := range counters {
			s.change(cl, map[string]int{fmt.Sprint("counter", (c+i)%counters): 1})
		}
	})
	cl := s.client()
	for c := range counters {
		if got, want := do(t, cl, get(fmt.Sprint("counter", c))), fmt.Sprint("found:", clients); got != want {
			t.Fatalf("counter %d: %s after %d increments, want %s", c, got, clients, want)
		}
	}
}

// change adds to the numbers that are stored under some keys, in one batch, all or none. It
// repeats the batch of CompareAndSwaps until no other client comes in between.
func (s *stage) change(cl *client.Client, by map[string]int) {
	for range 1000 { // others come in between a few times at most
		var ops []wire.Op
		for key := range by {
			ops = append(ops, get(key))
		}
		for i, r := range execute(s.t, cl, ops...) {
			ops[i] = cas(ops[i].Key, string(r.Value), fmt.Sprint(number(string(r.Value))+by[ops[i].Key]))
			ops[i].Absent = r.Status == wire.Missing
		}
		if execute(s.t, cl, ops...)[0].Status == wire.Swapped {
			return
		}
	}
	s.t.Fatalf("%v: the value that was read was answered mismatch 1000 times in a row", by)
}

// Clients execute random operations, two clients a key. Their answers fit one order of all
// calls, in which a call comes after those that had ended before it began.
func testHistory(t *testing.T, serve node.Serve) {
	const clients, each = 8, 40
	s := start(t, serve, busyTable)
	var clock atomic.Int64
	histories := make([][]lincheck.Call, clients)
	s.crowd(clients, func(i int, cl *client.Client) {
		rng := rand.New(rand.NewPCG(3, uint64(i)))
		for n := range each {
			key, value := fmt.Sprint("key", i/2, rng.IntN(2)), fmt.Sprint(i, n)
			op := []wire.Op{get(key), put(key, value), del(key), insert(key, value)}[rng.IntN(4)]
			call := lincheck.Call{Client: i, Ops: []wire.Op{op}, Start: clock.Add(1)}
			call.Results = execute(t, cl, op)
			call.End = clock.Add(1)
			histories[i] = append(histories[i], call)
		}
	})
	if verdict, why := lincheck.Check(t.Context(), slices.Concat(histories...)); verdict != lincheck.Linearizable {
		t.Errorf("the answers are %v:\n%v", verdict, why)
	}
}

// number returns the number that is stored as value, or 0.
func number(value string) int {
	n, _ := strconv.Atoi(value)
	return n
}

func testMoney(t *testing.T, serve node.Serve) {
	const clients, accounts, transfers, each = 8, 6, 20, 100
	s := start(t, serve, busyTable)
	account := func(i int) string { return fmt.Sprint("account", i) }
	s.crowd(clients, func(i int, cl *client.Client) {
		s.change(cl, map[string]int{account(i % accounts): each})
		rng := rand.New(rand.NewPCG(2, uint64(i)))
		for range transfers {
			pair, amount := rng.Perm(accounts), 1+rng.IntN(20)
			s.change(cl, map[string]int{account(pair[0]): -amount, account(pair[1]): amount})
		}
	})
	cl := s.client()
	total := 0
	for i := range accounts {
		total += number(strings.TrimPrefix(do(t, cl, get(account(i))), "found:"))
	}
	if total != clients*each {
		t.Errorf("the accounts hold %d in total, want %d", total, clients*each)
	}
}

// A Store is the function of a stage that executes requests: its apply.
type Store func(ops []wire.Op) []wire.Result

func newNode() *node.Node { return node.New(cluster.Default(), 0, slog.New(slog.DiscardHandler)) }

// BenchmarkStore measures a stage's store alone, without the network: each core executes
// requests of some size, half Gets and half Puts of random keys that are there.
//
//	go test ./stage4_bucketlock -run '^$' -bench Store -cpu 1,2
func BenchmarkStore(b *testing.B, newStore func(*node.Node) Store) {
	ops := make([]wire.Op, 1<<14)
	for i := range ops {
		ops[i] = put(fmt.Sprintf("key-%06d", i), "a value of thirty bytes, or so.")
	}
	for _, size := range []int{1, 64} {
		store := newStore(newNode())
		store(ops)
		b.Run(fmt.Sprintf("ops=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				request := make([]wire.Op, size)
				for pb.Next() {
					for i := range request {
						request[i] = ops[rand.IntN(len(ops))]
						request[i].Kind = wire.Get + wire.OpKind(i%2)
					}
					store(request)
				}
			})
		})
	}
}
