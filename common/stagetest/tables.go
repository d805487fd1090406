package stagetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
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

// Values that together do not fit a frame are left out of the answer, not cut.
func testTooLarge(t *testing.T, serve node.Serve) {
	cl := start(t, serve, nil).client()
	defer cl.Close()
	value := strings.Repeat("v", wire.MaxValue)
	var gets []wire.Op
	for i := range 5 {
		key := fmt.Sprint("large", i)
		do(t, cl, put(key, value))
		gets = append(gets, get(key))
	}
	do(t, cl, put("small", "v"))
	if got, want := do(t, cl, append(gets, get("small"), get("none"))...),
		strings.Repeat("found:"+value+" ", 3)+"too large too large found:v missing"; got != want {
		t.Errorf("5 gets of %d bytes, and one of 1: %d bytes of answers, want %d", wire.MaxValue, len(got), len(want))
	}
}
