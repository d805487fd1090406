package notes

import (
	"strings"
	"testing"
	"time"

	rounds "lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// round is a round of a second in which requests were answered that took this time.
func round(requests int64, took time.Duration) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 1, Requests: requests, Answers: workload.Answers{OK: requests}}, Dur: time.Second, Series: []int64{requests},
		ServerCPU: time.Duration(requests) * 30 * time.Microsecond, ClientCPU: time.Duration(requests) * 10 * time.Microsecond}
	for range requests {
		r.ResponseTimes.Record(took)
	}
	timing := metrics.Timing{Count: requests, Total: time.Duration(requests) * took / 2}
	r.Nodes = []metrics.Snapshot{{Requests: requests, Turn: timing, Table: timing}}
	return r
}

// swept is a sweep of two stages, the second of which does twice as much.
func swept(t *testing.T, text string, stages ...string) *report.Report {
	sweep, err := rounds.ParseSweep(text, cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	rep := report.New(cluster.Default(), stages, true)
	rep.Sweep, rep.Env.Cores = sweep, 2
	for _, point := range sweep.Points {
		rep.AddAt(point, stages[0], 1, round(500, 2*time.Millisecond))
		second := round(1000, time.Millisecond)
		second.Refusals, second.Errors = 250, metrics.Tally{client.ErrBusy.Error(): 250}
		rep.AddAt(point, stages[1], 1, second)
	}
	rep.Summarize()
	return rep
}

func TestFigures(t *testing.T) {
	sampled := report.New(cluster.Default(), []string{"stage2_coarselock", "stage3_threadpool"}, true)
	for _, stage := range sampled.Stages {
		r := round(100, time.Millisecond)
		for i, outcome := range []string{load.Answered, client.ErrBusy.Error(), "unfinished", "other"} {
			r.Samples = append(r.Samples, load.Sample{Done: time.Duration(i+1) * time.Millisecond, Outcome: outcome})
		}
		sampled.Add(stage, 1, r)
		sampled.Add(stage, 2, r) // not drawn
	}
	perRequest := report.New(cluster.Default(), []string{"stage2_coarselock"}, true)
	for i, requests := range []int64{2000, 350} {
		r := round(requests, time.Millisecond)
		r.TimeWait, r.FailedDials = int64(2000+350*i), metrics.Tally{"no port": 40}
		perRequest.Add("stage2_coarselock", i+1, r)
	}
	for name, test := range map[string]struct {
		rep  *report.Report
		want []string
	}{
		"dots": {sampled, []string{"<desc>stage2: 1 answered, 1 ms to 1 ms; stage2: 1 refused, 2 ms to 2 ms; stage2: 2 failed, or not answered, 3 ms to 4 ms; stage3: "}},
		"rate": {swept(t, "rate=500,1000", "stage2_coarselock", "stage3_threadpool"), []string{"<desc>stage2: 500 2", "; stage3: 500 1", " ms (20 %), 1 000 1", `"mark s1"`, `"mark open s2"`}},
		"gain": {swept(t, "work=0s,1ms", "stage3_threadpool", "stage4_bucketlock"), []string{"<desc>stage4: 0 2", ", 1 ms 2", ">no gain</text>", "times that of the first stage<"}},
		// The lock: 1 ms in the table. The cores: 2, and 40 µs for each of 1000 requests answered, which 1250 share.
		"ceilings": {swept(t, "c=1,2,8", "stage3_threadpool", "stage4_bucketlock"), []string{"<desc>stage3: 1 500, 2 500, 8 500; stage4: 1 1 000, 2 1 000, 8 1 000; 1 / S: 1 1 0", "; cores / CPU: 1 62 500, ", "; N / R: 1 500, 8 4 000<"}},
		"ports":    {perRequest, []string{"<desc>in a second: 1 2 000, 2 350; in a minute: 1 2 000, 2 2 350; in TIME_WAIT: 1 2 000, 2 2 350<", "failed dials: 80<"}},
	} {
		d := data{report: test.rep}
		d.summarize()
		svg, err := d.draw(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range test.want {
			if !strings.Contains(svg, want) {
				t.Errorf("%s: there is no %q in %s", name, want, svg[strings.Index(svg, "<title>"):])
			}
		}
		lacking := report.New(cluster.Default(), []string{"stage2_coarselock"}, true)
		for _, rep := range []*report.Report{new(report.Report), lacking, swept(t, "c=2,4", "stage2_coarselock", "stage3_threadpool")} {
			d := data{name: "other", report: rep}
			d.summarize()
			if svg, err := d.draw(name); err == nil || svg != "" || !strings.HasPrefix(err.Error(), "other: there is nothing to draw: the figure needs -") {
				t.Errorf("%s is drawn of another experiment, or the error is not of use: %v", name, err)
			}
		}
	}
}
