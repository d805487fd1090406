package workload

import (
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

func TestCheck(t *testing.T) {
	good := appendValue(nil, "key-0", newStamp(9, 9), cluster.Bytes(30))
	get, put, del, cas := cluster.Mix{Get: 100}, cluster.Mix{Put: 100}, cluster.Mix{Delete: 100}, cluster.Mix{CAS: 100}
	for _, test := range []struct {
		mix    cluster.Mix
		batch  int
		answer wire.Result // to each operation
		want   string      // what the operation is counted as
	}{
		{get, 1, wire.Result{Status: wire.Found, Value: good}, "ok"},
		{get, 1, wire.Result{Status: wire.Found, Value: good[:29]}, "wrong"},
		{get, 1, wire.Result{Status: wire.Found}, "wrong"},
		{get, 1, wire.Result{Status: wire.Missing}, "miss"},
		{get, 1, wire.Result{Status: wire.Unknown}, ""},
		{get, 1, wire.Result{Status: wire.NotRun}, ""},
		{get, 1, wire.Result{}, "wrong"},
		{get, 1, wire.Result{Status: wire.TooLarge}, "wrong"},
		{get, 2, wire.Result{Status: wire.Aborted}, "wrong"},
		{get, 1, wire.Result{Status: wire.Created}, "wrong"},
		{put, 1, wire.Result{Status: wire.Created}, "ok"},
		{put, 1, wire.Result{Status: wire.Replaced}, "ok"},
		{put, 1, wire.Result{Status: wire.Missing}, "wrong"},
		{del, 1, wire.Result{Status: wire.Deleted}, "ok"},
		{del, 1, wire.Result{Status: wire.Missing}, "miss"},
		{del, 1, wire.Result{Status: wire.Found, Value: good}, "wrong"},
		{cas, 1, wire.Result{Status: wire.Swapped}, "ok"},
		{cas, 1, wire.Result{Status: wire.Mismatch}, "mismatch"},
		{cas, 1, wire.Result{Status: wire.Aborted}, "wrong"},
		{cas, 2, wire.Result{Status: wire.Aborted}, "mismatch"},
		{cas, 1, wire.Result{Status: wire.Missing}, "wrong"},
	} {
		s := newTestWorkload(t, func(w *cluster.Workload) { w.Mix, w.Batch, w.Keys = test.mix, test.batch, 1 }).Source(0)
		s.Next(s.Batch)
		if r := s.Check(make([]wire.Result, test.batch+1)); r.Wrong != 1 || r.FirstWrong == "" {
			t.Errorf("an answer too many: %d wrong, %q", r.Wrong, r.FirstWrong)
		}
		answers := make([]wire.Result, test.batch)
		for i := range answers {
			answers[i] = test.answer
		}
		r := s.Check(answers)
		n := int64(test.batch)
		want := map[string][4]int64{"": {}, "ok": {n, 0, 0, 0}, "miss": {n, n, 0, 0}, "mismatch": {n, 0, n, 0}, "wrong": {0, 0, 0, n}}
		if got := [4]int64{r.OK, r.Misses, r.Mismatches, r.Wrong}; got != want[test.want] {
			t.Errorf("%v, batch %d, answered %v: ok, misses, mismatches, wrong = %v, want %q",
				test.mix, test.batch, test.answer.Status, got, test.want)
		}
		if (r.Wrong > 0) != (r.FirstWrong != "") {
			t.Errorf("%v answered %v: %d wrong, and the error is %v", test.mix, test.answer.Status, r.Wrong, r.FirstWrong)
		}
	}
}
