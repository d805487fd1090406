package table

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// Short forms, so that a batch fits on a line.
func get(key string) wire.Op { return wire.Op{Kind: wire.Get, Key: key} }
func put(key, value string) wire.Op {
	return wire.Op{Kind: wire.Put, Key: key, Value: []byte(value)}
}
func del(key string) wire.Op { return wire.Op{Kind: wire.Delete, Key: key} }
func cas(key, old, value string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Old: []byte(old), Value: []byte(value)}
}
func add(key, value string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Absent: true, Value: []byte(value)}
}

// brief writes results as "created found=1 aborted".
func brief(results []wire.Result) string {
	var words []string
	for _, r := range results {
		word := r.Status.String()
		if r.Value != nil {
			word += "=" + string(r.Value)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// state is what is stored, as text.
func state(tables ...*Table) map[string]string {
	all := make(map[string]string)
	for _, t := range tables {
		for key, e := range t.entries {
			all[key] = string(e.value)
		}
	}
	return all
}

// What the random batches below do not contain.
func TestApply(t *testing.T) {
	table := New(cluster.Work{}, nil)
	op := wire.Op{Kind: wire.CompareAndSwap, Key: "a", Old: []byte("ignored"), Absent: true, Value: []byte("1")}
	for want, ops := range map[string][]wire.Op{"": nil, "swapped": {op}} {
		if got := brief(table.Apply(ops)); got != want {
			t.Errorf("%v answer %q, want %q", ops, got, want)
		}
	}
}

// An empty value is a value, and never nil. Gob delivers an empty slice as nil.
func TestEmptyValue(t *testing.T) {
	for name, op := range map[string]wire.Op{
		"put": {Kind: wire.Put, Key: "a"},
		"cas": {Kind: wire.CompareAndSwap, Key: "a", Absent: true},
	} {
		table := New(cluster.Work{}, nil)
		table.Apply([]wire.Op{op})
		got := table.Apply([]wire.Op{get("a"), {Kind: wire.CompareAndSwap, Key: "a", Value: []byte("1")}})
		want := []wire.Result{{Status: wire.Found, Value: []byte{}}, {Status: wire.Swapped}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, want %#v", name, got, want)
		}
	}
}

// A value that was answered never changes, whatever happens to its key, and the caller may
// reuse the slice of operations.
func TestNothingChangesInPlace(t *testing.T) {
	table := New(cluster.Work{}, nil)
	ops := []wire.Op{put("a", "first")}
	table.Apply(ops)
	first := table.Apply([]wire.Op{get("a")})[0].Value

	ops[0] = put("b", "other")
	for _, op := range []wire.Op{put("a", "later"), cas("a", "later", "after"), del("a"), put("a", "again")} {
		ops[0] = op
		table.Apply(ops)
		if string(first) != "first" {
			t.Fatalf("after %v the value answered before is %q, want %q", op.Kind, first, "first")
		}
	}
	ops[0] = wire.Op{}
	if got, want := brief(table.Apply([]wire.Op{get("a"), get("b")})), "found=again missing"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Keys are parts of one string that holds a whole request. None keeps it in memory, neither
// the first time nor when its value is replaced.
func TestKeysAreCopied(t *testing.T) {
	table := New(cluster.Work{}, nil)
	for range 2 {
		request := string([]byte("ab"))
		table.Apply([]wire.Op{put(request[:1], "1"), put(request[1:], "1")})
		for key := range table.entries {
			if part := request[strings.Index(request, key):]; unsafe.StringData(key) == unsafe.StringData(part) {
				t.Errorf("the stored key %q is a part of the request", key)
			}
		}
	}
}

// An invalid kind is a bug of the caller. The panic leaves what was applied before it.
func TestInvalidKindPanics(t *testing.T) {
	for _, kind := range []wire.OpKind{0, wire.CompareAndSwap + 1} {
		table := New(cluster.Work{}, nil)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("kind %d did not panic", kind)
				}
			}()
			table.Apply([]wire.Op{put("a", "1"), {Kind: kind, Key: "a"}, put("b", "2")})
		}()
		if got, want := state(table), map[string]string{"a": "1"}; !maps.Equal(got, want) {
			t.Errorf("after a panic %v is stored, want %v", got, want)
		}
	}
}

// A model is another implementation: a list of pairs that is copied before each request and
// restored if the request fails.
type model []struct{ key, value string }

func (m model) find(key string) int {
	for i, pair := range m {
		if pair.key == key {
			return i
		}
	}
	return -1
}

func (m *model) set(key, value string) {
	if i := m.find(key); i >= 0 {
		(*m)[i].value = value
		return
	}
	*m = append(*m, struct{ key, value string }{key, value})
}

func (m *model) apply(ops []wire.Op) (answers []string) {
	before := append(model(nil), *m...)
	var mismatches []int
	for i, op := range ops {
		at := m.find(op.Key)
		switch op.Kind {
		case wire.Get:
			if at < 0 {
				answers = append(answers, "missing")
			} else {
				answers = append(answers, "found="+(*m)[at].value)
			}
		case wire.Put:
			answers = append(answers, map[bool]string{true: "created", false: "replaced"}[at < 0])
			m.set(op.Key, string(op.Value))
		case wire.Delete:
			answers = append(answers, map[bool]string{true: "missing", false: "deleted"}[at < 0])
			if at >= 0 {
				*m = append((*m)[:at:at], (*m)[at+1:]...)
			}
		case wire.CompareAndSwap:
			answers = append(answers, "swapped")
			m.set(op.Key, string(op.Value))
			was := before.find(op.Key)
			if op.Absent != (was < 0) || was >= 0 && before[was].value != string(op.Old) {
				mismatches = append(mismatches, i)
			}
		}
	}
	if mismatches == nil {
		return answers
	}
	*m = before
	for i := range answers {
		answers[i] = "aborted"
	}
	for _, i := range mismatches {
		answers[i] = "mismatch"
	}
	return answers
}

// Random batches over few keys and few values, so that everything happens, compared with
// the model: over one table, and over three.
func TestAgainstModel(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		keys := []string{"a", "b", "c", "d", "e"}[:1+r.IntN(5)]
		random := func(from []string) string { return from[r.IntN(len(from))] }
		values := []string{"", "1", "2"}
		var counted metrics.Stats // by all tables together
		newTable := func() *Table { return New(cluster.Work{}, &counted) }
		one, three := []*Table{newTable()}, []*Table{newTable(), newTable(), newTable()}
		var m model
		for range 100 {
			ops := make([]wire.Op, 1+r.IntN(6))
			for i := range ops {
				switch key := random(keys); r.IntN(6) {
				case 0, 1:
					ops[i] = get(key)
				case 2:
					ops[i] = put(key, random(values))
				case 3:
					ops[i] = del(key)
				case 4:
					ops[i] = add(key, random(values))
				case 5:
					ops[i] = cas(key, random(values), random(values))
					if at := m.find(key); at >= 0 && r.IntN(3) > 0 { // otherwise most would fail
						ops[i].Old = []byte(m[at].value)
					}
				}
			}
			want := m.apply(ops)
			stored := make(map[string]string)
			for _, pair := range m {
				stored[pair.key] = pair.value
			}
			for _, tables := range [][]*Table{one, three} {
				got := brief(Apply(ops, func(i int) *Table { return tables[int(ops[i].Key[0])%len(tables)] }))
				if want := strings.Join(want, " "); got != want {
					t.Fatalf("seed %d, %d tables: %v answer %q, want %q", seed, len(tables), ops, got, want)
				}
				if got := state(tables...); !maps.Equal(got, stored) {
					t.Fatalf("seed %d: after %v %d tables hold %v, want %v", seed, ops, len(tables), got, stored)
				}
			}
			if got, want := counted.Keys.Load(), 2*int64(len(stored)); got != want {
				t.Fatalf("seed %d: after %v %d keys are counted, want %d, twice those of the model", seed, ops, got, want)
			}
			for _, answer := range want {
				seen[answer]++
			}
		}
	}
	for _, answer := range []string{"found=", "found=1", "missing", "created", "replaced", "deleted", "swapped", "mismatch", "aborted"} {
		if seen[answer] < 1000 {
			t.Errorf("only %d operations answered %q: the batches are not random enough", seen[answer], answer)
		}
	}
}

// Any number of Gets may run at the same time, which the race detector confirms.
func TestGetsTogether(t *testing.T) {
	tab := New(cluster.Work{}, nil)
	tab.Apply([]wire.Op{{Kind: wire.Put, Key: "k", Value: []byte("v")}})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 100 {
				if r := tab.Get("k"); r.Status != wire.Found || string(r.Value) != "v" {
					t.Errorf("get k: %v %q, want found v", r.Status, r.Value)
				}
				if r := tab.Get("none"); r.Status != wire.Missing {
					t.Errorf("get none: %v, want missing", r.Status)
				}
			}
		})
	}
	readers.Wait()
}
