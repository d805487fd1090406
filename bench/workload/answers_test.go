package workload

import (
	"slices"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

func TestCheck(t *testing.T) {
	good := appendValue(nil, "key-0", newStamp(9, 9), cluster.Bytes(30))
	get, put, del, cas := cluster.Mix{Get: 100}, cluster.Mix{Put: 100}, cluster.Mix{Delete: 100}, cluster.Mix{CAS: 100}
	type statuses []wire.Status
	for _, test := range []struct {
		mix     cluster.Mix
		batch   int
		want    string   // what an operation is counted as
		answers statuses // each of which is given to all operations
		value   []byte
	}{
		{get, 1, "ok", statuses{wire.Found}, good},
		{get, 1, "wrong", statuses{wire.Found}, good[:29]},
		{get, 1, "wrong", statuses{wire.Found, 0, wire.TooLarge, wire.Created}, nil},
		{get, 1, "miss", statuses{wire.Missing}, nil},
		{get, 1, "", statuses{wire.Unknown, wire.NotRun}, nil},
		{get, 2, "wrong", statuses{wire.Aborted}, nil},
		{put, 1, "ok", statuses{wire.Created, wire.Replaced}, nil},
		{put, 1, "wrong", statuses{wire.Missing}, nil},
		{del, 1, "ok", statuses{wire.Deleted}, nil},
		{del, 1, "miss", statuses{wire.Missing}, nil},
		{del, 1, "wrong", statuses{wire.Found}, good},
		{cas, 1, "ok", statuses{wire.Swapped}, nil},
		{cas, 1, "mismatch", statuses{wire.Mismatch}, nil},
		{cas, 1, "wrong", statuses{wire.Aborted, wire.Missing}, nil},
		{cas, 2, "mismatch", statuses{wire.Aborted}, nil},
	} {
		s := newTestWorkload(t, func(w *cluster.Workload) { w.Mix, w.Batch, w.Keys = test.mix, test.batch, 1 }).Source(0)
		sent := int64(0)
		for _, op := range s.Next(s.Batch) {
			sent += int64(len(op.Key) + len(op.Value) + len(op.Old))
		}
		if r := s.Check(make([]wire.Result, test.batch+1)); r.Wrong != 1 || r.FirstWrong == "" {
			t.Errorf("an answer too many: %d wrong, %q", r.Wrong, r.FirstWrong)
		}
		n := int64(test.batch)
		want := map[string][4]int64{"": {}, "ok": {n, 0, 0, 0}, "miss": {n, n, 0, 0}, "mismatch": {n, 0, n, 0}, "wrong": {0, 0, 0, n}}[test.want]
		for _, status := range test.answers {
			r := s.Check(slices.Repeat([]wire.Result{{Status: status, Value: test.value}}, test.batch))
			if want := sent + n*int64(len(test.value)); r.Bytes != want && r.OK > 0 || r.OK == 0 && r.Bytes != 0 {
				t.Errorf("%v, batch %d, answered %v: %d bytes in %d operations, want %d", test.mix, test.batch, status, r.Bytes, r.OK, want)
			}
			if got := [4]int64{r.OK, r.Misses, r.Mismatches, r.Wrong}; got != want || (r.Wrong > 0) != (r.FirstWrong != "") {
				t.Errorf("%v, batch %d, answered %v: ok, misses, mismatches, wrong = %v (%s), want %q", test.mix, test.batch, status, got, r.FirstWrong, test.want)
			}
		}
	}
}
