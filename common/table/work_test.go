package table

import (
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/wire"
)

// Each operation that runs works once, and so does each CompareAndSwap that is only
// checked; but storing a new key does no work.
func TestWorkOfABatch(t *testing.T) {
	tests := []struct {
		ops  []wire.Op
		work int
	}{
		{[]wire.Op{get("a")}, 1},
		{[]wire.Op{get("none")}, 1},
		{[]wire.Op{put("b", "1")}, 0},
		{[]wire.Op{add("b", "1")}, 0},
		{[]wire.Op{put("a", "2"), del("a"), get("a"), del("a"), put("a", "3"), put("a", "4")}, 5},
		{[]wire.Op{cas("a", "1", "1")}, 1},
		{[]wire.Op{cas("a", "1", "1"), put("b", "1"), cas("a", "1", "1")}, 2},
		{[]wire.Op{put("b", "1"), cas("a", "0", "1"), cas("a", "1", "1"), get("a")}, 2}, // aborted: the others never ran
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			table := New(cluster.Work{Time: 3 * time.Millisecond}, nil)
			table.Apply([]wire.Op{put("a", "1")}) // new: no work
			start := time.Now()
			table.Apply(test.ops)
			if got, want := time.Since(start), time.Duration(test.work)*3*time.Millisecond; got != want {
				t.Errorf("%v took %v, want %v", test.ops, got, want)
			}
		})
	}
}

// An operation does not notice an update that comes in during its work, past a missing
// lock. That is how a lost update becomes visible.
func TestWorkLiesBetweenLookUpAndEffect(t *testing.T) {
	const absent = "absent"
	tests := []struct {
		before, during string // the value of a
		op             wire.Op
		want, after    string
	}{
		{"1", "2", get("a"), "found=1", "2"},
		{absent, "2", get("a"), "missing", "2"},
		{"1", "2", put("a", "3"), "replaced", "3"},
		{"1", absent, put("a", "3"), "replaced", absent},
		{"1", absent, del("a"), "deleted", absent},
		{absent, "2", del("a"), "missing", "2"},
		{"1", "2", cas("a", "1", "3"), "swapped", "3"},
		{"1", "2", cas("a", "2", "3"), "mismatch", "2"},
		{"1", absent, add("a", "3"), "mismatch", absent},
	}
	for _, test := range tests {
		table := New(cluster.Work{}, nil)
		set := func(value string) {
			if value == absent {
				delete(table.entries, "a")
			} else {
				op := put("a", value)
				table.store(table.entries["a"], &op)
			}
		}
		set(test.before)
		table.work = func() { set(test.during) }
		if got := brief(table.Apply([]wire.Op{test.op})); got != test.want {
			t.Errorf("%v, %s and then %s: answers %q, want %q", test.op.Kind, test.before, test.during, got, test.want)
		}
		got, found := state(table)["a"]
		if !found {
			got = absent
		}
		if got != test.after {
			t.Errorf("%v, %s and then %s: leaves %q, want %q", test.op.Kind, test.before, test.during, got, test.after)
		}
	}
}

// One in 64 calls of a table is timed, and with work every call. A batch counts for the
// table of its first operation.
func TestTimer(t *testing.T) {
	for work, samples := range map[cluster.Work]int64{{}: 3, {Time: 20 * time.Microsecond}: 3 * 64} {
		var ones, twos metrics.Stats
		one, two := New(work, &ones), New(work, &twos)
		for range 3 * 64 {
			Apply([]wire.Op{get("1"), get("2")}, func(i int) *Table { return []*Table{one, two}[i] })
		}
		if got := ones.Table.Load(); got.Count != samples || got.Total < time.Duration(samples)*2*work.Time {
			t.Errorf("work %v, first table: %+v, want %d samples of at least %v each", work, got, samples, 2*work.Time)
		}
		if got := twos.Table.Load(); got.Count != 0 {
			t.Errorf("work %v, second table: %+v, want none", work, got)
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

func TestWorkTakesItsTime(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 50 * time.Microsecond, time.Millisecond, 2300 * time.Microsecond} {
		for _, spin := range []bool{false, true} {
			work := cluster.Work{Spin: spin, Time: d}
			start := metrics.Now()
			working(work)()
			if took := metrics.Now() - start; took < d {
				t.Errorf("%+v took %v", work, took)
			}
		}
	}
}
