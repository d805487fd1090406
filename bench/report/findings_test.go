package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/text"
)

// An open loop that cannot keep up says so before anything else.
func TestSaturated(t *testing.T) {
	cfg := cluster.Default()
	cfg.Workload.Rate = 5000
	for name, test := range map[string]struct {
		unfinished int64
		dur        time.Duration
		want       string
	}{
		"all answered":         {0, time.Second, "Response time at p99, compared with a: b no difference shown."},
		"almost all":           {200, time.Second, "Response time at p99, compared with a: b "}, // 96 %
		"the last takes a bit": {0, 1040 * ms, "Response time at p99, compared with a: b "},
		"requests are long":    {0, 1200 * ms, "Response time at p99, compared with a: b 125 times"},
		"not all":              {1000, time.Second, "SATURATED: b keeps up with 80.0 % of the requests due.\nResponse time at p99, compared with a: b "},
		"all, in time to come": {0, 4 * time.Second, "SATURATED: b keeps up with 25.0 % of the requests due.\n"},
	} {
		rep := New(cfg, []string{"a", "b"}, true)
		for round := 1; round <= 6; round++ {
			r := testRound(5000 - test.unfinished)
			r.Unfinished, r.Dur = test.unfinished, test.dur
			if name == "requests are long" {
				r.ResponseTimes = closedLoop(1, r.Requests, 200*ms).ResponseTimes
			}
			rep.Add("a", round, testRound(5000))
			rep.Add("b", round, r)
		}
		if got := rep.String(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: the report begins with %.150q, want %q", name, got, test.want)
		}
	}
}

// A closed loop that does as much as before, but has a longer tail, is not "no difference".
func TestTailCompared(t *testing.T) {
	rep := New(cluster.Default(), []string{"a", "b"}, true)
	for round := 1; round <= 6; round++ {
		tail := testRound(980)
		for range 20 {
			tail.ResponseTimes.Record(55 * ms)
		}
		tail.Requests, tail.OK = 1000, 1000
		rep.Add("a", round, testRound(1000))
		rep.Add("b", round, tail)
	}
	wantAll(t, strings.Join(rep.Outline().Sentences, "\n"), "Operations a second, compared with a: b no difference shown.\n",
		"Response time at p99, compared with a: b 6.88 times [6.88..6.88].")
	if rep.AA = true; !rep.again().P99Ratio.Floor || !rep.Summary[1].Ratio.Floor {
		t.Error("the noise floor is not that of both figures")
	}
}

// again summarizes again, and returns the second stage.
func (rep *Report) again() *Summary {
	rep.Summary = nil
	rep.Summarize()
	return &rep.Summary[1]
}

// Where the throughput ceases to grow, and what lies beyond.
func TestBends(t *testing.T) {
	for _, test := range []struct {
		sweep string
		ops   []int64
		want  []string
	}{
		{"c=8,1,2,4", []int64{4000, 1000, 2000, 3800}, []string{ // by value, not in the order given
			"one bends at c=4: 3 800 operations a second, 2.11ms at p99.", "one peaks, with little more, at c=8: 4 000 operations a second, 2.00ms at p99."}},
		{"c=1,2,4,8", []int64{1000, 2000, 3000, 4000}, []string{"one still grows at c=8: 4 000 operations a second, 2.00ms at p99."}},
		{"c=1,2,4,8", []int64{1000, 4000, 3000, 2000}, []string{"one peaks at c=2: 4 000 operations a second, 2.00ms at p99."}},
		{"rate=1k,2k,4k", []int64{1000, 2000, 4000}, []string{"one keeps up even at rate=4 000: 4 000 operations a second, 2.00ms at p99."}},
		{"rate=1k,2k,4k", []int64{500, 500, 500}, []string{"one is SATURATED at rate=1 000: 500 operations a second, >16.0ms at p99."}},
		{"rate=1k,2k,4k", []int64{1000, 2000, -2000}, []string{"one keeps up even at rate=2 000: 2 000 operations a second, 4.00ms at p99."}},
		{"rate=1k", []int64{-1000}, []string{"one has no valid point."}},
		{"c=1,2", []int64{1000, -2000}, []string{"one at c=1: 1 000 operations a second, 8.00ms at p99."}}, // no peak: who knows what follows
	} {
		rep := testSweep(t, test.sweep, func(stage, point, _ int) int64 { return max(test.ops[point], -test.ops[point]) * int64(1-stage) })
		for i := range rep.Runs {
			if test.ops[i%len(test.ops)] < 0 {
				rep.Runs[i].Invalid = "the client was late"
			}
		}
		if got := rep.Outline().Sentences; strings.Join(got, "\n") != strings.Join(test.want, "\n") { // and nothing of the other stage, which an interrupted sweep did not reach
			t.Errorf("%s %v: %q, want %q", test.sweep, test.ops, got, test.want)
		}
	}
}

