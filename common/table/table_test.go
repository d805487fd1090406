package table

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// Short forms, so that a batch fits on a line.
func get(key string) wire.Op        { return wire.Op{Kind: wire.Get, Key: key} }
func put(key, value string) wire.Op { return wire.Op{Kind: wire.Put, Key: key, Value: asSent(value)} }
func del(key string) wire.Op        { return wire.Op{Kind: wire.Delete, Key: key} }
func cas(key, old, value string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Old: asSent(old), Value: asSent(value)}
}
func add(key, value string) wire.Op {
	return wire.Op{Kind: wire.CompareAndSwap, Key: key, Absent: true, Old: []byte("ignored"), Value: asSent(value)}
}

// asSent is a value as gob delivers it: an empty one is nil.
func asSent(value string) []byte { return append([]byte(nil), value...) }

// brief writes results as "created found=1 aborted". A value that is found is not nil, though
// it may be empty.
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

// A value that was answered never changes, whatever happens to its key.
func TestNothingChangesInPlace(t *testing.T) {
	table := New(cluster.Work{}, nil)
	first := table.Apply([]wire.Op{put("a", "first"), get("a")})[1].Value
	for _, op := range []wire.Op{put("a", "later"), cas("a", "later", "after"), del("a"), put("a", "again")} {
		if table.Apply([]wire.Op{op}); string(first) != "first" {
			t.Fatalf("after %v the value answered before is %q, want %q", op.Kind, first, "first")
		}
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
	table := New(cluster.Work{}, nil)
	defer func() {
		if stored := state(table); recover() == nil || !maps.Equal(stored, map[string]string{"a": "1"}) {
			t.Errorf("%v is stored, want a panic, and what came before it", stored)
		}
	}()
	table.Apply([]wire.Op{put("a", "1"), {Kind: wire.CompareAndSwap + 1, Key: "a"}, put("b", "2")})
}

// A model is another implementation: a map that is replaced by its changed copy, unless the
// request fails.
type model map[string]string

func (m *model) apply(ops []wire.Op) (answers []string) {
	after := maps.Clone(*m)
	for _, op := range ops {
		value, found := after[op.Key]
		either := func(yes, no string) { answers = append(answers, map[bool]string{true: yes, false: no}[found]) }
		switch op.Kind {
		case wire.Get:
			either("found="+value, "missing")
		case wire.Put:
			either("replaced", "created")
			after[op.Key] = string(op.Value)
		case wire.Delete:
			either("deleted", "missing")
			delete(after, op.Key)
		case wire.CompareAndSwap:
			value, found = (*m)[op.Key]
			found = found != op.Absent && (op.Absent || value == string(op.Old))
			either("swapped", "mismatch")
			after[op.Key] = string(op.Value)
		}
	}
	if !slices.Contains(answers, "mismatch") {
		*m = after
		return answers
	}
	for i, answer := range answers {
		if answer != "mismatch" {
			answers[i] = "aborted"
		}
	}
	return answers
}

// Random batches over few keys and few values, so that everything happens, compared with
// the model, over three tables. The slice of operations is used again. An empty batch does nothing.
func TestAgainstModel(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 0))
		keys := []string{"a", "b", "c", "d", "e"}[:1+r.IntN(5)]
		random := func(from []string) string { return from[r.IntN(len(from))] }
		values := []string{"", "1", "2"}
		var counted metrics.Stats // by all tables together
		newTable := func() *Table { return New(cluster.Work{}, &counted) }
		tables := []*Table{newTable(), newTable(), newTable()}
		m, batch := make(model), make([]wire.Op, 6)
		for range 100 {
			ops := batch[:r.IntN(7)]
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
					if value, found := m[key]; found && r.IntN(3) > 0 { // otherwise most would fail
						ops[i].Old = []byte(value)
					}
				}
			}
			want := m.apply(ops)
			got := brief(Apply(ops, func(i int) *Table { return tables[int(ops[i].Key[0])%len(tables)] }))
			if want := strings.Join(want, " "); got != want {
				t.Fatalf("seed %d: %v answer %q, want %q", seed, ops, got, want)
			}
			if got, n := state(tables...), counted.Keys.Load(); !maps.Equal(got, m) || n != int64(len(m)) {
				t.Fatalf("seed %d: after %v the tables hold %v, and count %d keys, want %v", seed, ops, got, n, m)
			}
			for _, answer := range want {
				seen[answer]++
			}
		}
	}
	for _, answer := range []string{"found=", "found=1", "missing", "created", "replaced", "deleted", "swapped", "mismatch", "aborted"} {
		if seen[answer] < 300 {
			t.Errorf("only %d operations answered %q: the batches are not random enough", seen[answer], answer)
		}
	}
}