// Five to eight rows, whose shares are those of the requests, for a single stage only.
func TestHistogram(t *testing.T) {
	rep := New(cluster.Default(), []string{"a"}, true)
	r := closedLoop(1, 0, 0)
	for i := range 1000 { // 100 µs to 1.1 ms, and the last takes 80 ms
		r.ResponseTimes.Record(time.Duration(100+i) * us)
	}
	r.ResponseTimes.Record(80 * ms)
	r.Requests, r.OK = 1001, 1001
	rep.Add("a", 1, r)
	h := rep.Outline().Histogram[0]
	if n := len(h.Rows); n < 5 || n > 8 {
		t.Fatalf("%d rows: %q", n, h.Rows)
	}
	if first, last := h.Rows[0], h.Rows[len(h.Rows)-1]; last[0] != "up to 80.0ms" || last[1] != "0.1 %" || strings.Count(last[2], "#") != 1 || len(first[2]) != len(last[2]) {
		t.Errorf("the rows are %q", h.Rows)
	}
	wantAll(t, rep.String(), "\nresponse time  requests\nup to ")
	for _, rows := range h.Rows {
		if n := len(strings.Join(rows, "  ")); n > text.Columns {
			t.Errorf("%d columns: %q", n, rows)
		}
	}
	rep.Stages = append(rep.Stages, "b")
	rep.Add("b", 1, r)
	if details := rep.Outline().Histogram; details != nil {
		t.Errorf("of two stages: %q", details)
	}
}

// At most ten rows of whole seconds, where each request has a connection.
func TestOverTime(t *testing.T) {
	cfg := cluster.Default()
	rep := New(cfg, []string{"a"}, true)
	r := testRound(100)
	load.Record(&r.ConnectTimes, time.Millisecond)
	r.Dur, r.TimeWait = 10500*time.Millisecond, 26402
	r.Series = []int64{400, 400, 40, 40, 40, 40, 0, 80, 8} // none is answered in the last second and a half
	rep.Add("a", 1, r)
	tables := rep.Outline().Tables
	over := tables[len(tables)-1]
	var got []string
	for _, row := range over.Rows {
		got = append(got, strings.Join(row, ", "))
	}
	want := []string{"from 0 s, 400", "from 2 s, 40.0", "from 4 s, 40.0", "from 6 s, 40.0", "from 8 s, 4.00", "from 10 s, 0"}
	if !slices.Equal(got, want) || strings.Join(over.Foot, "") != "26 402 sockets in TIME_WAIT at the end" {
		t.Errorf("%q, foot %q, want %q", got, over.Foot, want)
	}
	rep = New(cfg, []string{"a"}, true)
	r.ConnectTimes = nil
	if rep.Add("a", 1, r); len(rep.Outline().Tables) != len(tables)-2 { // without the times to connect, too
		t.Error("connections are kept, and there is a table")
	}
}

// Other programs that keep more than a quarter of a core busy are warned of, where it is known
// what servers and client have used.
func TestOtherPrograms(t *testing.T) {
	for _, test := range []struct {
		machine, server time.Duration
		shared          bool
		want            string
	}{
		{2000 * ms, 700 * ms, true, "in 1 of 2 rounds; a, round 2: 0.500 cores."},
		{2000 * ms, 700 * ms, false, "in 1 of 2 rounds; a, round 2: 1.20 cores."}, // the servers are on another machine
		{1740 * ms, 700 * ms, true, ""},
		{2000 * ms, 0, true, ""}, // of foreign servers it may not be known
		{0, 700 * ms, true, ""},
	} {
		rep := New(cluster.Default(), []string{"a"}, test.shared)
		rep.Add("a", 1, testRound(100))
		r := testRound(100)
		r.MachineCPU, r.ServerCPU = test.machine, test.server
		rep.Add("a", 2, r)
		got := strings.Join(rep.Outline().Notes, "\n")
		if warned := strings.Contains(got, "other programs used more than a quarter of a core"); warned != (test.want != "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: the notes are %q", test, got)
		}
	}
}

// Bytes are those of keys and values, in text, JSON and for benchstat.
func TestBytes(t *testing.T) {
	rep := New(cluster.Default(), []string{"a"}, true)
	r := testRound(100)
	r.Bytes, r.Dur = 3<<20, 2*time.Second
	rep.Add("a", 1, r)
	data, err := rep.JSON()
	lines, _ := rep.Gobench()
	if err != nil || !strings.Contains(string(data), `"bytes_per_s":1572864`) || !strings.Contains(string(lines), " 1572864.0 B/s") {
		t.Errorf("error %v, JSON %s, lines %s", err, data, lines)
	}
	wantAll(t, rep.String(), "throughput  ops/s  keys and values\na            50.0       1.50 MiB/s\n")
}

// At depth 1 parts are those of a request; a pipeline has none of them, for a turn's time is
// that of all its requests.
func TestPartsOnlyOfRequests(t *testing.T) {
	for client, want := range map[string]bool{"client.Client": true, load.Pipelined: false} {
		rep := New(cluster.Default(), []string{"a"}, true)
		r := testRound(100)
		r.Client, r.Nodes = client, []metrics.Snapshot{{Requests: 100, MemoryWait: metrics.Timing{Count: 1, Total: 100 * ms}, Turn: metrics.Timing{Count: 100, Total: 200 * ms}}}
		rep.Add("a", 1, r)
		if got := strings.Contains(rep.String(), "a request's time  memory   codec    rest\na                 1.00ms  1.00ms  78.0ms\n"); got != want {
			t.Errorf("%s: parts of a request's time: %v, want %v in\n%s", client, got, want, rep)
		}
	}
}