// Any number of Gets may run at the same time, which the race detector confirms.
func TestGetsTogether(t *testing.T) {
	table := New(cluster.Work{}, nil)
	table.Apply([]wire.Op{put("k", "v")})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			if got, want := brief([]wire.Result{table.Get("k"), table.Get("none")}), "found=v missing"; got != want {
				t.Errorf("get a key and one that is not there: %q, want %q", got, want)
			}
		})
	}
	readers.Wait()
}

// Each operation that runs works once, and so does each CompareAndSwap that is only
// checked; but storing a new key does no work.
func TestWorkOfABatch(t *testing.T) {
	for _, test := range []struct {
		ops  []wire.Op
		work int
	}{
		{[]wire.Op{get("a")}, 1},
		{[]wire.Op{put("b", "1")}, 0},
		{[]wire.Op{add("b", "1")}, 0},
		{[]wire.Op{put("a", "2"), del("a"), get("a"), del("a"), put("a", "3"), put("a", "4")}, 5},
		{[]wire.Op{cas("a", "1", "1"), put("b", "1"), cas("a", "1", "1")}, 2},
		{[]wire.Op{put("b", "1"), cas("a", "0", "1"), cas("a", "1", "1"), get("a")}, 2}, // aborted: the others never ran
	} {
		table, done := New(cluster.Work{}, nil), 0
		table.Apply([]wire.Op{put("a", "1")})
		table.work = func() { done++ }
		if table.Apply(test.ops); done != test.work {
			t.Errorf("%v worked %d times, want %d", test.ops, done, test.work)
		}
	}
}

// An operation does not notice an update that comes in during its work, past a missing
// lock. That is how a lost update becomes visible.
func TestWorkLiesBetweenLookUpAndEffect(t *testing.T) {
	for _, test := range []struct {
		before, during, op wire.Op
		want, after        string // the answers to op and to a Get after it
	}{
		{put("a", "1"), put("a", "2"), get("a"), "found=1", "found=2"},
		{put("a", "1"), put("a", "2"), put("a", "3"), "replaced", "found=3"},
		{put("a", "1"), del("a"), put("a", "3"), "replaced", "missing"},
		{put("a", "1"), del("a"), del("a"), "deleted", "missing"},
		{del("a"), put("a", "2"), del("a"), "missing", "found=2"},
		{put("a", "1"), put("a", "2"), cas("a", "1", "3"), "swapped", "found=3"},
		{put("a", "1"), del("a"), add("a", "3"), "mismatch", "missing"},
	} {
		table := New(cluster.Work{}, nil)
		do := func(op wire.Op) string { return brief(table.Apply([]wire.Op{op})) }
		do(test.before)
		idle := table.work
		table.work = func() { table.work = idle; do(test.during) }
		if got, after := do(test.op), do(get("a")); got != test.want || after != test.after {
			t.Errorf("%v, and %v during its work: %q, and then %q, want %q, %q", test.op, test.during, got, after, test.want, test.after)
		}
	}
}

// One in 64 calls of a table is timed, and with work, which takes its time, every call.
func TestTimer(t *testing.T) {
	const d = 20 * time.Microsecond
	for work, samples := range map[cluster.Work]int64{{}: 3, {Time: d}: 3 * 64, {Time: d, Spin: true}: 3 * 64} {
		var stats metrics.Stats
		table := New(work, &stats)
		for range 3 * 64 {
			table.Apply([]wire.Op{get("1"), get("2")})
		}
		if got := stats.Table.Load(); got.Count != samples || got.Total < time.Duration(samples)*2*work.Time {
			t.Errorf("work %v: %+v, want %d samples of at least %v each", work, got, samples, 2*work.Time)
		}
	}

	// Of many tables that are called once, about one in 64 is timed.
	var many metrics.Stats
	for range 2000 {
		New(cluster.Work{}, &many).Apply([]wire.Op{get("a")})
	}
	if got := many.Table.Load().Count; got < 1 || got > 200 {
		t.Errorf("of 2000 tables that were called once, %d timed the call, want about 31", got)
	}
}
